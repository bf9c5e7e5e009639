//! What is going to happen, and in which order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::stream::StreamId;
use crate::vm_record::{Plugin, VmId};

/// One nanosecond is the unit of virtual time.
pub(crate) const MS: u64 = 1_000_000;

/// Something that happens at a moment of virtual time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A client sends a request to this thread.
    Arrival { thread: usize },
    /// The next piece of a request's body.
    ClientStep(StreamId),
    /// The client goes away.
    ClientAbort(StreamId),
    /// Envoy has waited long enough for a stream.
    IdleTimeout(StreamId),
    /// A rank does something for this attempt.
    RankStep { stream: StreamId, attempt: u32 },
    /// A root's timer; an older epoch was replaced.
    Tick { vm: VmId, root: u32, epoch: u32 },
    /// A queue has something for the root that registered it last.
    QueueReady {
        thread: usize,
        root: u32,
        queue: u32,
    },
    /// An HTTP call of a root is answered.
    CallAnswer { vm: VmId, token: u32 },
    /// A new configuration reaches Envoy.
    Update(Plugin),
    /// A thread takes over the newest configuration of a filter.
    NewRoot { thread: usize, plugin: Plugin },
    /// An old root goes away once its streams are gone.
    Drain { vm: VmId, root: u32 },
    /// Another plugin writes under a key of ours.
    Junk,
    /// The wall clock is set.
    ClockJump,
    /// A worker gets no processor for a while.
    Stall,
    /// A rank changes its manners.
    RankMood,
}

impl Event {
    /// The thread that has to be running for it, if it is known from the event alone.
    pub(crate) fn thread(&self) -> Option<usize> {
        match self {
            Self::Arrival { thread }
            | Self::QueueReady { thread, .. }
            | Self::NewRoot { thread, .. } => Some(*thread),
            _ => None,
        }
    }
}

struct Due {
    at_ns: u64,
    lot: u64,
    number: u64,
    event: Event,
}

impl Due {
    fn key(&self) -> (u64, u64, u64) {
        (self.at_ns, self.lot, self.number)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// All events to come. Those of one moment come in an order by lot.
#[derive(Default)]
pub(crate) struct Agenda {
    due: BinaryHeap<Reverse<Due>>,
    numbers: u64,
}

impl Agenda {
    pub(crate) fn add(&mut self, at_ns: u64, lot: u64, event: Event) {
        self.numbers += 1;
        self.due.push(Reverse(Due {
            at_ns,
            lot,
            number: self.numbers,
            event,
        }));
    }

    /// The next event and its moment, unless it is after this one.
    pub(crate) fn next_until(&mut self, end_ns: u64) -> Option<(u64, Event)> {
        let Reverse(next) = self.due.peek()?;
        let is_due = next.at_ns <= end_ns;
        let due = is_due.then(|| self.due.pop()).flatten();
        due.map(|Reverse(due)| (due.at_ns, due.event))
    }

    /// Drops what matches.
    pub(crate) fn drop_all(&mut self, is_moot: impl Fn(&Event) -> bool) {
        self.due.retain(|Reverse(due)| !is_moot(&due.event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_lot_then_in_the_order_of_their_making() {
        let mut agenda = Agenda::default();
        agenda.add(2, 0, Event::Junk);
        agenda.add(1, 9, Event::Stall);
        agenda.add(1, 3, Event::ClockJump);
        agenda.add(1, 3, Event::RankMood);
        let order: Vec<(u64, Event)> = std::iter::from_fn(|| agenda.next_until(2)).collect();
        let expected = [
            (1, Event::ClockJump),
            (1, Event::RankMood),
            (1, Event::Stall),
            (2, Event::Junk),
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn an_event_after_the_end_stays() {
        let mut agenda = Agenda::default();
        agenda.add(5, 0, Event::Junk);
        assert_eq!(agenda.next_until(4), None);
        assert_eq!(agenda.next_until(5), Some((5, Event::Junk)));
    }
}
