//! Picks that were made elsewhere.

use crate::policy::{Arrival, Policy, View};

/// Sends each request to the rank that it went to in Envoy: what differs then is not the decision.
pub struct Given {
    ranks: Vec<usize>,
}

impl Given {
    /// The rank of each request, by its number.
    #[must_use]
    pub fn boxed(ranks: Vec<usize>) -> Box<dyn Policy> {
        Box::new(Self { ranks })
    }
}

impl Policy for Given {
    fn pick(&mut self, arrival: &Arrival, _: &View<'_>) -> usize {
        self.ranks.get(arrival.number).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::engines::Engines;
    use crate::profile::dense;

    #[test]
    fn requests_go_where_they_went_whatever_their_order() {
        let mut given = Given::boxed(vec![2, 0, 1]);
        let truth = Engines::new(dense(), 3);
        let view = View {
            now_ms: 0.0,
            reports: &[],
            truth: &truth,
        };
        let mut pick = |number| {
            let arrival = Arrival {
                number,
                blocks: Rc::from([]),
                prompt_tokens: 1,
            };
            given.pick(&arrival, &view)
        };
        assert_eq!([pick(1), pick(0), pick(2)], [0, 2, 1]);
    }
}
