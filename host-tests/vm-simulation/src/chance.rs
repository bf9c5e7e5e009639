//! Seeded chance.

/// A generator of everything that is random in a run.
pub(crate) struct Chance(fastrand::Rng);

impl Chance {
    pub(crate) fn of(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// True with this probability.
    pub(crate) fn hits(&mut self, probability: f64) -> bool {
        // No draw where nothing can happen: what a calm seed does not depend on troubles that are added later.
        probability > 0.0 && self.0.f64() < probability
    }

    /// A number from `least` to `most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.u64(least..=most.max(least))
    }

    /// As [`Self::between`], for lengths.
    pub(crate) fn length(&mut self, least: usize, most: usize) -> usize {
        self.0.usize(least..=most.max(least))
    }

    /// One of `choices`, which must not be empty.
    pub(crate) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(..choices.len())].clone()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.0.u8(..)).collect()
    }
}
