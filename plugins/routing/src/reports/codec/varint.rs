//! Numbers in as few bytes as they need: seven bits a byte, the lowest first, the top bit set in all but the last.

use super::ReportsError;

const MORE: u8 = 0x80;
const BITS: u32 = 7;

pub(super) fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= BITS;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | MORE);
    }
}

/// Takes bytes apart from the front.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// Bytes left.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReportsError> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(ReportsError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    /// Refuses more than 64 bits, and zeros at the top that no writer leaves.
    pub(super) fn varint(&mut self) -> Result<u64, ReportsError> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & !MORE);
            let shifted = bits.wrapping_shl(shift);
            if shifted.wrapping_shr(shift) != bits || byte == 0 && shift > 0 {
                return Err(ReportsError::Malformed);
            }
            number |= shifted;
            if byte & MORE == 0 {
                return Ok(number);
            }
        }
        Err(ReportsError::Malformed)
    }

    pub(super) fn small_varint(&mut self) -> Result<u32, ReportsError> {
        u32::try_from(self.varint()?).map_err(|_| ReportsError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(u64, usize), ReportsError> {
        let mut reader = Reader::new(bytes);
        let number = reader.varint()?;
        Ok((number, reader.len()))
    }

    #[test]
    fn numbers_take_the_bytes_that_they_need() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (300, &[0xAC, 0x02]),
            (16_384, &[0x80, 0x80, 0x01]),
            (
                u64::MAX,
                &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
            ),
        ] {
            let mut out = Vec::new();
            push_varint(&mut out, number);
            assert_eq!(out, bytes, "{number}");
            assert_eq!(read(bytes), Ok((number, 0)), "{number}");
        }
    }

    #[test]
    fn a_number_ends_where_it_ends() {
        assert_eq!(read(&[0x80, 0x01, 0x05]), Ok((128, 1)));
    }

    #[test]
    fn other_spellings_are_refused() {
        let too_large = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
        let too_long = [0xFF; 11];
        for bytes in [&[0x80, 0x00][..], &[0xFF, 0x00], &too_large, &too_long] {
            assert_eq!(read(bytes), Err(ReportsError::Malformed), "{bytes:?}");
        }
        for bytes in [&[][..], &[0x80], &[0xFF, 0xFF]] {
            assert_eq!(read(bytes), Err(ReportsError::Truncated), "{bytes:?}");
        }
    }

    #[test]
    fn small_numbers_have_32_bits() {
        let read = |number| {
            let mut out = Vec::new();
            push_varint(&mut out, number);
            Reader::new(&out).small_varint()
        };
        assert_eq!(read(u64::from(u32::MAX)), Ok(u32::MAX));
        assert_eq!(read(1 << 32), Err(ReportsError::Malformed));
    }
}
