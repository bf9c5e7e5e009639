//! What it does to the ages of a rank's blocks that a prompt begins with some that the rank holds.

use super::{RankClock, YOUNG_SHARE, end, passed};
use crate::SentBlock;

/// Blocks of a prompt of which a rank holds the first.
pub(super) struct Reused<'a> {
    pub(super) blocks: &'a [SentBlock],
    /// When those that it holds were last used.
    pub(super) held: &'a [u32],
    /// Its clock, the new blocks counted.
    pub(super) now: u32,
}

impl Reused<'_> {
    /// How much younger each block becomes that is used again.
    fn gains(&self) -> impl Iterator<Item = u32> {
        let reused = self.blocks.iter().zip(self.held);
        reused.map(|(block, touched)| passed(self.now.wrapping_sub(block.start), *touched))
    }

    /// How many of the first blocks gain so little that they are left as they are.
    pub(super) fn young(&self, capacity: u32) -> usize {
        self.gains()
            .take_while(|gain| *gain <= capacity / YOUNG_SHARE)
            .count()
    }

    /// The blocks behind the young ones: how much younger each becomes, and its size.
    fn older(&self, young: usize) -> impl Iterator<Item = (u32, u64)> {
        let starts = self.blocks.iter().map(|block| block.start);
        let ends = starts.clone().skip(1).chain([end(self.blocks)]);
        let sizes = starts
            .zip(ends)
            .map(|(start, end)| end.saturating_sub(start).into());
        self.gains().zip(sizes).skip(young)
    }

    /// How many lay in the older half of a full cache. In one that is not full nothing is about to go.
    pub(super) fn old_blocks(&self, young: usize, clock: &RankClock) -> u64 {
        if clock.filled < clock.capacity {
            return 0;
        }
        let old = self
            .older(young)
            .filter(|(gain, _)| *gain > clock.capacity / 2);
        old.fold(0, |sum, (_, size)| sum.saturating_add(size))
    }

    /// How much older those that are used again, behind the young ones, make a block of any age on average.
    pub(super) fn aged_blocks(&self, young: usize, capacity: u32) -> u32 {
        let passed = self
            .older(young)
            .map(|(gain, size)| size.saturating_mul(gain.into()));
        let passed = passed.fold(0, u64::saturating_add);
        let share = passed.checked_div(capacity.into()).unwrap_or(0);
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}
