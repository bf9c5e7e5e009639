//! The encodings that Python's `json.loads` finds out by itself.
//!
//! It tells them by a byte order mark, or by where zeros are in the first four bytes, as RFC 4627 section 3 had it.

/// What a character that is not ASCII becomes: a byte that can stand in a string and nowhere else, as the character can.
const OTHER: u8 = 0xFF;
const BYTE_ORDER_MARK: u32 = 0xFEFF;

/// Bytes that tell the encoding.
const HEAD_BYTES: usize = 4;

/// The first bytes of a body.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    bytes: [u8; HEAD_BYTES],
    filled: usize,
}

impl Head {
    pub(super) fn is_full(&self) -> bool {
        self.filled == HEAD_BYTES
    }

    pub(super) fn has_begun(&self) -> bool {
        self.filled > 0
    }

    pub(super) fn bytes(&self) -> [u8; HEAD_BYTES] {
        self.bytes
    }

    /// Takes what is missing from a piece; gives the rest of it.
    pub(super) fn fill<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let free = self.bytes.get_mut(self.filled..).unwrap_or_default();
        let taken = free.len().min(piece.len());
        for (to, from) in free.iter_mut().zip(piece) {
            *to = *from;
        }
        self.filled = self.filled.saturating_add(taken);
        piece.get(taken..).unwrap_or_default()
    }

    /// The encoding, if the head is whole and it is not UTF-8.
    pub(super) fn wide_encoding(&self) -> Option<Wide> {
        if !self.is_full() {
            return None;
        }
        let (unit_bytes, is_big_endian) = match self.bytes {
            [0, 0, 0xFE, 0xFF] => (4, true),
            [0xFF, 0xFE, 0, 0] => (4, false),
            [0xFE, 0xFF, ..] => (2, true),
            [0xFF, 0xFE, ..] => (2, false),
            [0, 0, ..] => (4, true),
            [0, ..] => (2, true),
            [_, 0, 0, 0] => (4, false),
            [_, 0, ..] => (2, false),
            _ => return None,
        };
        Some(Wide {
            unit_bytes,
            is_big_endian,
            ..Wide::default()
        })
    }
}

/// A decoder of UTF-16 or UTF-32, as far as the structure of JSON and ASCII keys need it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wide {
    unit_bytes: usize,
    is_big_endian: bool,
    unit: u32,
    filled: usize,
    has_begun: bool,
}

impl Wide {
    /// Decodes bytes until there are no more of them or no more place; gives the characters and the bytes that are left.
    pub(super) fn decode<'a, 'b>(
        &mut self,
        bytes: &'a [u8],
        place: &'b mut [u8],
    ) -> (&'b [u8], &'a [u8]) {
        let (mut used, mut written) = (0usize, 0usize);
        for byte in bytes {
            let Some(free) = place.get_mut(written) else {
                break;
            };
            used = used.saturating_add(1);
            if let Some(character) = self.next(*byte) {
                *free = character;
                written = written.saturating_add(1);
            }
        }
        (
            place.get(..written).unwrap_or_default(),
            bytes.get(used..).unwrap_or_default(),
        )
    }

    fn next(&mut self, byte: u8) -> Option<u8> {
        let place = if self.is_big_endian {
            self.unit_bytes
                .saturating_sub(self.filled)
                .saturating_sub(1)
        } else {
            self.filled
        };
        let shift = u32::try_from(place.saturating_mul(8)).unwrap_or(0);
        self.unit |= u32::from(byte).checked_shl(shift).unwrap_or(0);
        self.filled = self.filled.saturating_add(1);
        if self.filled < self.unit_bytes {
            return None;
        }
        self.filled = 0;
        let unit = std::mem::take(&mut self.unit);
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if is_first && unit == BYTE_ORDER_MARK {
            return None;
        }
        Some(
            u8::try_from(unit)
                .ok()
                .filter(u8::is_ascii)
                .unwrap_or(OTHER),
        )
    }
}
