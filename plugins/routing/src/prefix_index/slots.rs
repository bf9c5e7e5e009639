//! Blocks and their holders in a bounded arena.
//!
//! An arena beside the hash table lets a sweep walk it a few slots at a time: no call ever does more than a
//! bounded amount of cleaning, since nothing can interrupt a callback in the gateway.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{Holder, RankClock, youth};

/// Slots looked at for each block that comes in: more than one, so that sweeping overtakes insertion.
const SWEPT_SLOTS: usize = 3;

/// Slots compared when one has to go although all are alive.
const EVICTION_SAMPLE: usize = 16;

type Holders = SmallVec<[Holder; 2]>;

#[derive(Debug, Default)]
struct Slot {
    hash: u64,
    /// Empty for a free slot.
    holders: Holders,
}

#[derive(Debug)]
pub(super) struct Slots {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    hand: usize,
    max_blocks: usize,
}

impl Slots {
    pub(super) fn new(max_blocks: usize) -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            max_blocks: max_blocks.max(1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn holders(&self, hash: u64) -> &[Holder] {
        let slot = self.find(hash).and_then(|slot| self.slots.get(slot));
        slot.map_or(&[], |slot| &slot.holders)
    }

    /// Gives a block a holder; a block that is not there is put in, in place of another if all room is taken.
    pub(super) fn touch(&mut self, hash: u64, holder: Holder, clocks: &[RankClock]) {
        let place = self.find(hash).unwrap_or_else(|| self.put(hash, clocks));
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        match slot
            .holders
            .iter_mut()
            .find(|known| known.rank == holder.rank)
        {
            Some(known) => *known = holder,
            None => slot.holders.push(holder),
        }
    }

    /// Takes dead holders out of a few slots.
    pub(super) fn sweep(&mut self, clocks: &[RankClock]) {
        for _ in 0..SWEPT_SLOTS {
            let place = self.turn();
            if let Some(slot) = self
                .slots
                .get_mut(place)
                .filter(|slot| !slot.holders.is_empty())
            {
                slot.holders.retain(|holder| youth(clocks, holder) > 0);
                if slot.holders.is_empty() {
                    self.release(place);
                }
            }
        }
    }

    /// Frees the slot nearest to its end among the next few.
    fn evict(&mut self, clocks: &[RankClock]) {
        let mut oldest: Option<(u32, usize)> = None;
        for _ in 0..EVICTION_SAMPLE.min(self.slots.len()) {
            let place = self.turn();
            let holders = self.slots.get(place).map_or(&[][..], |slot| &slot.holders);
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
        self.hand = if next < self.slots.len() { next } else { 0 };
        place
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let is_it = |place: &u32| {
            self.slots
                .get(index(*place))
                .is_some_and(|slot| slot.hash == hash)
        };
        self.table.find(hash, is_it).map(|place| index(*place))
    }

    fn put(&mut self, hash: u64, clocks: &[RankClock]) -> usize {
        if self.free.is_empty() && self.slots.len() >= self.max_blocks {
            self.evict(clocks);
        }
        let place = self.free.pop().map_or(self.slots.len(), index);
        let slot = Slot {
            hash,
            holders: Holders::new(),
        };
        match self.slots.get_mut(place) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        let slots = &self.slots;
        let rehash = |place: &u32| slots.get(index(*place)).map_or(0, |slot| slot.hash);
        self.table
            .insert_unique(hash, u32::try_from(place).unwrap_or(u32::MAX), rehash);
        place
    }

    fn release(&mut self, place: usize) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        slot.holders = Holders::new();
        let hash = slot.hash;
        if let Ok(entry) = self.table.find_entry(hash, |entry| index(*entry) == place) {
            self.free.push(entry.remove().0);
        }
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
