//! A list of what is to happen, by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Times are never negative, so their bits have their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due<E> {
    time_bits: u64,
    event: E,
    order: u64,
}

/// What is to happen. Events of one time happen in their own order, equal ones in the order in which they were put there.
#[derive(Clone, Debug)]
pub struct Events<E> {
    due: BinaryHeap<Reverse<Due<E>>>,
    next_order: u64,
}

impl<E: Ord> Default for Events<E> {
    fn default() -> Self {
        Self {
            due: BinaryHeap::new(),
            next_order: 0,
        }
    }
}

impl<E: Ord> Events<E> {
    /// Something will happen at a time, which is 0 or later.
    pub fn at(&mut self, time_ms: f64, event: E) {
        self.next_order += 1;
        self.due.push(Reverse(Due {
            time_bits: time_ms.to_bits(),
            event,
            order: self.next_order,
        }));
    }

    /// Takes what happens next, with its time.
    pub fn take_next(&mut self) -> Option<(f64, E)> {
        let Reverse(due) = self.due.pop()?;
        Some((f64::from_bits(due.time_bits), due.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_happen_by_time_then_in_their_own_order() {
        let mut events = Events::default();
        for (time_ms, event) in [(2.0, 'a'), (1.0, 'z'), (0.0, 'm'), (1.0, 'b')] {
            events.at(time_ms, event);
        }
        let order: Vec<_> = std::iter::from_fn(|| events.take_next()).collect();
        assert_eq!(order, [(0.0, 'm'), (1.0, 'b'), (1.0, 'z'), (2.0, 'a')]);
    }
}
