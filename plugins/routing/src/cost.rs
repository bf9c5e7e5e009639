//! What answering a request on a rank is expected to cost, in seconds.
//!
//! `cost = (queued + w * uncached + h * k * held) / R + a * in_flight`. A miss weighs more than queued work (`w > 1`) as far as it
//! costs everyone after it, too ([`MissWeight`](crate::MissWeight)). What running sequences hold (`held`) slows each step
//! down, keeps others from being let in once the cache is full, and drives out what the cache holds beside them: all the more
//! the larger a share of the cache (`k`) that is.

/// What a token of a prompt that runs weighs in a full cache, against one to prefill. Replays have a flat optimum from 0.1 to
/// 0.2; without it four long prompts can meet on a rank whose cache has room for three.
const HELD_WEIGHT: f64 = 0.1;

/// What a rank has and would get, as the cost sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Tokens before this request that wait for their prefill.
    pub queued_tokens: u64,
    /// Tokens of this request that the rank does not hold.
    pub uncached_tokens: u64,
    /// How much an uncached token weighs.
    pub miss_weight: f64,
    /// Tokens of the prompts in flight.
    pub held_tokens: u64,
    /// The share of the cache that these take, 0 to 1.
    pub in_use: f64,
    /// Requests in flight.
    pub in_flight: u32,
}

/// Tokens of KV that a decode rank receives in a second. 70 KB a token (DeepSeek-V3: 61 layers of 576 values of 16 bits) over
/// a network card of 400 Gb/s are 700,000, 328 KB (Llama 3 70B: 80 layers, keys and values of 8 heads of 128) 150,000.
const TRANSFER_TOKENS_PER_SECOND: f64 = 200_000.0;

/// How much more a token weighs that a decode rank prefills by itself. Its kernels and the budget of its steps are made for a
/// few tokens of many sequences, and who arrives next meets a rank that is busy with a prompt.
const LOCAL_PREFILL_WEIGHT: f64 = 2.0;

/// What holding up one running sequence for a second costs against a second until the first token of another.
const STALL_WEIGHT: f64 = 0.2;

/// The weights of the cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostWeights {
    /// `w`, where it is fixed: how much more than a queued token an uncached token of this request weighs.
    pub miss_weight: Option<f64>,
    /// `R`: tokens a rank prefills in a second.
    pub prefill_tokens_per_second: f64,
    /// `a`: seconds that each request in flight on a rank adds.
    pub in_flight_seconds: f64,
    /// Seconds that a prefill on another rank takes besides: one more hop, and the wait for the transfer to be scheduled.
    pub leg_seconds: f64,
}

/// The parts of a cost, all in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Prefill that waits before this request.
    pub queue_seconds: f64,
    /// Prefill of what the rank does not hold, times the miss weight.
    pub miss_seconds: f64,
    /// What the room that running sequences take costs.
    pub held_seconds: f64,
    /// What sharing steps with the requests in flight costs.
    pub in_flight_seconds: f64,
    /// What a prefill on another rank takes besides: the hop and the transfer of what the decode rank does not hold.
    pub leg_seconds: f64,
    /// What a prefill on a decode rank costs the sequences that run there.
    pub stall_seconds: f64,
}

impl Cost {
    /// The sum that ranks are compared by.
    #[must_use]
    pub fn total_seconds(&self) -> f64 {
        self.queue_seconds
            + self.miss_seconds
            + self.held_seconds
            + self.in_flight_seconds
            + self.leg_seconds
            + self.stall_seconds
    }

    /// What a request costs on two ranks together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            queue_seconds: self.queue_seconds + other.queue_seconds,
            miss_seconds: self.miss_seconds + other.miss_seconds,
            held_seconds: self.held_seconds + other.held_seconds,
            in_flight_seconds: self.in_flight_seconds + other.in_flight_seconds,
            leg_seconds: self.leg_seconds + other.leg_seconds,
            stall_seconds: self.stall_seconds + other.stall_seconds,
        }
    }
}

impl CostWeights {
    /// Prices a request on a rank.
    #[must_use]
    pub fn cost(&self, work: &Work) -> Cost {
        let rate = self.prefill_tokens_per_second;
        Cost {
            queue_seconds: seconds(work.queued_tokens, rate),
            miss_seconds: work.miss_weight * seconds(work.uncached_tokens, rate),
            held_seconds: HELD_WEIGHT * work.in_use * seconds(work.held_tokens, rate),
            in_flight_seconds: self.in_flight_seconds * f64::from(work.in_flight),
            ..Cost::default()
        }
    }

    /// Prices a request on a decode rank that prefills itself: who runs there waits meanwhile.
    #[must_use]
    pub fn local_cost(&self, work: &Work) -> Cost {
        let prefill_seconds = seconds(work.uncached_tokens, self.prefill_tokens_per_second);
        let cost = self.cost(work);
        Cost {
            miss_seconds: LOCAL_PREFILL_WEIGHT * cost.miss_seconds,
            stall_seconds: STALL_WEIGHT * f64::from(work.in_flight) * prefill_seconds,
            ..cost
        }
    }

    /// Prices a request on a decode rank that another rank prefills for: what it does not hold comes over the network.
    #[must_use]
    pub fn remote_cost(&self, work: &Work) -> Cost {
        let transfer_seconds = seconds(work.uncached_tokens, TRANSFER_TOKENS_PER_SECOND);
        let received = Work {
            uncached_tokens: 0,
            ..*work
        };
        Cost {
            leg_seconds: self.leg_seconds + transfer_seconds,
            ..self.cost(&received)
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

    const WEIGHTS: CostWeights = CostWeights {
        miss_weight: None,
        prefill_tokens_per_second: 10_000.0,
        in_flight_seconds: 0.01,
        leg_seconds: 0.02,
    };

    #[test]
    fn the_cost_is_the_formula_worked_out_by_hand() {
        let cost = WEIGHTS.cost(&Work {
            queued_tokens: 5_000,
            uncached_tokens: 2_000,
            miss_weight: 3.0,
            held_tokens: 30_000,
            in_use: 0.5,
            in_flight: 4,
        });
        for (given, expected) in [
            (cost.queue_seconds, 0.5),
            (cost.miss_seconds, 0.6),
            (cost.held_seconds, 0.15),
            (cost.in_flight_seconds, 0.04),
            (cost.total_seconds(), 1.29),
        ] {
            assert!(
                (given - expected).abs() < 1e-12,
                "{given} instead of {expected}"
            );
        }
    }

    #[test]
    fn a_decode_rank_pays_for_its_own_prefill_or_for_the_leg_as_worked_out_by_hand() {
        let work = Work {
            queued_tokens: 1_000,
            uncached_tokens: 2_000,
            miss_weight: 3.0,
            held_tokens: 30_000,
            in_use: 0.5,
            in_flight: 4,
        };
        let local = WEIGHTS.local_cost(&work);
        assert!((local.stall_seconds - 0.16).abs() < 1e-12, "{local:?}");
        assert!((local.total_seconds() - (0.1 + 1.2 + 0.15 + 0.04 + 0.16)).abs() < 1e-12);
        let remote = WEIGHTS.remote_cost(&work);
        assert!((remote.leg_seconds - 0.03).abs() < 1e-12, "{remote:?}");
        assert!((remote.total_seconds() - (0.1 + 0.15 + 0.04 + 0.03)).abs() < 1e-12);
        let both = local.plus(&remote).total_seconds();
        assert!((both - local.total_seconds() - remote.total_seconds()).abs() < 1e-12);
    }

    #[test]
    fn every_part_of_the_load_makes_a_rank_dearer() {
        let total = |work: &Work| WEIGHTS.cost(work).total_seconds();
        assert_eq!(total(&Work::default()), 0.0);
        for (tokens, in_flight) in [(0, 0), (100, 1), (1 << 30, 5000)] {
            let work = Work {
                queued_tokens: tokens,
                uncached_tokens: tokens,
                miss_weight: 1.0,
                held_tokens: tokens,
                in_use: 0.25,
                in_flight,
            };
            let more = [
                Work {
                    queued_tokens: tokens + 1,
                    ..work
                },
                Work {
                    uncached_tokens: tokens + 1,
                    ..work
                },
                Work {
                    held_tokens: tokens + 1,
                    ..work
                },
                Work {
                    in_flight: in_flight + 1,
                    ..work
                },
            ];
            assert!(more.iter().all(|more| total(more) > total(&work)));
        }
        let most = Work {
            queued_tokens: u64::MAX,
            uncached_tokens: u64::MAX,
            miss_weight: 20.0,
            held_tokens: u64::MAX,
            in_use: 1.0,
            in_flight: u32::MAX,
        };
        assert!(total(&most).is_finite());
    }
}
