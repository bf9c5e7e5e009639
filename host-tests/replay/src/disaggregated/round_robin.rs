//! One rank after the other, of each kind.

use super::policy::{Pair, PairPolicy, PairView};
use super::ratio::Ratio;
use crate::policy::Arrival;

/// Every prompt goes through a prefill rank.
pub struct RoundRobinPair {
    ratio: Ratio,
    next: usize,
}

impl RoundRobinPair {
    /// Begins with the first ranks.
    #[must_use]
    pub fn new(ratio: Ratio) -> Self {
        Self { ratio, next: 0 }
    }
}

impl PairPolicy for RoundRobinPair {
    fn pick(&mut self, _: &Arrival, _: &PairView<'_>) -> Pair {
        let turn = self.next;
        self.next = turn.wrapping_add(1);
        Pair {
            prefill: Some(turn % self.ratio.prefill),
            decode: turn % self.ratio.decode,
        }
    }
}
