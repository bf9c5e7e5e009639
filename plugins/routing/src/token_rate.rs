//! How many tokens a byte of a prompt makes, learnt for each model from what its ranks count.
//!
//! A usual mean is one token for four bytes, but languages and tokenizers differ by a factor of two. What is wrong for all
//! ranks alike shifts the balance between the length of a prompt, requests in flight and the size of caches.

use hashbrown::HashMap;

/// Models whose rate is known: a model server has one and some adapters.
const MAX_MODELS: usize = 64;

/// Prompts below this size say little: the template's own tokens weigh too much in them.
const LEAST_BYTES: u64 = 1024;

/// Units of a token in a rate: 16 bits behind the point.
const UNITS: u64 = 1 << 16;

/// One token for 16 bytes: less than any tokenizer makes of text.
const LEAST_UNITS: u64 = UNITS / 16;

/// A byte is at least one token.
const MOST_UNITS: u64 = UNITS;

/// How much of the way to a new ratio the rate goes: one in so many, once that many were seen.
const MOST_WEIGHT: u64 = 16;

/// A ratio further than this share from the rate counts as if it was this far: then a wrong one moves it by 1.6 % at most.
const CLAMP_SHARE: u64 = 4;

/// Tokens that a byte of a prompt makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRate {
    units: u64,
}

impl Default for TokenRate {
    /// One token for four bytes: a usual mean for English and code.
    fn default() -> Self {
        Self { units: UNITS / 4 }
    }
}

impl TokenRate {
    /// Tokens of so many bytes, a begun one counted.
    #[must_use]
    pub fn tokens(self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.units).div_ceil(UNITS)
    }

    /// Whole tokens in so many bytes.
    #[must_use]
    pub fn whole_tokens(self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.units) / UNITS
    }

    /// Bytes that as many tokens take.
    #[must_use]
    pub fn bytes(self, tokens: u64) -> u64 {
        let bytes = tokens.saturating_mul(UNITS).checked_div(self.units);
        bytes.unwrap_or(u64::MAX)
    }

    /// Goes a part of the way to a measured rate.
    fn approach(&mut self, measured_units: u64, weight: u64) {
        let most_step = self.units / CLAMP_SHARE;
        let step = |to: u64, from: u64| {
            let distance = to.saturating_sub(from).min(most_step);
            distance.checked_div(weight).unwrap_or(0)
        };
        let up = step(measured_units, self.units);
        let down = step(self.units, measured_units);
        let moved = self.units.saturating_add(up).saturating_sub(down);
        self.units = moved.clamp(LEAST_UNITS, MOST_UNITS);
    }
}

/// A rate while it is learnt.
#[derive(Clone, Copy, Debug, Default)]
struct Learnt {
    rate: TokenRate,
    samples: u64,
    /// When it was learnt last, counted in what was learnt.
    last: u64,
}

impl Learnt {
    fn take(&mut self, measured_units: u64, now: u64) {
        self.samples = self.samples.saturating_add(1).min(MOST_WEIGHT);
        self.rate.approach(measured_units, self.samples);
        self.last = now;
    }
}

/// The rates of a pool's models, by the hash of their names, and of all together.
///
/// At most 64 models; the one that was learnt longest ago goes. Cost: one look-up; a pass over the models where a new one
/// comes and there is no room.
#[derive(Debug, Default)]
pub struct TokenRates {
    models: HashMap<u64, Learnt>,
    all: Learnt,
    learnt: u64,
}

impl TokenRates {
    /// The rate of a model, or that of all while it is not known.
    #[must_use]
    pub fn of(&self, model: u64) -> TokenRate {
        self.models.get(&model).map_or(self.all.rate, |m| m.rate)
    }

    /// The rate of all models together, by which caches are measured.
    #[must_use]
    pub fn all(&self) -> TokenRate {
        self.all.rate
    }

    /// A prompt of so many bytes was so many tokens.
    pub fn learn(&mut self, model: u64, prompt_bytes: u64, prompt_tokens: u64) {
        if prompt_bytes < LEAST_BYTES {
            return;
        }
        let units = prompt_tokens
            .saturating_mul(UNITS)
            .checked_div(prompt_bytes);
        let Some(units) = units else { return };
        self.learnt = self.learnt.saturating_add(1);
        self.make_room(model);
        let new = Learnt {
            samples: 0,
            ..self.all
        };
        let known = self.models.entry(model).or_insert(new);
        known.take(units, self.learnt);
        self.all.take(units, self.learnt);
    }

    fn make_room(&mut self, model: u64) {
        if self.models.len() < MAX_MODELS || self.models.contains_key(&model) {
            return;
        }
        let oldest = self.models.iter().min_by_key(|(_, learnt)| learnt.last);
        if let Some(oldest) = oldest.map(|(model, _)| *model) {
            self.models.remove(&oldest);
        }
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn four_bytes_are_a_token_until_more_is_known() {
        let rate = TokenRates::default().of(7);
        assert_eq!((rate.tokens(9), rate.whole_tokens(9)), (3, 2));
        assert_eq!((rate.bytes(3), rate.tokens(0)), (12, 0));
    }

    #[test]
    fn the_first_ratios_count_most_and_none_more_than_a_quarter() {
        let mut rates = TokenRates::default();
        rates.learn(7, 10_000, 5_000);
        // 0.25 and a quarter of it.
        assert_eq!(rates.of(7).tokens(1 << 20), 327_680);
        rates.learn(7, 10_000, 5_000);
        assert_eq!(rates.of(7).tokens(1 << 20), 327_680 + 327_680 / 8);
    }

    #[test]
    fn the_rate_comes_to_what_is_measured_from_either_side() {
        for (bytes, tokens) in [(16_000, 1_600), (16_000, 9_600)] {
            let mut rates = TokenRates::default();
            (0..400).for_each(|_| rates.learn(7, bytes, tokens));
            let found = rates.of(7).tokens(bytes);
            assert!(
                found.abs_diff(tokens) * 50 <= tokens,
                "{found} and not {tokens}"
            );
        }
    }

    #[test]
    fn one_wrong_count_hardly_moves_a_rate() {
        let mut rates = TokenRates::default();
        (0..40).for_each(|_| rates.learn(7, 16_000, 4_000));
        rates.learn(7, 2_000, 1 << 24);
        assert!((4_000..4_070).contains(&rates.of(7).tokens(16_000)));
        rates.learn(7, 1 << 26, 1);
        assert!((3_940..4_070).contains(&rates.of(7).tokens(16_000)));
    }

    #[test]
    fn each_model_has_its_rate_and_short_prompts_say_nothing() {
        let mut rates = TokenRates::default();
        for _ in 0..400 {
            rates.learn(1, 16_000, 3_200);
            rates.learn(2, 16_000, 8_000);
            rates.learn(1, 1_000, 1_000);
        }
        assert!((3_150..3_250).contains(&rates.of(1).tokens(16_000)));
        assert!((7_900..8_100).contains(&rates.of(2).tokens(16_000)));
        let unknown = rates.of(3).tokens(16_000);
        assert!((3_200..8_000).contains(&unknown) && rates.all() == rates.of(3));
    }

    #[test]
    fn the_models_are_bounded_and_the_one_learnt_longest_ago_goes() {
        let mut rates = TokenRates::default();
        (0..400).for_each(|_| rates.learn(1_000, 16_000, 8_000));
        for model in 0..200 {
            rates.learn(model, 16_000, 4_000);
            rates.learn(1_000, 16_000, 8_000);
        }
        assert_eq!(rates.models.len(), MAX_MODELS);
        assert!(rates.models.contains_key(&1_000) && !rates.models.contains_key(&0));
    }

    proptest! {
        #[test]
        fn no_counts_move_a_rate_out_of_its_bounds(
            samples in proptest::collection::vec((0u64..3, any::<u64>(), any::<u64>()), 0..200)
        ) {
            let mut rates = TokenRates::default();
            for (model, bytes, tokens) in samples {
                rates.learn(model, bytes, tokens);
                for rate in [rates.of(model), rates.all()] {
                    prop_assert!((LEAST_UNITS..=MOST_UNITS).contains(&rate.units));
                }
            }
        }
    }
}
