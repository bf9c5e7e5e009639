//! What this VM tells the others: a ring of segments that it alone writes.

use std::collections::BTreeMap;

use super::news::{
    self, BLOCKS_PER_EVENT, MOST_REQUESTS, MOST_TOKENS, RankKey, Sent, Span, TakenBack, Totals,
};
use super::segment::{self, SEGMENT_BYTES, segment_key};
use super::shared_memory::SharedMemory;
use crate::{RankLoad, Spell};

/// The writing end of a ring; without a slot it only keeps what a snapshot needs.
///
/// Memory: the segment at hand, and what is on the ranks. Cost of telling: some bytes copied, and at
/// [`flush`](Self::flush) one store of at most 15 KiB.
#[derive(Debug)]
pub(crate) struct Outbox {
    vm: u64,
    slot: Option<u16>,
    number: u64,
    bytes: Vec<u8>,
    snapshot_end: usize,
    /// Closed segments that are not stored yet.
    full: Vec<(u64, Vec<u8>)>,
    is_dirty: bool,
    loads: BTreeMap<RankKey, RankLoad>,
    totals: Totals,
    /// As last told by an event: who follows a ring does not look at snapshots.
    told_totals: Totals,
}

impl Outbox {
    pub(crate) fn new(vm: u64) -> Self {
        Self {
            vm,
            slot: None,
            number: 0,
            bytes: Vec::new(),
            snapshot_end: 0,
            full: Vec::new(),
            is_dirty: false,
            loads: BTreeMap::new(),
            totals: Totals::default(),
            told_totals: Totals::default(),
        }
    }

    pub(crate) fn slot(&self) -> Option<u16> {
        self.slot
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// The number of the segment at hand.
    pub(crate) fn head(&self) -> u64 {
        self.number
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Writes the ring of `slot` from segment `number` on.
    pub(crate) fn join(&mut self, slot: u16, number: u64) {
        self.slot = Some(slot);
        self.full.clear();
        self.begin(number);
    }

    /// The slot belongs to another VM now.
    pub(crate) fn leave(&mut self) {
        self.slot = None;
        self.full.clear();
    }

    /// How many requests this VM holds.
    pub(crate) fn held(&mut self, requests: u32) {
        self.totals.held = requests;
        self.is_dirty = true;
    }

    /// What this VM has on a rank from now on.
    pub(crate) fn load(&mut self, key: RankKey, load: RankLoad) {
        let before = if load == RankLoad::default() {
            self.loads.remove(&key)
        } else {
            self.loads.insert(key, load)
        };
        self.count(before.unwrap_or_default(), load);
        let told = RankLoad {
            queued_tokens: load.queued_tokens.min(MOST_TOKENS),
            held_tokens: load.held_tokens.min(MOST_TOKENS),
            in_flight: load.in_flight.min(MOST_REQUESTS),
            incomplete: load.incomplete.min(MOST_REQUESTS),
        };
        self.append(|bytes| news::write_load(bytes, key, told));
    }

    /// A prompt went to a rank.
    pub(crate) fn prompt(&mut self, key: RankKey, at_ms: u64, sent: &Sent) {
        let mut aged_blocks = sent.aged_blocks;
        for blocks in sent.blocks.chunks(BLOCKS_PER_EVENT) {
            self.append(|bytes| news::write_prompt(bytes, key, at_ms, aged_blocks, blocks));
            aged_blocks = 0;
        }
    }

    /// A rank has not taken in a prompt that it was sent.
    pub(crate) fn taken_back(&mut self, key: RankKey, at_ms: u64, taken: &TakenBack) {
        let (mut aged_blocks, mut held) = (taken.aged_blocks, taken.held);
        for blocks in taken.blocks.chunks(BLOCKS_PER_EVENT) {
            self.append(|bytes| {
                news::write_taken_back(bytes, key, at_ms, aged_blocks, held, blocks);
            });
            aged_blocks = 0;
            held = held.saturating_sub(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
        }
    }

    /// A rank may have lost all that it held.
    pub(crate) fn doubted(&mut self, key: RankKey) {
        self.append(|bytes| news::write_doubted(bytes, key));
    }

    /// A rank delivered what a request of this kind was expected to find.
    pub(crate) fn delivered(&mut self, key: RankKey, kind: u64) {
        self.append(|bytes| news::write_delivered(bytes, key, kind));
    }

    /// A rank has lost what it was sent before `at_ms`.
    pub(crate) fn forgotten(&mut self, key: RankKey, at_ms: u64) {
        self.append(|bytes| news::write_forgotten(bytes, key, at_ms));
    }

    /// How much room a rank was found to have.
    pub(crate) fn capacity(&mut self, key: RankKey, share: u32) {
        self.append(|bytes| news::write_capacity(bytes, key, share));
    }

    /// An attempt on a rank failed.
    pub(crate) fn failed(&mut self, key: RankKey, code: u8, span: Span) {
        self.append(|bytes| news::write_failed(bytes, key, code, span));
    }

    /// How a rank stands that is not plainly in.
    pub(crate) fn standing(&mut self, key: RankKey, spell: &Spell) {
        let spell = spell.encode();
        self.append(|bytes| news::write_standing(bytes, key, &spell));
    }

    /// A rank answered.
    pub(crate) fn answered(&mut self, key: RankKey, span: Span, is_streamed: bool) {
        self.append(|bytes| news::write_answered(bytes, key, span, is_streamed));
    }

    /// Lets the others see what was told since the last time.
    pub(crate) fn flush(&mut self, memory: &mut impl SharedMemory, now_us: u64) {
        if self.is_dirty {
            self.append(|bytes| news::write_told(bytes, now_us));
            self.store(memory);
        }
    }

    fn store(&mut self, memory: &mut impl SharedMemory) {
        let Some(slot) = self.slot.filter(|_| self.is_dirty) else {
            return;
        };
        if self.totals != self.told_totals {
            self.told_totals = self.totals;
            let totals = self.totals;
            self.append(|bytes| news::write_totals(bytes, totals));
        }
        for (number, bytes) in self.full.drain(..) {
            memory.set(&segment_key(slot, number), &bytes, None);
        }
        memory.set(&segment_key(slot, self.number), &self.bytes, None);
        memory.tell(slot);
        self.is_dirty = false;
    }

    /// Stores the segment at hand again: a VM that lost this slot may have written over it before it knew.
    pub(crate) fn repeat(&mut self, memory: &mut impl SharedMemory) {
        self.is_dirty = true;
        self.store(memory);
    }

    fn count(&mut self, before: RankLoad, after: RankLoad) {
        let totals = &mut self.totals;
        totals.in_flight = totals
            .in_flight
            .saturating_sub(before.in_flight)
            .saturating_add(after.in_flight);
        totals.incomplete = totals
            .incomplete
            .saturating_sub(before.incomplete)
            .saturating_add(after.incomplete);
        totals.queued_tokens = totals
            .queued_tokens
            .saturating_sub(before.queued_tokens)
            .saturating_add(after.queued_tokens);
    }

    fn append(&mut self, write: impl Fn(&mut Vec<u8>)) {
        self.is_dirty = true;
        if self.slot.is_none() {
            return;
        }
        write(&mut self.bytes);
        if self.bytes.len().saturating_sub(self.snapshot_end) >= SEGMENT_BYTES {
            segment::close(&mut self.bytes);
            let full = std::mem::take(&mut self.bytes);
            self.full.push((self.number, full));
            self.begin(self.number.saturating_add(1));
        }
    }

    fn begin(&mut self, number: u64) {
        self.number = number;
        self.is_dirty = true;
        segment::begin(&mut self.bytes, number, self.vm);
        news::write_totals(&mut self.bytes, self.totals);
        for (key, load) in &self.loads {
            news::write_load(&mut self.bytes, *key, *load);
        }
        segment::end_snapshot(&mut self.bytes);
        self.snapshot_end = self.bytes.len();
    }
}
