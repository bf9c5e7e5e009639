//! Another VM, as far as this one has heard it.

use std::ops::Range;

use super::lease::Lease;
use super::news::{self, News};
use super::segment::{HEADER_BYTES, RING_SEGMENTS, Segment, segment_key};
use super::shared_memory::SharedMemory;
use crate::wire::Wire;

/// Segments read in one go from one ring: nothing interrupts a callback, so what is behind waits for the next.
const SEGMENTS_AT_ONCE: usize = 8;

/// Something heard from a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Something happened in the slot's VM.
    News {
        /// The slot.
        slot: u16,
        /// What.
        news: News<'a>,
    },
    /// What the slot's VM had on ranks counts no more: it is gone, or a snapshot follows.
    Cleared {
        /// The slot.
        slot: u16,
    },
}

/// How far a segment was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Nothing is known of the VM: its snapshot comes first.
    Snapshot,
    /// All before this segment was heard, so its snapshot is nothing new.
    Events,
    /// Up to this byte.
    Byte(usize),
}

/// The reading end of a ring.
#[derive(Debug)]
pub(crate) struct Peer {
    slot: u16,
    /// The VM that lives in the slot; 0 for none.
    vm: u64,
    /// The metric when it was last looked at.
    told: Option<u64>,
    /// The segment being read, and how far.
    number: u64,
    mark: Mark,
    /// Older segments that are still to be read.
    missed: Range<u64>,
    /// Where the reading stood at the last beat.
    beat_at: (u64, Mark),
}

impl Peer {
    pub(crate) fn new(slot: u16) -> Self {
        Self {
            slot,
            vm: 0,
            told: None,
            number: 0,
            mark: Mark::Snapshot,
            missed: 0..0,
            beat_at: (0, Mark::Snapshot),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.vm != 0
    }

    /// Begins again with all that the ring holds.
    pub(crate) fn start_over(&mut self, heard: &mut dyn FnMut(Heard<'_>)) {
        if self.is_alive() {
            heard(Heard::Cleared { slot: self.slot });
        }
        *self = Self::new(self.slot);
    }

    /// Takes notice of the slot's lease.
    pub(crate) fn beat(&mut self, lease: &Lease, now_ms: u64, heard: &mut dyn FnMut(Heard<'_>)) {
        let vm = if lease.is_over(now_ms) { 0 } else { lease.vm };
        let is_stuck = self.number < lease.head && self.beat_at == (self.number, self.mark);
        if vm != self.vm || (vm != 0 && is_stuck) {
            self.adopt(vm, lease.head, heard);
        } else if vm == 0 {
            self.miss_up_to(lease.head.saturating_add(1));
        }
        // A metric can be lost, so each beat looks at the data.
        self.told = None;
        self.beat_at = (self.number, self.mark);
    }

    /// This very VM took the slot, and goes on with segment `number`: only what others wrote before is of interest.
    pub(crate) fn take(&mut self, number: u64, heard: &mut dyn FnMut(Heard<'_>)) {
        self.adopt(0, number, heard);
        self.missed.end = self.missed.end.min(number);
    }

    /// Goes on with the segment that the VM writes now; what is older is caught up with.
    fn adopt(&mut self, vm: u64, head: u64, heard: &mut dyn FnMut(Heard<'_>)) {
        if self.vm != 0 {
            heard(Heard::Cleared { slot: self.slot });
        }
        // The dead VM's last segment was not read to its end.
        self.miss_up_to(head.saturating_add(u64::from(vm == 0)));
        self.vm = vm;
        self.number = head;
        self.mark = Mark::Snapshot;
    }

    /// Notes that prompts of segments before `end` are not known yet.
    fn miss_up_to(&mut self, end: u64) {
        let oldest = end.saturating_sub(RING_SEGMENTS.saturating_sub(1));
        let from = if self.missed.is_empty() {
            self.number
        } else {
            self.missed.start
        };
        self.missed = from.max(oldest)..end;
        self.number = self.number.max(end);
    }

    /// Reads what is new; what was heard goes to `heard`.
    pub(crate) fn hear(
        &mut self,
        memory: &mut impl SharedMemory,
        heard: &mut dyn FnMut(Heard<'_>),
    ) {
        if !self.is_alive() {
            return;
        }
        let told = memory.told(self.slot);
        if self.told == Some(told) {
            return;
        }
        let is_at_end = (0..SEGMENTS_AT_ONCE).any(|_| !self.read_segment(memory, heard));
        self.told = is_at_end.then_some(told);
    }

    /// Reads one segment from where the reading stands; false when nothing more is to be had.
    fn read_segment(
        &mut self,
        memory: &impl SharedMemory,
        heard: &mut dyn FnMut(Heard<'_>),
    ) -> bool {
        let stored = memory.get(&segment_key(self.slot, self.number));
        let segment = Segment::read(&stored.bytes)
            .filter(|segment| segment.vm == self.vm && segment.number == self.number);
        let Some(segment) = segment else { return false };
        let offset = match self.mark {
            Mark::Snapshot => {
                heard(Heard::Cleared { slot: self.slot });
                HEADER_BYTES
            }
            Mark::Events => segment.events_at,
            Mark::Byte(offset) => offset,
        };
        // When it was told says nothing where it is heard for the first time.
        let is_late = self.mark == Mark::Snapshot;
        let mut events = segment.from(offset);
        while let Some(news) = news::read(&mut events) {
            if is_late && matches!(news, News::Told { .. }) {
                continue;
            }
            heard(Heard::News {
                slot: self.slot,
                news,
            });
        }
        self.mark = Mark::Byte(segment.len());
        if segment.is_closed {
            self.number = self.number.saturating_add(1);
            self.mark = Mark::Events;
        }
        segment.is_closed
    }

    /// Whether older segments are still to be read.
    pub(crate) fn is_behind(&self) -> bool {
        !self.missed.is_empty()
    }

    /// Reads a few of the older segments for what has its time: prompts and failures. Loads and room are said anew, and a
    /// cache that was lost then has been filled again since. Gives how many it read.
    pub(crate) fn catch_up(
        &mut self,
        memory: &impl SharedMemory,
        segments: usize,
        heard: &mut dyn FnMut(Heard<'_>),
    ) -> usize {
        let mut read = 0usize;
        for number in self.missed.by_ref().take(segments) {
            read = read.saturating_add(1);
            let stored = memory.get(&segment_key(self.slot, number));
            let segment = Segment::read(&stored.bytes).filter(|segment| segment.number == number);
            let mut events =
                segment.map_or(Wire::default(), |segment| segment.from(segment.events_at));
            while let Some(news) = news::read(&mut events) {
                if !ages(&news) {
                    heard(Heard::News {
                        slot: self.slot,
                        news,
                    });
                }
            }
        }
        read
    }
}

/// Whether something is only true until the next of its kind.
fn ages(news: &News<'_>) -> bool {
    use News::{Capacity, Delivered, Doubted, Forgotten, Load, Told, Totals};
    matches!(
        news,
        Load { .. }
            | Totals(_)
            | Told { .. }
            | Doubted { .. }
            | Delivered { .. }
            | Forgotten { .. }
            | Capacity { .. }
    )
}
