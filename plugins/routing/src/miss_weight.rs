//! How much more than its own time a miss costs: everyone who comes after it pays, too.
//!
//! A token that is prefilled though another rank holds it costs three others:
//! - who waits behind it. Work that comes to a server which is busy for a share `p` of the time makes all later waits longer
//!   by `1/(1-p)` of it in sum: that is how much longer a busy period becomes (M/G/1 queue).
//! - whoever would have used what it drives out of the cache. In a cache that drops the least recently used, one block more
//!   is one hit less for each block that is used again just before it would have gone. How many of the uses are of that
//!   kind is counted: those of blocks in the older half of a full cache.
//! - the sequences that run: what they hold cannot be driven out, so the rest of the cache turns over faster.
//!
//! So a miss weighs little while ranks idle and caches have room, where a copy on a second rank costs nobody anything, and
//! much where both are short. Replays of public traces and of made ones of other shapes (`host-tests/README.md`) have flat
//! optima about the constants; a fixed weight is good on one kind or on the other.

/// How long the share of busy ranks is averaged: longer than a burst, shorter than a change of the load.
const BUSY_MS: u64 = 10_000;
/// Up to five of six ranks busy are told apart: beyond that the share is too coarse.
const MAX_WAITERS: f64 = 5.0;
/// What a use in the older half adds for each share of all uses. In theory 1/ln 2 where the ages of uses are spread evenly
/// over their logarithms; more, because what is driven out once is computed again more than once.
const OLD_USE_WEIGHT: f64 = 8.0;
/// What a cache full of running sequences adds.
const IN_USE_WEIGHT: f64 = 2.0;

/// What is known of a pool's want of time and room. Constant memory and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MissWeight {
    busy_share: f64,
    noted_ms: Option<u64>,
    old_use_share: f64,
}

impl MissWeight {
    /// Of `ranks`, `busy` have prompts to prefill now.
    pub fn note_busy(&mut self, busy: usize, ranks: usize, now_ms: u64) {
        let share = share(busy, ranks);
        let passed_ms = self
            .noted_ms
            .map_or(0, |noted_ms| now_ms.saturating_sub(noted_ms));
        let gain = part(passed_ms, BUSY_MS);
        self.busy_share += (share - self.busy_share) * gain;
        self.noted_ms = Some(now_ms);
    }

    /// Of the `blocks` of a prompt, `old` were in the older half of a full cache; all caches together hold `capacity`
    /// blocks, and so much use is remembered.
    pub fn note_uses(&mut self, old: u64, blocks: u64, capacity: u64) {
        if blocks > 0 {
            let gain = part(blocks, capacity);
            self.old_use_share +=
                (part(old, blocks.saturating_sub(old)) - self.old_use_share) * gain;
        }
    }

    /// How much an uncached token weighs on a rank of whose cache this share is in use; 1 is a token of work.
    #[must_use]
    pub fn on(&self, in_use: f64) -> f64 {
        let waiters = self.busy_share / (1.0 - self.busy_share).max(f64::EPSILON);
        1.0 + waiters.min(MAX_WAITERS)
            + OLD_USE_WEIGHT * self.old_use_share
            + IN_USE_WEIGHT * in_use
    }
}

/// The share of a cache that is in use, 1 where more is held than it has room for.
#[must_use]
pub fn in_use(held_tokens: u64, capacity_tokens: u64) -> f64 {
    part(held_tokens, capacity_tokens.saturating_sub(held_tokens))
}

/// One count as a part of itself and the rest; 0 of nothing. Counts stay far below 2^53, where f64 is exact.
#[allow(clippy::cast_precision_loss)]
fn part(count: u64, rest: u64) -> f64 {
    match count {
        0 => 0.0,
        _ => count as f64 / (count as f64 + rest as f64),
    }
}

fn share(busy: usize, ranks: usize) -> f64 {
    let count = |count| u64::try_from(count).unwrap_or(u64::MAX);
    part(count(busy), count(ranks.saturating_sub(busy)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(given: f64, expected: f64) {
        assert!(
            (given - expected).abs() < 1e-9,
            "{given} instead of {expected}"
        );
    }

    #[test]
    fn while_ranks_idle_and_caches_have_room_a_miss_is_its_own_work() {
        let weight = MissWeight::default();
        close(weight.on(0.0), 1.0);
        close(weight.on(0.0), 1.0);
    }

    #[test]
    fn a_miss_weighs_as_much_more_as_a_busy_period_becomes_longer() {
        let mut weight = MissWeight::default();
        weight.note_busy(3, 4, 1000);
        close(weight.on(0.0), 1.0);
        // 10 s later half of the difference has come: 3/8 of the ranks are busy, 3/8 / 5/8 more.
        weight.note_busy(3, 4, 11_000);
        close(weight.on(0.0), 1.6);
        (2..100_000).for_each(|second| weight.note_busy(3, 4, second * 10_000));
        close(weight.on(0.0), 4.0);
        (100_000..200_000).for_each(|second| weight.note_busy(4, 4, second * 10_000));
        close(weight.on(0.0), 6.0);
    }

    #[test]
    fn a_burst_moves_the_share_of_busy_ranks_little() {
        let mut weight = MissWeight::default();
        weight.note_busy(0, 4, 0);
        (0..100).for_each(|ms| weight.note_busy(4, 4, ms));
        assert!(weight.on(0.0) < 1.02, "{weight:?}");
    }

    #[test]
    fn uses_just_before_blocks_would_go_make_a_miss_dearer() {
        let mut weight = MissWeight::default();
        // 100 blocks of 1,000 that the caches hold: a tenth of the way to a quarter, or 100 of 1,100.
        weight.note_uses(25, 100, 1000);
        close(weight.on(0.0), 1.0 + 8.0 * 0.25 * 100.0 / 1100.0);
        (0..10_000).for_each(|_| weight.note_uses(25, 100, 1000));
        close(weight.on(0.0), 3.0);
        (0..10_000).for_each(|_| weight.note_uses(0, 100, 1000));
        close(weight.on(0.0), 1.0);
    }

    #[test]
    fn a_cache_full_of_running_sequences_makes_a_miss_dearer() {
        let weight = MissWeight::default();
        close(weight.on(0.5), 2.0);
        close(weight.on(1.0), 3.0);
    }

    #[test]
    fn no_more_than_the_whole_cache_is_in_use() {
        for (held, capacity, share) in [(0, 0, 0.0), (250, 1000, 0.25), (1000, 1000, 1.0)] {
            close(in_use(held, capacity), share);
        }
        close(in_use(u64::MAX, 1000), 1.0);
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing_and_odd_counts_make_no_odd_weights() {
        let mut weight = MissWeight::default();
        weight.note_busy(1, 2, 1000);
        let before = weight.on(0.0);
        weight.note_busy(2, 2, 10);
        close(weight.on(0.0), before);
        weight.note_busy(9, 2, u64::MAX);
        weight.note_uses(9, 2, 0);
        weight.note_uses(u64::MAX, u64::MAX, u64::MAX);
        weight.note_busy(0, 0, 0);
        assert!((1.0..20.0).contains(&weight.on(1.0)), "{weight:?}");
    }
}
