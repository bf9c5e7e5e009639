//! Numbers as little-endian bytes, for what VMs leave in shared memory.
//!
//! Reading is total: anything can stand in shared memory, because other plugins of the gateway write there too.

/// Takes numbers off the front of bytes; every method gives `None` once they run out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wire<'a>(pub(crate) &'a [u8]);

impl<'a> Wire<'a> {
    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian_and_end_with_the_bytes() {
        let mut wire = Wire(&[1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9, 8]);
        assert_eq!(
            (wire.u8(), wire.u16(), wire.u32(), wire.u64()),
            (Some(1), Some(2), Some(3), Some(4))
        );
        assert_eq!(wire.u32(), None);
        assert_eq!(wire.bytes(2), Some(&[9, 8][..]));
        assert_eq!((wire.bytes(0), wire.u8()), (Some(&[][..]), None));
    }
}
