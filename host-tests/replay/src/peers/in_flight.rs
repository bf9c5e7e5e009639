//! Requests that a router has sent and whose end it has not seen.

use std::collections::HashMap;

/// How many requests are open on each rank, as one router knows from its own traffic.
///
/// The end of a request that is not open changes nothing, so an end that comes twice does not count twice.
pub(super) struct InFlight {
    counts: Vec<u64>,
    ranks_by_number: HashMap<usize, usize>,
}

impl InFlight {
    /// Nothing open on any of `ranks`.
    pub(super) fn new(ranks: usize) -> Self {
        Self {
            counts: vec![0; ranks],
            ranks_by_number: HashMap::new(),
        }
    }

    /// Counts a request from its pick on.
    pub(super) fn start(&mut self, number: usize, rank: usize) {
        self.end(number);
        if let Some(count) = self.counts.get_mut(rank) {
            *count += 1;
            self.ranks_by_number.insert(number, rank);
        }
    }

    /// Counts it no more.
    pub(super) fn end(&mut self, number: usize) {
        if let Some(rank) = self.ranks_by_number.remove(&number) {
            self.counts[rank] -= 1;
        }
    }

    /// Open requests by rank.
    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Open requests of all ranks.
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_from_its_start_to_its_first_end() {
        let mut open = InFlight::new(2);
        open.start(7, 1);
        open.start(8, 1);
        open.end(7);
        open.end(7);
        assert_eq!(open.counts(), [0, 1]);
        assert_eq!(open.total(), 1);
    }

    #[test]
    fn a_request_that_starts_again_moves() {
        let mut open = InFlight::new(2);
        open.start(7, 0);
        open.start(7, 1);
        assert_eq!(open.counts(), [0, 1]);
    }
}
