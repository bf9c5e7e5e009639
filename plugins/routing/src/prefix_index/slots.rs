//! Blocks and their holders in a bounded arena.
//!
//! An arena beside the hash tables lets a sweep walk it a few slots at a time: no call ever does more than a
//! bounded amount of cleaning, since nothing can interrupt a callback in the gateway. For the same reason both grow
//! in small steps: the arena by chunks that never move, and instead of one table, which would stop the worker for a
//! tenth of a second when it doubles, there are some hundred small ones.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{Holder, RankClock, is_remembered, youth};
use crate::hash::keyed;

/// Slots looked at for each block that comes in: more than one, so that sweeping overtakes insertion.
const SWEPT_SLOTS: usize = 3;

/// Slots compared when one has to go although all are alive.
const EVICTION_SAMPLE: usize = 16;

/// Slots of a chunk, 128 KiB.
const CHUNK_SLOTS: usize = 4096;

/// Blocks of a table when the index is full. A table of 8,192 places is then less than half full (7/8 of them can be
/// used), and hashbrown clears the traces of what was removed in place instead of doubling the table.
const TABLE_BLOCKS: usize = 3300;

type Holders = SmallVec<[Holder; 2]>;

#[derive(Clone, Debug, Default)]
struct Slot {
    /// The block; of a free slot the next free one, counted from 1.
    hash: u64,
    /// Empty for a free slot.
    holders: Holders,
}

/// Slots by number, in chunks.
#[derive(Debug, Default)]
struct Arena {
    chunks: Vec<Box<[Slot]>>,
    len: usize,
}

impl Arena {
    fn get(&self, place: usize) -> Option<&Slot> {
        self.chunks
            .get(place / CHUNK_SLOTS)?
            .get(place % CHUNK_SLOTS)
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut Slot> {
        let chunk = self.chunks.get_mut(place / CHUNK_SLOTS)?;
        chunk.get_mut(place % CHUNK_SLOTS)
    }

    /// Adds a free slot and gives its number.
    fn grow(&mut self, max_slots: usize) -> usize {
        let place = self.len;
        if place / CHUNK_SLOTS >= self.chunks.len() {
            let slots = max_slots.saturating_sub(place).clamp(1, CHUNK_SLOTS);
            self.chunks
                .push(vec![Slot::default(); slots].into_boxed_slice());
        }
        self.len = place.saturating_add(1);
        place
    }
}

#[derive(Debug)]
pub(super) struct Slots {
    /// What no client knows: it decides on the place of a block in the tables.
    secret: u64,
    tables: Vec<HashTable<u32>>,
    arena: Arena,
    /// The first free slot, counted from 1; 0 for none.
    free: u64,
    hand: usize,
    blocks: usize,
    max_blocks: usize,
}

impl Slots {
    pub(super) fn new(max_blocks: usize, secret: u64) -> Self {
        let max_blocks = max_blocks.max(1);
        let mut tables = Vec::new();
        tables.resize_with(max_blocks.div_ceil(TABLE_BLOCKS), HashTable::new);
        Self {
            secret,
            tables,
            arena: Arena::default(),
            free: 0,
            hand: 0,
            blocks: 0,
            max_blocks,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.blocks
    }

    /// Blocks in the fullest of the tables.
    #[cfg(test)]
    pub(super) fn fullest_table(&self) -> usize {
        self.tables.iter().map(HashTable::len).max().unwrap_or(0)
    }

    pub(super) fn holders(&self, hash: u64) -> &[Holder] {
        let slot = self.find(hash).and_then(|slot| self.arena.get(slot));
        slot.map_or(&[], |slot| &slot.holders)
    }

    /// Gives a block a holder, and what this holder was before; a block that is not there is put in, in place of another if
    /// all room is taken.
    pub(super) fn touch(
        &mut self,
        hash: u64,
        holder: Holder,
        clocks: &[RankClock],
    ) -> Option<Holder> {
        let place = self.find(hash).unwrap_or_else(|| self.put(hash, clocks));
        let slot = self.arena.get_mut(place)?;
        let mut holders = slot.holders.iter_mut();
        match holders.find(|known| known.rank == holder.rank) {
            Some(known) => Some(std::mem::replace(known, holder)),
            None => {
                slot.holders.push(holder);
                None
            }
        }
    }

    /// Takes a block from a rank; a block that nobody holds any more goes.
    pub(super) fn take_from(&mut self, hash: u64, rank: u16) {
        let Some(place) = self.find(hash) else { return };
        let Some(slot) = self.arena.get_mut(place) else {
            return;
        };
        slot.holders.retain(|holder| holder.rank != rank);
        if slot.holders.is_empty() {
            self.release(place);
        }
    }

    /// Takes holders out of a few slots that are dead for so long that nobody asks any more.
    pub(super) fn sweep(&mut self, clocks: &[RankClock]) {
        for _ in 0..SWEPT_SLOTS {
            let place = self.turn();
            if let Some(slot) = self
                .arena
                .get_mut(place)
                .filter(|slot| !slot.holders.is_empty())
            {
                slot.holders.retain(|holder| is_remembered(clocks, holder));
                if slot.holders.is_empty() {
                    self.release(place);
                }
            }
        }
    }

    /// Frees the slot nearest to its end among the next few.
    fn evict(&mut self, clocks: &[RankClock]) {
        let mut oldest: Option<(u32, usize)> = None;
        for _ in 0..EVICTION_SAMPLE.min(self.arena.len) {
            let place = self.turn();
            let holders = self.arena.get(place).map_or(&[][..], |slot| &slot.holders);
            let youth = holders
                .iter()
                .map(|holder| youth(clocks, holder))
                .max()
                .unwrap_or(0);
            if oldest.is_none_or(|(least, _)| youth < least) {
                oldest = Some((youth, place));
            }
        }
        if let Some((_, place)) = oldest {
            self.release(place);
        }
    }

    fn turn(&mut self) -> usize {
        let place = self.hand;
        let next = self.hand.saturating_add(1);
        self.hand = if next < self.arena.len { next } else { 0 };
        place
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let is_it = |place: &u32| {
            self.arena
                .get(index(*place))
                .is_some_and(|slot| slot.hash == hash && !slot.holders.is_empty())
        };
        let placed = keyed(self.secret, hash);
        let table = self.tables.get(self.table(placed))?;
        table.find(placed, is_it).map(|place| index(*place))
    }

    /// Which table a block is in, by its keyed hash: by other bits than those that hashbrown takes.
    fn table(&self, placed: u64) -> usize {
        let bits = usize::try_from((placed >> 32) & 0xFF_FFFF).unwrap_or(0);
        bits.checked_rem(self.tables.len()).unwrap_or(0)
    }

    fn put(&mut self, hash: u64, clocks: &[RankClock]) -> usize {
        if self.free == 0 && self.arena.len >= self.max_blocks {
            self.evict(clocks);
        }
        let place = self.take_free();
        if let Some(slot) = self.arena.get_mut(place) {
            slot.hash = hash;
        }
        let placed = keyed(self.secret, hash);
        let (table, arena, secret) = (self.table(placed), &self.arena, self.secret);
        let hash_at = |place: &u32| arena.get(index(*place)).map_or(0, |slot| slot.hash);
        let rehash = |place: &u32| keyed(secret, hash_at(place));
        if let Some(table) = self.tables.get_mut(table) {
            table.insert_unique(placed, u32::try_from(place).unwrap_or(u32::MAX), rehash);
            self.blocks = self.blocks.saturating_add(1);
        }
        place
    }

    /// A slot that nothing is in; its holder comes next.
    fn take_free(&mut self) -> usize {
        let Some(place) = self.free.checked_sub(1) else {
            return self.arena.grow(self.max_blocks);
        };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        self.free = self.arena.get(place).map_or(0, |slot| slot.hash);
        place
    }

    fn release(&mut self, place: usize) {
        let Some(hash) = self.arena.get(place).map(|slot| slot.hash) else {
            return;
        };
        let placed = keyed(self.secret, hash);
        let table = self.table(placed);
        let Some(table) = self.tables.get_mut(table) else {
            return;
        };
        if let Ok(entry) = table.find_entry(placed, |entry| index(*entry) == place) {
            entry.remove();
            self.blocks = self.blocks.saturating_sub(1);
            let next = std::mem::replace(&mut self.free, as_u64(place).saturating_add(1));
            if let Some(slot) = self.arena.get_mut(place) {
                *slot = Slot {
                    hash: next,
                    holders: Holders::new(),
                };
            }
        }
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn as_u64(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX)
}
