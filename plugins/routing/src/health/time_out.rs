//! How long a rank stays out.

use crate::chain;

/// The first time out: longer than what a retry needs to go elsewhere, short enough that a mistake costs little.
const FIRST_MS: u64 = 1_000;
/// The longest time out before jitter. A pod of a large model needs minutes to start, and one probe each minute that
/// Envoy sends on elsewhere costs nothing.
const CEILING_MS: u64 = 50_000;
/// Jitter in percent to both sides, so that the ranks of a dead pod are not probed at the same moment.
const JITTER_PERCENT: u64 = 20;

/// No time out is longer: the ceiling with its full jitter.
pub(crate) const LONGEST_OUT_MS: u64 = 60_000;

/// The length of a rank's `times`-th time out (from 1): doubles from about a second to about a minute.
///
/// Deterministic: the jitter is a hash of the rank's `seed` and the count, so every worker computes the same length.
pub(crate) fn out_ms(seed: u32, times: u8) -> u64 {
    let doublings = u32::from(times.saturating_sub(1)).min(32);
    let plain_ms = FIRST_MS
        .saturating_mul(1_u64.wrapping_shl(doublings))
        .min(CEILING_MS);
    let spread = JITTER_PERCENT.saturating_mul(2).saturating_add(1);
    let draw = chain(u64::from(seed), u64::from(times))
        .checked_rem(spread)
        .unwrap_or(0);
    let percent = 100_u64.saturating_sub(JITTER_PERCENT).saturating_add(draw);
    let drawn_ms = plain_ms.saturating_mul(percent).checked_div(100);
    drawn_ms.unwrap_or(plain_ms).min(LONGEST_OUT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_doubles_to_its_ceiling_within_the_jitter() {
        for seed in 0..500 {
            for (times, plain_ms) in [
                (1, 1_000),
                (2, 2_000),
                (3, 4_000),
                (6, 32_000),
                (7, 50_000),
                (u8::MAX, 50_000),
            ] {
                let given = out_ms(seed, times);
                assert!(given >= plain_ms * 8 / 10 && given <= plain_ms * 12 / 10);
                assert!(given <= LONGEST_OUT_MS);
            }
        }
    }

    #[test]
    fn jitter_reaches_both_ends_and_spreads_ranks_and_counts() {
        let first: Vec<u64> = (0..2_000).map(|seed| out_ms(seed, 1)).collect();
        assert_eq!(first.iter().min(), Some(&800));
        assert_eq!(first.iter().max(), Some(&1_200));
        let longest = (0..2_000).map(|seed| out_ms(seed, 9)).max();
        assert_eq!(longest, Some(LONGEST_OUT_MS));
        assert_ne!(out_ms(1, 1) * 2, out_ms(1, 2));
    }
}
