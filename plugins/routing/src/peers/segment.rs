//! A piece of a VM's ring: what the VM told, in one value of shared data.
//!
//! Layout, little-endian: mark (u16), version (u8), flags (u8), bytes of the snapshot (u32), number (u64), vm (u64),
//! then the snapshot, then the events. The snapshot is what the VM had on its ranks when the segment began, so a
//! reader can begin with any segment.

use crate::wire::Wire;

/// Tells a segment from what others store.
const MARK: u16 = 0x7272;
/// Changes with the layout, and with it the keys.
const VERSION: u8 = 3;
const FLAGS_AT: usize = 3;
const SNAPSHOT_AT: usize = 4;
const IS_CLOSED: u8 = 1;

/// Where the snapshot begins.
pub(crate) const HEADER_BYTES: usize = 24;

/// A segment with more bytes of events is closed. It is written anew with each event, and read as a whole, so small is
/// cheap; each begins with a snapshot, so not too small. With the largest event, and a snapshot of 64 ranks, it stays
/// below 16 KiB; one of 1,024 ranks has 29 KiB.
pub(crate) const SEGMENT_BYTES: usize = 8 * 1024;

/// Segments of a ring. Two MiB for each VM: some thousand prompts, which is what a new VM catches up with.
pub(crate) const RING_SEGMENTS: u64 = 256;

/// A segment that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) number: u64,
    pub(crate) vm: u64,
    /// Whether the next segment has begun.
    pub(crate) is_closed: bool,
    /// Where the events begin, behind the snapshot.
    pub(crate) events_at: usize,
    bytes: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads the header; `None` for anything that is no segment.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut wire = Wire(bytes);
        let is_ours = wire.u16()? == MARK && wire.u8()? == VERSION;
        let flags = wire.u8().filter(|_| is_ours)?;
        let snapshot_bytes = usize::try_from(wire.u32()?).ok()?;
        let segment = Self {
            number: wire.u64()?,
            vm: wire.u64()?,
            is_closed: flags & IS_CLOSED != 0,
            events_at: HEADER_BYTES.saturating_add(snapshot_bytes),
            bytes,
        };
        (segment.events_at <= bytes.len()).then_some(segment)
    }

    /// What stands behind `offset`.
    pub(crate) fn from(&self, offset: usize) -> Wire<'a> {
        Wire(self.bytes.get(offset..).unwrap_or_default())
    }

    /// Its length.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The key of a segment. The number in it changes with the layout, so that versions of the module never meet.
pub(crate) fn segment_key(slot: u16, number: u64) -> String {
    let place = number.checked_rem(RING_SEGMENTS).unwrap_or(0);
    format!("rank_router.{VERSION}.ring.{slot}.{place}")
}

/// The key of a slot's lease.
pub(crate) fn slot_key(slot: u16) -> String {
    format!("rank_router.{VERSION}.slot.{slot}")
}

/// Begins a segment; the snapshot follows, then [`end_snapshot`].
pub(crate) fn begin(bytes: &mut Vec<u8>, number: u64, vm: u64) {
    bytes.clear();
    bytes.extend_from_slice(&MARK.to_le_bytes());
    bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&vm.to_le_bytes());
}

/// Notes that the snapshot ends here.
pub(crate) fn end_snapshot(bytes: &mut [u8]) {
    let snapshot_bytes = bytes.len().saturating_sub(HEADER_BYTES);
    let length = u32::try_from(snapshot_bytes).unwrap_or(0).to_le_bytes();
    let place = bytes.get_mut(SNAPSHOT_AT..SNAPSHOT_AT.saturating_add(length.len()));
    if let Some(place) = place {
        place.copy_from_slice(&length);
    }
}

/// Notes that the next segment begins.
pub(crate) fn close(bytes: &mut [u8]) {
    if let Some(flags) = bytes.get_mut(FLAGS_AT) {
        *flags |= IS_CLOSED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written() -> Vec<u8> {
        let mut bytes = vec![1, 2, 3];
        begin(&mut bytes, 300, 7);
        bytes.extend_from_slice(b"snap");
        end_snapshot(&mut bytes);
        bytes.extend_from_slice(b"events");
        bytes
    }

    #[test]
    fn a_segment_is_read_as_it_was_written() {
        let mut bytes = written();
        let segment = Segment::read(&bytes).unwrap();
        assert_eq!(
            (segment.number, segment.vm, segment.is_closed),
            (300, 7, false)
        );
        assert_eq!(segment.from(segment.events_at).0, b"events");
        assert_eq!(segment.from(HEADER_BYTES).0, b"snapevents");
        assert_eq!((segment.len(), segment.from(99).0), (34, &[][..]));
        close(&mut bytes);
        assert!(Segment::read(&bytes).unwrap().is_closed);
    }

    #[test]
    fn what_is_cut_inside_the_snapshot_is_no_segment() {
        let bytes = written();
        for end in 0..bytes.len() {
            assert_eq!(
                Segment::read(&bytes[..end]).is_some(),
                end >= 28,
                "{end} bytes"
            );
        }
    }

    #[test]
    fn keys_tell_slots_apart_and_come_round() {
        assert_eq!(segment_key(3, 258), "rank_router.3.ring.3.2");
        assert_eq!(segment_key(3, 2), segment_key(3, 258));
        assert_ne!(segment_key(3, 2), segment_key(4, 2));
        assert_ne!(slot_key(3), slot_key(4));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_segment_or_not(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for (place, byte) in bytes.iter_mut().zip([0x72, 0x72, 1]) {
                *place = byte;
            }
            if let Some(segment) = Segment::read(&bytes) {
                prop_assert!(segment.from(segment.events_at).0.len() <= bytes.len());
            }
        }
    }
}
