//! Decodes the escapes of a JSON string, one byte at a time.

/// What an escape came to: at most a replacement for a lone high surrogate and a character.
pub(super) type Decoded = [Option<char>; 2];

const NOTHING: Decoded = [None, None];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Closed,
    AfterBackslash,
    Unicode {
        digits: u8,
        unit: u16,
    },
}

/// Where in an escape the string is, and a high surrogate that waits for its partner.
///
/// A lone surrogate becomes U+FFFD, as a decoder that replaces errors would do.
#[derive(Clone, Debug, Default)]
pub(super) struct Escapes {
    step: Step,
    high: Option<u16>,
}

impl Escapes {
    pub(super) fn is_open(&self) -> bool {
        self.step != Step::Closed
    }

    pub(super) fn open(&mut self) {
        self.step = Step::AfterBackslash;
    }

    /// Whether a high surrogate waits for its partner.
    pub(super) fn has_high(&self) -> bool {
        self.high.is_some()
    }

    /// Gives up waiting for a low surrogate: what follows is no escape.
    pub(super) fn flush(&mut self) -> Decoded {
        [self.high.take().map(|_| char::REPLACEMENT_CHARACTER), None]
    }

    /// Takes the next byte of an open escape; `None` when it cannot stand there.
    pub(super) fn next(&mut self, byte: u8) -> Option<Decoded> {
        match self.step {
            Step::AfterBackslash if byte == b'u' => {
                self.step = Step::Unicode { digits: 0, unit: 0 };
                Some(NOTHING)
            }
            Step::Unicode { digits, unit } => self.digit(byte, digits, unit),
            _ => {
                self.step = Step::Closed;
                let [lone, _] = self.flush();
                Some([lone, Some(simple(byte)?)])
            }
        }
    }

    fn digit(&mut self, byte: u8, digits: u8, unit: u16) -> Option<Decoded> {
        let value = u16::try_from(char::from(byte).to_digit(16)?).ok()?;
        let unit = unit.wrapping_shl(4) | value;
        if digits < 3 {
            self.step = Step::Unicode {
                digits: digits.saturating_add(1),
                unit,
            };
            return Some(NOTHING);
        }
        self.step = Step::Closed;
        Some(self.unit(unit))
    }

    fn unit(&mut self, unit: u16) -> Decoded {
        if let Some(high) = self.high.take() {
            if let Some(Ok(pair)) = char::decode_utf16([high, unit]).next() {
                return [Some(pair), None];
            }
            return [Some(char::REPLACEMENT_CHARACTER), self.single(unit)];
        }
        [None, self.single(unit)]
    }

    fn single(&mut self, unit: u16) -> Option<char> {
        if (0xD800..0xDC00).contains(&unit) {
            self.high = Some(unit);
            return None;
        }
        Some(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

/// The byte that an escape of two bytes at the start of `bytes` stands for.
pub(super) fn short(bytes: &[u8]) -> Option<u8> {
    let [b'\\', kind, ..] = bytes else {
        return None;
    };
    u8::try_from(simple(*kind)?).ok()
}

fn simple(byte: u8) -> Option<char> {
    Some(match byte {
        b'"' | b'\\' | b'/' => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}
