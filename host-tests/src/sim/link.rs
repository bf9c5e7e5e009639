//! The network that brings KV blocks to a decode rank: one transfer after the other, as fast as it can.
//!
//! What the prefill ranks send with is not a bound: they are taken to have links of their own that are idle.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::engine::{BLOCK_TOKENS, Transfer};

/// KV of a token of DeepSeek-V3, whose multi-head latent attention keeps 576 values of two bytes in each of 61 layers
/// ("Insights into DeepSeek-V3", arXiv 2505.09343, table 1: 70.272 KB).
const TOKEN_BYTES: f64 = 70_272.0;
/// One network card of 400 Gbit/s for each GPU; the same paper, section 4.3, takes 40 of its 50 GB/s for effective.
const BYTES_PER_SECOND: f64 = 40e9;
/// Blocks that come in a second: DeepSeek-V3 over a network card of 400 Gbit/s.
pub(super) const DEFAULT_BLOCKS_PER_SECOND: f64 =
    BYTES_PER_SECOND / (TOKEN_BYTES * BLOCK_TOKENS as f64);
/// Longer than any test: what a link takes that hardly moves, without overflow.
const LONGEST: Duration = Duration::from_secs(1 << 30);

/// Transfers that are under way or wait for those before them.
#[derive(Debug)]
pub(super) struct Link {
    blocks_per_second: f64,
    free_from: Option<Instant>,
    arrivals: VecDeque<(Instant, u64)>,
}

impl Link {
    pub(super) fn new(blocks_per_second: f64) -> Self {
        Self {
            blocks_per_second,
            free_from: None,
            arrivals: VecDeque::new(),
        }
    }

    /// Begins a transfer, or queues it behind those under way.
    pub(super) fn begin(&mut self, transfer: Transfer, now: Instant) {
        let start = self.free_from.map_or(now, |free| free.max(now));
        let arrival = start + duration(transfer.blocks, self.blocks_per_second);
        self.free_from = Some(arrival);
        self.arrivals.push_back((arrival, transfer.id));
    }

    /// A sequence whose blocks are here by now, each once.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<u64> {
        let (arrival, id) = *self.arrivals.front()?;
        (arrival <= now).then(|| {
            self.arrivals.pop_front();
            id
        })
    }

    /// When the next blocks are here.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.arrivals.front().map(|(arrival, _)| *arrival)
    }
}

fn duration(blocks: usize, blocks_per_second: f64) -> Duration {
    Duration::try_from_secs_f64(blocks as f64 / blocks_per_second)
        .map_or(LONGEST, |took| took.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn transfers_take_as_long_as_their_blocks_and_come_one_after_the_other() {
        let (mut link, now) = (Link::new(10.0), Instant::now());
        link.begin(Transfer { id: 1, blocks: 20 }, now);
        link.begin(Transfer { id: 2, blocks: 10 }, now + SECOND);
        assert_eq!(link.next_arrival(), Some(now + 2 * SECOND));
        assert_eq!(link.arrived(now + SECOND), None);
        assert_eq!(link.arrived(now + 2 * SECOND), Some(1));
        assert_eq!(link.arrived(now + 2 * SECOND), None);
        assert_eq!(link.arrived(now + 3 * SECOND), Some(2));
        link.begin(Transfer { id: 3, blocks: 10 }, now + 9 * SECOND);
        assert_eq!(link.next_arrival(), Some(now + 10 * SECOND), "an idle link");
    }

    #[test]
    fn a_long_prompt_comes_in_a_few_milliseconds_by_default() {
        let took = duration(512, DEFAULT_BLOCKS_PER_SECOND);
        assert!((took.as_secs_f64() - 0.0144).abs() < 1e-4, "{took:?}");
    }

    #[test]
    fn a_link_that_does_not_move_is_no_overflow() {
        for rate in [0.0, -1.0, f64::NAN, 1e-300] {
            assert_eq!(duration(1, rate), LONGEST);
        }
    }
}
