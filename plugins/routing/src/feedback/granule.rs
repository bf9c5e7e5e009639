//! In which steps an engine counts cached tokens.

/// The greatest number that divides all counts of cached tokens seen so far: a multiple of the engine's block.
///
/// Too large while few were seen, which only makes the comparison more careful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granule {
    /// 0 while nothing was seen.
    tokens: u64,
}

impl Granule {
    /// An answer counted so many cached tokens.
    pub(crate) fn see(&mut self, cached_tokens: u64) {
        let (mut one, mut other) = (self.tokens, cached_tokens);
        while let Some(rest) = one.checked_rem(other) {
            (one, other) = (other, rest);
        }
        self.tokens = one;
    }

    /// The step in tokens; 0 while nothing is known.
    pub(crate) fn tokens(self) -> u64 {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_divides_all_counts_and_zero_says_nothing() {
        let mut granule = Granule::default();
        let steps = [0, 3072, 720, 0, 7].map(|cached_tokens| {
            granule.see(cached_tokens);
            granule.tokens()
        });
        assert_eq!(steps, [0, 3072, 48, 48, 1]);
    }
}
