//! Who owns a slot, and for how long without a sign of life.

use crate::wire::Wire;

/// How long a VM counts as alive after its last beat: long against a worker that is busy for a moment, short against
/// what its counts spoil when it is gone.
pub const LEASE_MS: u64 = 2000;

/// How often a VM shows that it is alive: several beats may be late before the lease is over.
pub const BEAT_MS: u64 = 250;

/// A lease of a slot or of an office.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The owner; 0 is nobody.
    pub(crate) vm: u64,
    /// When it ends, in milliseconds since the epoch.
    pub(crate) expires_ms: u64,
    /// The number of the segment that the owner writes.
    pub(crate) head: u64,
}

impl Lease {
    /// Whether nobody can count on the owner any more.
    ///
    /// A lease that ends later than any lease can was given before the clock was set back: it is over too, or a dead
    /// VM would live for hours.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        let most_ms = now_ms.saturating_add(LEASE_MS.saturating_mul(2));
        self.vm == 0 || self.expires_ms <= now_ms || self.expires_ms > most_ms
    }

    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let words = [self.vm, self.expires_ms, self.head];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads a lease; `None` for bytes of another length.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut wire = Wire(bytes);
        let lease = Self {
            vm: wire.u64()?,
            expires_ms: wire.u64()?,
            head: wire.u64()?,
        };
        wire.0.is_empty().then_some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_with_its_time_and_with_a_clock_that_is_set_back() {
        let lease = Lease {
            vm: 7,
            expires_ms: 10_000,
            head: 0,
        };
        for (now_ms, is_over) in [(9999, false), (10_000, true), (6000, false), (5999, true)] {
            assert_eq!(lease.is_over(now_ms), is_over, "at {now_ms}");
        }
        assert!(Lease::default().is_over(0));
    }

    #[test]
    fn a_lease_is_read_as_it_was_written_and_from_nothing_else() {
        let lease = Lease {
            vm: 7,
            expires_ms: u64::MAX,
            head: 3,
        };
        let bytes = lease.to_bytes();
        assert_eq!(Lease::from_bytes(&bytes), Some(lease));
        for end in 0..bytes.len() {
            assert_eq!(Lease::from_bytes(&bytes[..end]), None);
        }
        assert_eq!(Lease::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }
}
