//! How long ago a rank was sent which part of a prompt.

use smallvec::SmallVec;

/// Runs of one age that are told apart: a part for each turn of a conversation that touched the prompt anew, as a rule one
/// or two. What stands behind more is not judged.
const MOST_RUNS: usize = 8;

/// A part of a prompt that a rank was sent at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Where it ends, in bytes of the prompt.
    end_bytes: u64,
    /// Blocks that the rank was sent since.
    age: u32,
}

/// The ages of a prompt's leading blocks on a rank, those that the rank is believed to have lost included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    runs: SmallVec<[Run; 2]>,
}

impl Ages {
    /// The ages of blocks by their ends, first to last.
    pub(crate) fn of(blocks: impl Iterator<Item = (u64, u32)>) -> Self {
        let mut ages = Self::default();
        for (end_bytes, age) in blocks {
            let is_full = ages.runs.len() >= MOST_RUNS;
            match ages.runs.last_mut().filter(|run| run.age == age) {
                Some(run) => run.end_bytes = end_bytes,
                None if is_full => break,
                None => ages.runs.push(Run { end_bytes, age }),
            }
        }
        ages
    }

    /// The age of the block that this byte is in.
    pub(crate) fn at(&self, byte: u64) -> Option<u32> {
        let run = self.runs.iter().find(|run| byte < run.end_bytes);
        run.map(|run| run.age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_has_the_age_of_its_block() {
        let ages = Ages::of([(64, 5), (128, 5), (192, 90), (256, 91)].into_iter());
        assert_eq!(ages.runs.len(), 3);
        let at = [0, 127, 128, 191, 192, 255].map(|byte| ages.at(byte));
        assert_eq!(at, [5, 5, 90, 90, 91, 91].map(Some));
        assert_eq!((ages.at(256), Ages::default().at(0)), (None, None));
    }

    #[test]
    fn what_stands_behind_many_ages_is_not_kept() {
        let ages = Ages::of((1..100).map(|place| (place * 64, u32::try_from(place).unwrap())));
        assert_eq!((ages.at(8 * 64 - 1), ages.at(8 * 64)), (Some(8), None));
    }
}
