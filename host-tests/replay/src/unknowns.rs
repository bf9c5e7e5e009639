//! What routers are not told: how large caches really are, that one was emptied, what another router sends.

use fastrand::Rng;

/// What is hidden from the routers of a run; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unknowns {
    /// Ranks report no capacity, and routers believe in so many times the true one.
    pub believed_capacity: Option<f64>,
    /// How often a rank, any of them, loses all that its cache holds and no sequence uses, with no sign of it.
    pub cache_resets_per_hour: f64,
    /// The share of the requests that comes through one more router with a mind of its own.
    pub foreign_share: f64,
}

/// Caches that are emptied at random times.
#[derive(Clone, Debug)]
pub struct Resets {
    per_hour: f64,
    random: Rng,
}

const HOUR_MS: f64 = 3_600_000.0;

impl Resets {
    /// No cache is ever emptied.
    #[must_use]
    pub fn never() -> Self {
        Self::new(0.0, 0)
    }

    /// So many an hour over all ranks, independent of each other.
    #[must_use]
    pub fn new(per_hour: f64, seed: u64) -> Self {
        Self {
            per_hour,
            random: Rng::with_seed(seed),
        }
    }

    /// When the next comes after `now_ms`, and which of so many ranks it meets; `None` if none ever comes.
    pub fn next(&mut self, now_ms: f64, ranks: usize) -> Option<(f64, usize)> {
        let mean_ms = HOUR_MS / self.per_hour;
        let wait_ms = -(1.0 - self.random.f64()).ln() * mean_ms;
        let rank = self.random.usize(0..ranks);
        mean_ms.is_finite().then_some((now_ms + wait_ms, rank))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_resets_come_as_were_asked_for_over_all_ranks() {
        let mut resets = Resets::new(60.0, 1);
        let (mut now_ms, mut met) = (0.0, [0; 4]);
        for _ in 0..4000 {
            let (at_ms, rank) = resets.next(now_ms, 4).unwrap();
            assert!(at_ms >= now_ms);
            (now_ms, met[rank]) = (at_ms, met[rank] + 1);
        }
        let minutes = now_ms / 60_000.0;
        assert!((3700.0..4300.0).contains(&minutes), "{minutes}");
        assert!(
            met.iter().all(|count| (850..1150).contains(count)),
            "{met:?}"
        );
    }

    #[test]
    fn without_a_rate_none_comes() {
        assert_eq!(Resets::never().next(5.0, 3), None);
    }
}
