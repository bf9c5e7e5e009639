//! Which ranks are believed to hold which block.

use std::collections::{HashMap, VecDeque};

/// The ranks that are believed to hold each block, with a limit of blocks for each rank: the longest unused goes first.
///
/// Blocks are those of the trace; a peer with smaller blocks holds all or none of the small ones inside a trace's block.
/// A touch costs O(1) on average beside the walk over the ranks that share the block.
pub(crate) struct Holders {
    by_block: HashMap<u64, Vec<Holder>>,
    /// By rank, oldest first: (touch, block). A block touched again leaves its older entries behind.
    touches: Vec<VecDeque<(u64, u64)>>,
    sizes: Vec<usize>,
    capacity: usize,
    clock: u64,
}

/// A rank that holds a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    /// The rank.
    pub(crate) rank: usize,
    /// Its last touch of the block; grows with each touch of any rank.
    pub(crate) touched: u64,
}

impl Holders {
    /// Nothing held; each rank may hold `capacity` blocks.
    pub(crate) fn new(ranks: usize, capacity: usize) -> Self {
        let touches = vec![VecDeque::new(); ranks];
        Self {
            by_block: HashMap::new(),
            touches,
            sizes: vec![0; ranks],
            capacity,
            clock: 0,
        }
    }

    /// The ranks that hold a block.
    pub(crate) fn of(&self, block: u64) -> &[Holder] {
        self.by_block.get(&block).map_or(&[], Vec::as_slice)
    }

    /// A rank gets a block or uses it again; what is then too much for it goes.
    pub(crate) fn touch(&mut self, rank: usize, block: u64) {
        self.clock += 1;
        let touched = self.clock;
        let holders = self.by_block.entry(block).or_default();
        match holders.iter_mut().find(|holder| holder.rank == rank) {
            Some(holder) => holder.touched = touched,
            None => {
                holders.push(Holder { rank, touched });
                self.sizes[rank] += 1;
            }
        }
        self.touches[rank].push_back((touched, block));
        self.trim(rank, self.capacity);
        self.compact(rank);
    }

    /// Touches a prompt's blocks, first block first: the first block is then the first to go.
    pub(crate) fn touch_all(&mut self, rank: usize, blocks: &[u64]) {
        blocks.iter().for_each(|&block| self.touch(rank, block));
    }

    /// Touches a prompt's blocks, last block first, as an engine frees them: the last block is the first to go.
    pub(crate) fn touch_all_tail_first(&mut self, rank: usize, blocks: &[u64]) {
        blocks
            .iter()
            .rev()
            .for_each(|&block| self.touch(rank, block));
    }

    /// How many of these blocks, which a rank holds, are in the older half of those that it holds.
    pub(crate) fn old(&self, rank: usize, blocks: &[u64]) -> usize {
        let touches = &self.touches[rank];
        let half = self.sizes[rank] / 2;
        // Entries made void lie among the others evenly enough.
        let place = touches
            .len()
            .saturating_sub(half * touches.len() / self.sizes[rank].max(1));
        if self.sizes[rank] * 10 < self.capacity * 9 {
            return 0;
        }
        let Some((limit, _)) = touches.get(place) else {
            return 0;
        };
        let is_old = |block: &&u64| {
            self.of(**block)
                .iter()
                .any(|h| h.rank == rank && h.touched < *limit)
        };
        blocks.iter().filter(is_old).count()
    }

    /// Lets the longest unused blocks of a rank go until it holds no more than `capacity`.
    pub(crate) fn trim(&mut self, rank: usize, capacity: usize) {
        while self.sizes[rank] > capacity {
            let Some((touched, block)) = self.touches[rank].pop_front() else {
                return;
            };
            if self.is_last_touch(rank, touched, block) {
                self.forget(rank, block);
            }
        }
    }

    /// By rank, how many blocks from the first on it holds without a gap.
    pub(crate) fn unbroken(&self, blocks: &[u64]) -> Vec<usize> {
        let mut depths = vec![0; self.sizes.len()];
        for (depth, &block) in blocks.iter().enumerate() {
            let mut goes_on = false;
            for holder in self.of(block) {
                if depths[holder.rank] == depth {
                    depths[holder.rank] = depth + 1;
                    goes_on = true;
                }
            }
            if !goes_on {
                break;
            }
        }
        depths
    }

    /// By rank, how many blocks it holds before the first that no rank holds; gaps of its own do not stop the count.
    pub(crate) fn with_gaps(&self, blocks: &[u64]) -> Vec<usize> {
        let mut counts = vec![0; self.sizes.len()];
        let held = blocks
            .iter()
            .map(|&block| self.of(block))
            .take_while(|holders| !holders.is_empty());
        held.flatten().for_each(|holder| counts[holder.rank] += 1);
        counts
    }

    /// How many blocks from the first on are held by any rank, and the holders of the last of them.
    pub(crate) fn deepest(&self, blocks: &[u64]) -> (usize, &[Holder]) {
        let held = blocks
            .iter()
            .map(|&block| self.of(block))
            .take_while(|holders| !holders.is_empty());
        held.fold((0, &[]), |(depth, _), holders| (depth + 1, holders))
    }

    fn is_last_touch(&self, rank: usize, touched: u64, block: u64) -> bool {
        self.of(block)
            .iter()
            .any(|holder| holder.rank == rank && holder.touched == touched)
    }

    fn forget(&mut self, rank: usize, block: u64) {
        if let Some(holders) = self.by_block.get_mut(&block) {
            holders.retain(|holder| holder.rank != rank);
            if holders.is_empty() {
                self.by_block.remove(&block);
            }
            self.sizes[rank] -= 1;
        }
    }

    /// Drops entries that later touches made void, before they outnumber the others.
    fn compact(&mut self, rank: usize) {
        const SLACK: usize = 1024;
        if self.touches[rank].len() > 2 * self.sizes[rank] + SLACK {
            let mut touches = std::mem::take(&mut self.touches[rank]);
            touches.retain(|&(touched, block)| self.is_last_touch(rank, touched, block));
            self.touches[rank] = touches;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(holders: &Holders, block: u64) -> Vec<usize> {
        holders.of(block).iter().map(|holder| holder.rank).collect()
    }

    #[test]
    fn the_longest_unused_block_of_a_full_rank_goes() {
        let mut holders = Holders::new(2, 2);
        holders.touch_all(0, &[1, 2]);
        holders.touch(1, 1);
        holders.touch(0, 1);
        holders.touch(0, 3);
        assert_eq!(ranks(&holders, 1), [0, 1]);
        assert_eq!(ranks(&holders, 2), [] as [usize; 0]);
        assert_eq!(ranks(&holders, 3), [0]);
    }

    #[test]
    fn the_end_touched_last_is_the_end_that_stays() {
        let mut holders = Holders::new(2, 2);
        holders.touch_all(0, &[1, 2, 3]);
        holders.touch_all_tail_first(1, &[1, 2, 3]);
        assert_eq!(holders.unbroken(&[1, 2, 3]), [0, 2]);
    }

    #[test]
    fn a_gap_ends_an_unbroken_match_and_not_a_match_with_gaps() {
        let mut holders = Holders::new(3, 10);
        holders.touch_all(0, &[1, 2]);
        holders.touch_all(1, &[2, 3]);
        holders.touch_all(2, &[1, 5]);
        assert_eq!(holders.unbroken(&[1, 2, 3, 4, 5]), [2, 0, 1]);
        assert_eq!(holders.with_gaps(&[1, 2, 3, 4, 5]), [2, 2, 1]);
    }

    #[test]
    fn the_deepest_block_names_its_holders() {
        let mut holders = Holders::new(2, 10);
        holders.touch_all(0, &[1]);
        holders.touch_all(1, &[1, 2]);
        let (depth, last) = holders.deepest(&[1, 2, 3]);
        assert_eq!((depth, last.len(), last[0].rank), (2, 1, 1));
        assert_eq!(holders.deepest(&[9]).0, 0);
    }

    #[test]
    fn a_rank_behaves_as_a_list_in_order_of_use() {
        let mut dice = fastrand::Rng::with_seed(3);
        let mut holders = Holders::new(1, 5);
        let mut list: Vec<u64> = Vec::new();
        for _ in 0..5000 {
            let block = dice.u64(0..12);
            holders.touch(0, block);
            list.retain(|&held| held != block);
            list.push(block);
            list.drain(..list.len().saturating_sub(5));
            (0..12)
                .for_each(|block| assert_eq!(!holders.of(block).is_empty(), list.contains(&block)));
        }
    }

    #[test]
    fn touches_of_one_block_do_not_pile_up() {
        let mut holders = Holders::new(1, 5);
        (0..5000).for_each(|_| holders.touch(0, 1));
        assert!(holders.touches[0].len() < 2000);
        assert_eq!(ranks(&holders, 1), [0]);
    }
}
