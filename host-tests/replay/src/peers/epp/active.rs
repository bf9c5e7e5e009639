//! The EPP's `active-request-scorer`.
//!
//! A rank without open requests scores 1, others `(most - open) / most * max_busy_score`. Counted from the pick to the end
//! of the whole request, no longer than two minutes.

use std::collections::VecDeque;

use super::super::in_flight::InFlight;

/// What v0.7 ran with: an unset parameter was read as zero, so that a rank is idle or busy and nothing between.
pub(in super::super) const MAX_BUSY_AS_SHIPPED: f64 = 0.0;
/// The documented default, which v0.9 runs with (llm-d-router#919).
pub(in super::super) const MAX_BUSY_FIXED: f64 = 1.0;
const MAX_AGE_MS: f64 = 120_000.0;

/// Open requests by rank, and their scores.
pub(super) struct ActiveRequests {
    in_flight: InFlight,
    /// Oldest first.
    starts: VecDeque<(f64, usize)>,
    max_busy_score: f64,
}

impl ActiveRequests {
    pub(super) fn new(ranks: usize, max_busy_score: f64) -> Self {
        Self {
            in_flight: InFlight::new(ranks),
            starts: VecDeque::new(),
            max_busy_score,
        }
    }

    pub(super) fn start(&mut self, number: usize, rank: usize, now_ms: f64) {
        self.in_flight.start(number, rank);
        self.starts.push_back((now_ms, number));
    }

    pub(super) fn end(&mut self, number: usize) {
        self.in_flight.end(number);
    }

    /// Forgets requests that started more than two minutes ago, whether or not they ended.
    pub(super) fn expire(&mut self, now_ms: f64) {
        while let Some(&(started_ms, number)) = self.starts.front()
            && now_ms - started_ms > MAX_AGE_MS
        {
            self.starts.pop_front();
            self.in_flight.end(number);
        }
    }

    pub(super) fn counts(&self) -> &[u64] {
        self.in_flight.counts()
    }

    /// The most open requests of a rank.
    pub(super) fn most(&self) -> u64 {
        self.counts().iter().max().copied().unwrap_or(0)
    }

    pub(super) fn scores(&self) -> Vec<f64> {
        self.scores_to(self.most())
    }

    /// Scores where the most open requests of a rank are these, of whatever rank.
    pub(super) fn scores_to(&self, most: u64) -> Vec<f64> {
        let most = most as f64;
        let busy = |count: u64| (most - count as f64) / most * self.max_busy_score;
        self.counts()
            .iter()
            .map(|&count| if count == 0 { 1.0 } else { busy(count) })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(max_busy_score: f64) -> ActiveRequests {
        let mut active = ActiveRequests::new(4, max_busy_score);
        let ranks = [1, 2, 2, 2, 3, 3, 3, 3];
        ranks
            .into_iter()
            .enumerate()
            .for_each(|(number, rank)| active.start(number, rank, number as f64));
        active
    }

    #[test]
    fn as_shipped_ranks_are_idle_or_busy() {
        assert_eq!(loads(MAX_BUSY_AS_SHIPPED).scores(), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn fixed_busy_ranks_are_told_apart() {
        // Most 4: (4-1)/4, (4-3)/4, 0.
        assert_eq!(loads(MAX_BUSY_FIXED).scores(), [1.0, 0.75, 0.25, 0.0]);
    }

    #[test]
    fn a_request_of_more_than_two_minutes_counts_no_more() {
        let mut active = loads(MAX_BUSY_FIXED);
        active.expire(120_000.0);
        assert_eq!(active.counts(), [0, 1, 3, 4]);
        active.expire(120_001.5);
        assert_eq!(active.counts(), [0, 0, 2, 4]);
        active.end(0);
        assert_eq!(active.counts(), [0, 0, 2, 4]);
    }
}
