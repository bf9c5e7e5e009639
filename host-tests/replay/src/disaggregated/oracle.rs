//! The policy that knows everything, one request ahead.

use fastrand::Rng;

use super::policy::{Leg, Pair, PairPolicy, PairSetup, PairTruth, PairView};
use crate::baselines::Oracle;
use crate::policy::{Arrival, Policy, Truth, View};

/// Takes what costs all requests the least time now, and no thought for those who come after.
///
/// The prefill rank that would be through first. The decode rank whose steps will be the shortest with all that was sent to it;
/// before that one that has room. And no prefill rank if the decode rank that holds most of the prompt would bring the first token
/// so much earlier that it is worth the time that its steps get longer, for every sequence that steps with it.
pub struct OraclePair {
    first: Box<dyn Policy>,
    decode_ranks: usize,
    random: Rng,
}

/// The ranks of one kind, as the joined oracle sees ranks.
pub(super) struct Of<'a>(pub(super) &'a dyn PairTruth, pub(super) Leg);

impl Truth for Of<'_> {
    fn first_token_ms(&self, rank: usize, arrival: &Arrival) -> f64 {
        self.0.first_token_ms(self.1, rank, arrival)
    }

    fn cached_tokens(&self, rank: usize, arrival: &Arrival) -> u64 {
        self.0.cached_tokens(self.1, rank, arrival)
    }
}

impl OraclePair {
    /// Picks among the ranks of the setup.
    #[must_use]
    pub fn new(setup: &PairSetup) -> Self {
        Self {
            first: Oracle::boxed(setup.ratio.prefill, setup.seed),
            decode_ranks: setup.ratio.decode,
            random: Rng::with_seed(setup.seed),
        }
    }

    fn decode(&mut self, arrival: &Arrival, truth: &dyn PairTruth) -> usize {
        let mut ranks: Vec<usize> = (0..self.decode_ranks).collect();
        self.random.shuffle(&mut ranks);
        let cost = |rank: &usize| {
            let tokens = truth.decode_work(*rank).tokens + arrival.prompt_tokens;
            let capacity = truth.profile().capacity_tokens;
            (
                tokens.saturating_sub(capacity),
                step_ms(*rank, arrival, truth),
            )
        };
        let costs = ranks.into_iter().map(|rank| (cost(&rank), rank));
        let least = costs.min_by(|(one, _), (other, _)| {
            let rooms = one.0.cmp(&other.0);
            rooms.then(one.1.total_cmp(&other.1))
        });
        least.map_or(0, |(_, rank)| rank)
    }

    /// The decode rank that holds most of the prompt, and what prefilling it there would cost all that decode beside it.
    fn alone(&self, arrival: &Arrival, view: &PairView<'_>) -> (usize, f64) {
        let truth = view.truth;
        let cached = |rank: &usize| truth.cached_tokens(Leg::Decode, *rank, arrival);
        let rank = (0..self.decode_ranks).max_by_key(cached).unwrap_or(0);
        let uncached = arrival.prompt_tokens.saturating_sub(cached(&rank)) as f64;
        let costs = &truth.profile().costs;
        let pairs = uncached * (arrival.prompt_tokens as f64 - uncached / 2.0);
        let longer_ms = costs.prefill_token_ms * uncached + costs.attention_pair_ms * pairs;
        let others = truth.decode_work(rank).group_sequences as f64;
        (rank, longer_ms * others)
    }
}

/// The time of a decode rank's steps once this request is there, too.
fn step_ms(rank: usize, arrival: &Arrival, truth: &dyn PairTruth) -> f64 {
    let (work, costs) = (truth.decode_work(rank), truth.profile().costs);
    costs.step_ms
        + costs.decode_sequence_ms * (work.sequences + 1) as f64
        + costs.decode_context_token_ms * (work.tokens + arrival.prompt_tokens) as f64
}

impl PairPolicy for OraclePair {
    fn pick(&mut self, arrival: &Arrival, view: &PairView<'_>) -> Pair {
        let truth = view.truth;
        let prefill_ranks = View {
            now_ms: view.now_ms,
            reports: view.prefill,
            truth: &Of(truth, Leg::Prefill),
        };
        let prefill = self.first.pick(arrival, &prefill_ranks);
        let decode = self.decode(arrival, truth);
        let prefilled_ms = truth.first_token_ms(Leg::Prefill, prefill, arrival) - view.now_ms;
        let with_ms =
            prefilled_ms + truth.hand_over_ms(decode, arrival) + step_ms(decode, arrival, truth);
        // The look ahead is spared where the others alone would lose more.
        let (alone, others_ms) = self.alone(arrival, view);
        let alone_ms = || truth.first_token_ms(Leg::Decode, alone, arrival) - view.now_ms;
        if others_ms < with_ms && others_ms + alone_ms() < with_ms {
            return Pair {
                prefill: None,
                decode: alone,
            };
        }
        Pair {
            prefill: Some(prefill),
            decode,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::disaggregated::policy::DecodeWork;
    use crate::profile::{Profile, dense};

    /// What is told of two ranks of each kind.
    struct Told {
        profile: Profile,
        first_token_ms: [[f64; 2]; 2],
        cached_tokens: [u64; 2],
        work: [DecodeWork; 2],
    }

    impl PairTruth for Told {
        fn first_token_ms(&self, leg: Leg, rank: usize, _: &Arrival) -> f64 {
            self.first_token_ms[leg as usize][rank]
        }

        fn hand_over_ms(&self, _: usize, _: &Arrival) -> f64 {
            50.0
        }

        fn cached_tokens(&self, leg: Leg, rank: usize, _: &Arrival) -> u64 {
            match leg {
                Leg::Prefill => 0,
                Leg::Decode => self.cached_tokens[rank],
            }
        }

        fn decode_work(&self, rank: usize) -> DecodeWork {
            self.work[rank]
        }

        fn profile(&self) -> &Profile {
            &self.profile
        }
    }

    fn work(sequences: u64, tokens: u64) -> DecodeWork {
        DecodeWork {
            sequences,
            tokens,
            group_sequences: sequences,
        }
    }

    fn told() -> Told {
        Told {
            profile: dense(),
            first_token_ms: [[200.0, 100.0], [1000.0, 1000.0]],
            cached_tokens: [0, 0],
            work: [work(10, 50_000), work(20, 40_000)],
        }
    }

    /// A pick for a prompt of 10,000 tokens.
    fn pick(truth: &Told) -> Pair {
        let setup = PairSetup {
            ratio: "2:2".parse().unwrap(),
            ranks_per_pod: 2,
            capacity_tokens: dense().capacity_tokens,
            block_tokens: 512,
            seed: 1,
        };
        let arrival = Arrival {
            number: 0,
            blocks: Rc::from([]),
            prompt_tokens: 10_000,
        };
        let view = PairView {
            now_ms: 0.0,
            prefill: &[],
            decode: &[],
            truth,
        };
        OraclePair::new(&setup).pick(&arrival, &view)
    }

    #[test]
    fn it_takes_the_first_prefill_rank_and_the_decode_rank_with_the_shortest_steps() {
        // 2.4 + 11 * 0.03 + 60,000 * 2.3e-5 = 4.1 ms against 2.4 + 21 * 0.03 + 50,000 * 2.3e-5 = 4.2.
        let pair = pick(&told());
        assert_eq!((pair.prefill, pair.decode), (Some(1), 0));
    }

    #[test]
    fn a_decode_rank_without_room_comes_last() {
        let mut truth = told();
        truth.work[0].tokens = dense().capacity_tokens - 9_999;
        truth.work[1] = work(200, 100_000);
        assert_eq!(pick(&truth).decode, 1);
    }

    #[test]
    fn a_decode_rank_prefills_itself_where_all_together_lose_less() {
        // With a prefill rank the first token comes after 100 + 50 + 4.1 ms. On decode rank 1, which holds all but 500 tokens, each
        // step of its 20 sequences gets 500 * 0.0048 + 500 * 9,750 * 3.8e-7 = 4.25 ms longer once: 85 ms.
        for (alone_ms, is_alone) in [(69.0, true), (70.0, false)] {
            let truth = Told {
                first_token_ms: [[200.0, 100.0], [0.0, alone_ms]],
                cached_tokens: [0, 9_500],
                ..told()
            };
            let pair = pick(&truth);
            assert_eq!(pair.prefill.is_none(), is_alone, "{alone_ms}");
            assert_eq!(pair.decode, usize::from(is_alone));
        }
    }
}
