//! Remembers which ranks were sent which blocks, as a stand-in for what their KV caches hold.
//!
//! Each rank has a clock, and a block is alive for a rank while the clock has gone on by less than the rank's capacity since
//! the block's last use: a least-recently-used cache without lists. A block that is new to the rank moves the clock by
//! one, because it goes before all others in that cache. A block that is used again goes before those that are younger
//! than it was: the clock moves by its age as a share of the capacity, which is what it would move a block of any age by on
//! average. Within one prompt the last block counts as the oldest, because vLLM frees a sequence from its end, so a prefix
//! loses its leaves before its root. A rank matches as many blocks as it holds without a gap from the first on.
//!
//! Memory is bounded by `max_blocks` (about 45 bytes each where at most two ranks hold a block). Dead entries are
//! swept a few at a time with each insertion; when all are alive the oldest of a few goes. Cost of a look-up: one
//! probe per block until no rank goes on, and the holders of each block.

mod reused;
mod slots;
mod told;

use crate::{RankId, SentBlock, TakenBack};
use reused::Reused;
use slots::Slots;
use told::{Told, ToldPrompt};

/// A block used again becomes younger once that gains so much of the capacity: the cache is a sixteenth less exact.
const YOUNG_SHARE: u32 = 16;

/// The part of a rank's room whose blocks it surely holds.
const SURE_SHARE: u32 = 8;

/// Blocks that other workers told of, and nobody has asked for, as a part of those in the table: 16 bytes each.
const TOLD_SHARE: usize = 2;

/// What a rank was sent is remembered for so many times its capacity while there is room: only so it shows when the rank
/// holds more than it is believed to.
const REMEMBERED: u32 = 2;

/// What a rank has been sent, counted in blocks.
#[derive(Clone, Copy, Debug, Default)]
struct RankClock {
    inserted: u32,
    /// What was inserted since it was cold, up to its capacity.
    filled: u32,
    capacity: u32,
    /// How often the rank was forgotten.
    life: u16,
}

impl RankClock {
    fn go_on(&mut self, blocks: u32) {
        self.inserted = self.inserted.wrapping_add(blocks);
        self.filled = self.filled.saturating_add(blocks).min(self.capacity);
    }

    /// Undoes [`go_on`](Self::go_on). What was touched in between is as young as can be afterwards. A full cache stays full: how
    /// much beyond its capacity was inserted is not known.
    fn go_back(&mut self, blocks: u32) {
        self.inserted = self.inserted.wrapping_sub(blocks);
        if self.filled < self.capacity {
            self.filled = self.filled.saturating_sub(blocks);
        }
    }

    /// Blocks that can still come to the rank before it loses this one; 0 when it is lost.
    fn youth(self, holder: &Holder) -> u32 {
        if holder.life != self.life {
            return 0;
        }
        self.capacity
            .saturating_sub(passed(self.inserted, holder.touched))
    }
}

/// How far a clock has gone on since a block was touched. A clock that was set back is behind some touches: they are young.
fn passed(now: u32, touched: u32) -> u32 {
    let passed = now.wrapping_sub(touched);
    if passed > u32::MAX / 2 { 0 } else { passed }
}

/// A rank that was sent a block, and its clock at the time.
#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    rank: u16,
    life: u16,
    touched: u32,
}

/// What a prompt was to a rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// How many of its first blocks the rank had been sent a moment ago.
    pub young: usize,
    /// How many of its first blocks the rank held.
    pub held: usize,
    /// How much older it made the rank's other blocks: blocks of the size that capacities are counted in.
    pub aged_blocks: u32,
    /// How many of its blocks, in that size, the rank had been sent long ago: they were in the older half of a full cache.
    pub old_blocks: u64,
    /// Its length in that size.
    pub blocks: u64,
    /// How far the rank's clock went since it was last sent the prompt's first blocks, of each of those that the rank held
    /// and, behind them, of those that it is believed to have lost for want of room: these are known for a while.
    pub ages: Vec<u32>,
}

/// The index of one pool.
#[derive(Debug)]
pub struct PrefixIndex {
    clocks: Vec<RankClock>,
    slots: Slots,
    told: Told,
}

impl PrefixIndex {
    /// An empty index of at most `max_blocks` (at least 1) blocks.
    #[must_use]
    pub fn new(max_blocks: usize) -> Self {
        Self::keyed(max_blocks, 0)
    }

    /// The same; who does not know `secret` cannot choose blocks that go to one place of its tables.
    #[must_use]
    pub fn keyed(max_blocks: usize, secret: u64) -> Self {
        Self {
            clocks: Vec::new(),
            slots: Slots::new(max_blocks, secret),
            told: Told::new(max_blocks / TOLD_SHARE, secret),
        }
    }

    /// Makes `rank` known with room for `capacity_blocks`; a smaller capacity than before drops the oldest.
    pub fn set_capacity(&mut self, rank: RankId, capacity_blocks: u32) {
        let needed = rank.index().saturating_add(1);
        self.clocks
            .resize(self.clocks.len().max(needed), RankClock::default());
        if let Some(clock) = self.clocks.get_mut(rank.index()) {
            clock.capacity = capacity_blocks;
        }
    }

    /// Forgets all that `rank` holds, at once: its cache is cold.
    pub fn forget(&mut self, rank: RankId) {
        if let Some(clock) = self.clocks.get_mut(rank.index()) {
            clock.life = clock.life.wrapping_add(1);
            clock.filled = 0;
        }
    }

    /// `rank` has not taken in a prompt that was inserted or told: the blocks that were new to it go, and its other blocks are as
    /// young as they were. Blocks that it held before stay. Cost: two probes per block.
    pub fn take_back(&mut self, rank: RankId, taken: &TakenBack) {
        let held = usize::try_from(taken.held).unwrap_or(usize::MAX);
        let (held, new) = taken
            .blocks
            .split_at_checked(held)
            .unwrap_or((&taken.blocks, &[]));
        if let Some(first_new) = new.first() {
            for block in held {
                self.told
                    .cut(rank.0, block.chain_hash, first_new.chain_hash);
            }
        }
        for block in new {
            self.told.cut(rank.0, block.chain_hash, block.chain_hash);
            self.slots.take_from(block.chain_hash, rank.0);
        }
        if let Some(clock) = self.clocks.get_mut(rank.index()) {
            clock.go_back(taken.aged_blocks);
        }
    }

    /// Whether `rank` holds this block and is far from dropping it: it is in the eighth of its room that goes last.
    ///
    /// Running requests and their answers take room of which the index does not know. In a replay with prefill and decode apart
    /// one of sixteen prompts that a decode rank was believed to hold was gone, but none whose end was in that eighth.
    #[must_use]
    pub fn holds_surely(&self, rank: RankId, chain_hash: u64) -> bool {
        let clock = self.clocks.get(rank.index()).copied().unwrap_or_default();
        let touched = self.touched(rank, chain_hash);
        touched
            .is_some_and(|touched| passed(clock.inserted, touched) <= clock.capacity / SURE_SHARE)
    }

    /// Blocks that `rank` was sent in all, wrapping.
    #[must_use]
    pub fn sent_blocks(&self, rank: RankId) -> u32 {
        self.clocks
            .get(rank.index())
            .map_or(0, |clock| clock.inserted)
    }

    /// Blocks that `rank` is believed to have room for.
    #[must_use]
    pub fn capacity(&self, rank: RankId) -> u32 {
        self.clocks
            .get(rank.index())
            .map_or(0, |clock| clock.capacity)
    }

    /// How often `rank` was forgotten, wrapping.
    #[must_use]
    pub fn life(&self, rank: RankId) -> u16 {
        self.clocks.get(rank.index()).map_or(0, |clock| clock.life)
    }

    /// Counts into `depths`, by rank, how many of the first blocks each rank holds without a gap.
    ///
    /// What other workers told of blocks along the way is put into the table now.
    pub fn match_depths(&mut self, blocks: impl Iterator<Item = u64>, depths: &mut Vec<u32>) {
        depths.clear();
        depths.resize(self.clocks.len(), 0);
        for (position, hash) in (0u32..).zip(blocks) {
            for told in self.told.take(hash) {
                self.put_told(&told);
            }
            let mut goes_on = false;
            for holder in self.slots.holders(hash) {
                let depth = depths
                    .get_mut(usize::from(holder.rank))
                    .filter(|depth| **depth == position);
                if let Some(depth) = depth.filter(|_| self.is_alive(holder)) {
                    *depth = position.saturating_add(1);
                    goes_on = true;
                }
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Notes that `rank`, which has to be known, is sent a prompt of these blocks; each is there once.
    ///
    /// Gives how many of the first blocks were there and so young that they were left as they are: a block that is
    /// used again within a sixteenth of the capacity does not become younger. That spares most of the work of a
    /// conversation that goes on, here and in every other VM that is told of it.
    pub fn insert(&mut self, rank: RankId, blocks: &[SentBlock]) -> Inserted {
        let Some(clock) = self.clocks.get(rank.index()).copied() else {
            return Inserted::default();
        };
        let held: Vec<u32> = blocks
            .iter()
            .map_while(|block| self.touched(rank, block.chain_hash))
            .collect();
        let fresh = end(blocks).saturating_sub(end(blocks.get(..held.len()).unwrap_or_default()));
        let fresh = if held.is_empty() { span(blocks) } else { fresh };
        let reused = Reused {
            blocks,
            held: &held,
            now: clock.inserted.wrapping_add(fresh),
        };
        let young = reused.young(clock.capacity);
        let aged_blocks = fresh.saturating_add(reused.aged_blocks(young, clock.capacity));
        let old_blocks = reused.old_blocks(young, &clock);
        let now = clock.inserted.wrapping_add(aged_blocks);
        if let Some(clock) = self.clocks.get_mut(rank.index()) {
            clock.go_on(aged_blocks);
        }
        let fitting = blocks
            .iter()
            .take_while(|block| block.start < clock.capacity);
        // The first block is touched always: where room is short it must not go before what stands behind it.
        let is_touched = |(position, _): &(usize, &SentBlock)| *position == 0 || *position >= young;
        let mut known = held.clone();
        for (position, block) in fitting.enumerate().filter(is_touched) {
            let holder = Holder {
                rank: rank.0,
                life: clock.life,
                touched: now.wrapping_sub(block.start),
            };
            let before = self.slots.touch(block.chain_hash, holder, &self.clocks);
            let lost = before.filter(|lost| position == known.len() && lost.life == clock.life);
            known.extend(lost.map(|lost| lost.touched));
        }
        (held.len()..blocks.len()).for_each(|_| self.slots.sweep(&self.clocks));
        let sent = |(block, touched): (&SentBlock, u32)| touched.wrapping_add(block.start);
        let sent = blocks.iter().zip(known).map(sent);
        Inserted {
            young,
            held: held.len(),
            aged_blocks,
            old_blocks,
            blocks: span(blocks).into(),
            ages: sent.map(|sent| passed(clock.inserted, sent)).collect(),
        }
    }

    /// Another worker sent these blocks to `rank`, which made its other blocks older by `aged_blocks`.
    ///
    /// They are put into the table when somebody asks for the first of them. Cost: a copy of the blocks.
    pub fn tell(&mut self, rank: RankId, blocks: &[SentBlock], aged_blocks: u32) {
        let Some(clock) = self.clocks.get_mut(rank.index()) else {
            return;
        };
        clock.go_on(aged_blocks);
        let holder = Holder {
            rank: rank.0,
            life: clock.life,
            touched: clock.inserted,
        };
        self.told.keep(ToldPrompt {
            holder,
            blocks: blocks.into(),
        });
    }

    /// Puts a told prompt into the table, as far as its rank still holds it and has not used it since.
    fn put_told(&mut self, told: &ToldPrompt) {
        let rank = RankId(told.holder.rank);
        for block in &told.blocks {
            let holder = Holder {
                touched: told.holder.touched.wrapping_sub(block.start),
                ..told.holder
            };
            let own_youth = youth(&self.clocks, &holder);
            if own_youth == 0 {
                return;
            }
            let is_younger = self.touched(rank, block.chain_hash).is_some_and(|touched| {
                let known = Holder { touched, ..holder };
                youth(&self.clocks, &known) >= own_youth
            });
            if !is_younger {
                self.slots.touch(block.chain_hash, holder, &self.clocks);
                self.slots.sweep(&self.clocks);
            }
        }
    }

    /// Blocks that all ranks together have room for.
    #[must_use]
    pub fn capacity_blocks(&self) -> u64 {
        let capacities = self.clocks.iter().map(|clock| u64::from(clock.capacity));
        capacities.fold(0, u64::saturating_add)
    }

    /// Blocks in memory, dead ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_alive(&self, holder: &Holder) -> bool {
        youth(&self.clocks, holder) > 0
    }

    /// When `rank` was last sent a block that it still holds.
    fn touched(&self, rank: RankId, hash: u64) -> Option<u32> {
        let holders = self.slots.holders(hash).iter();
        let own = holders.filter(|holder| holder.rank == rank.0);
        own.filter(|holder| self.is_alive(holder))
            .map(|holder| holder.touched)
            .next()
    }
}

/// Where the last of these blocks ends, in blocks of the size that capacities are counted in. Its own size is taken
/// for that of the block before it, which is right but where the size doubles.
fn end(blocks: &[SentBlock]) -> u32 {
    let last = blocks.last().map_or(0, |block| block.start);
    let before = blocks.iter().rev().nth(1).map(|block| block.start);
    let size = before.map_or(1, |before| last.saturating_sub(before));
    blocks
        .last()
        .map_or(0, |_| last.saturating_add(size.max(1)))
}

/// How far these blocks reach.
fn span(blocks: &[SentBlock]) -> u32 {
    let first = blocks.first().map_or(0, |block| block.start);
    end(blocks).saturating_sub(first)
}

fn youth(clocks: &[RankClock], holder: &Holder) -> u32 {
    clocks
        .get(usize::from(holder.rank))
        .map_or(0, |clock| clock.youth(holder))
}

/// Whether it is known when a rank was sent a block, which it may have lost since.
fn is_remembered(clocks: &[RankClock], holder: &Holder) -> bool {
    let clock = clocks.get(usize::from(holder.rank));
    clock.is_some_and(|clock| {
        let age = passed(clock.inserted, holder.touched);
        holder.life == clock.life && age < clock.capacity.saturating_mul(REMEMBERED)
    })
}

#[cfg(test)]
mod tests;
