//! What answering a request on a rank is expected to cost, in seconds.
//!
//! `cost = (queued + w * uncached) / R + a * in_flight`. A miss weighs more than queued work (`w > 1`) because
//! it costs everyone after it too: a second copy of a prefix evicts something else from a cache.

/// The weights of the cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostWeights {
    /// `w`: how much more than a queued token an uncached token of this request weighs.
    pub miss_weight: f64,
    /// `R`: tokens a rank prefills in a second.
    pub prefill_tokens_per_second: f64,
    /// `a`: seconds that each request in flight on a rank adds.
    pub in_flight_seconds: f64,
}

/// The parts of a cost, all in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Prefill that waits before this request.
    pub queue_seconds: f64,
    /// Prefill of what the rank does not hold, times the miss weight.
    pub miss_seconds: f64,
    /// What sharing steps with the requests in flight costs.
    pub in_flight_seconds: f64,
}

impl Cost {
    /// The sum that ranks are compared by.
    #[must_use]
    pub fn total_seconds(&self) -> f64 {
        self.queue_seconds + self.miss_seconds + self.in_flight_seconds
    }
}

impl CostWeights {
    /// Prices a request with `uncached_tokens` on a rank with the given load.
    #[must_use]
    pub fn cost(&self, queued_tokens: u64, uncached_tokens: u64, in_flight: u32) -> Cost {
        let rate = self.prefill_tokens_per_second;
        Cost {
            queue_seconds: seconds(queued_tokens, rate),
            miss_seconds: self.miss_weight * seconds(uncached_tokens, rate),
            in_flight_seconds: self.in_flight_seconds * f64::from(in_flight),
        }
    }
}

/// Token counts stay far below 2^53, where f64 is exact.
#[allow(clippy::cast_precision_loss)]
fn seconds(tokens: u64, tokens_per_second: f64) -> f64 {
    tokens as f64 / tokens_per_second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_the_formula_worked_out_by_hand() {
        let weights = CostWeights {
            miss_weight: 3.0,
            prefill_tokens_per_second: 10_000.0,
            in_flight_seconds: 0.01,
        };
        let cost = weights.cost(5_000, 2_000, 4);
        for (given, expected) in [
            (cost.queue_seconds, 0.5),
            (cost.miss_seconds, 0.6),
            (cost.in_flight_seconds, 0.04),
            (cost.total_seconds(), 1.14),
        ] {
            assert!(
                (given - expected).abs() < 1e-12,
                "{given} instead of {expected}"
            );
        }
    }

    #[test]
    fn every_part_of_the_load_makes_a_rank_dearer() {
        let weights = CostWeights {
            miss_weight: 3.0,
            prefill_tokens_per_second: 20_000.0,
            in_flight_seconds: 0.01,
        };
        let total =
            |queued, uncached, in_flight| weights.cost(queued, uncached, in_flight).total_seconds();
        assert_eq!(total(0, 0, 0), 0.0);
        for (queued, uncached, in_flight) in [(0, 0, 0), (9, 100, 1), (1 << 40, 1 << 30, 5000)] {
            let here = total(queued, uncached, in_flight);
            assert!(total(queued + 1, uncached, in_flight) >= here);
            assert!(total(queued, uncached + 1, in_flight) >= here);
            assert!(total(queued, uncached, in_flight + 1) > here);
        }
        assert!(total(u64::MAX, u64::MAX, u32::MAX).is_finite());
    }
}
