//! Reads JSON in pieces, as the body arrives, and reports what it meets.
//!
//! serde_json and the other well-kept parsers for wasm32 want a whole document, or at least a whole string: a
//! prompt is one string of any length, and a body that is cut for an early decision ends inside it. This
//! scanner keeps only its place (about 200 bytes), hands out each run of a string as it comes, and can stop at
//! any byte. It checks structure, not spelling: numbers and literals pass as they are written, raw control
//! characters in strings are let through, because the rank judges the body and a router that is stricter than
//! the rank would lose prefixes.
//!
//! Cost: linear in bytes; strings go by in runs found with memchr. Memory: constant.

mod escape;
mod gathered;
mod nesting;

use escape::{Decoded, Escapes};
use gathered::Gathered;
use nesting::Nesting;

/// Something met in the document. Strings, keys and scalars come in any number of parts, then their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// A run of an object's key, escapes decoded.
    Key(&'a [u8]),
    /// The key is whole.
    KeyEnd,
    /// A run of a string, escapes decoded to UTF-8.
    String(&'a [u8]),
    /// The string is whole.
    StringEnd,
    /// A run of a number, `true`, `false` or `null`, as written.
    Scalar(&'a [u8]),
    /// The scalar is whole.
    ScalarEnd,
}

/// Why a document cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// This byte, at this offset, cannot stand here.
    Unexpected {
        /// The byte.
        byte: u8,
        /// Its place in the document.
        offset: u64,
    },
    /// More than 1,024 containers are open at this offset.
    TooDeep {
        /// The place in the document.
        offset: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrArrayEnd,
    KeyOrObjectEnd,
    Key,
    Colon,
    CommaOrEnd,
    String { is_key: bool },
    Scalar,
    Done,
}

/// A JSON scanner that is fed in pieces.
#[derive(Clone, Debug)]
pub struct JsonScanner {
    state: State,
    nesting: Nesting,
    escapes: Escapes,
    offset: u64,
}

impl Default for JsonScanner {
    fn default() -> Self {
        Self {
            state: State::Value,
            nesting: Nesting::default(),
            escapes: Escapes::default(),
            offset: 0,
        }
    }
}

impl JsonScanner {
    /// Reads the next piece and reports what it holds to `sink`.
    ///
    /// # Errors
    ///
    /// What cannot be JSON ends the reading; all events before it have been reported.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), JsonError> {
        while !bytes.is_empty() {
            let used = match self.state {
                State::String { is_key } => self.string(bytes, is_key, sink)?,
                State::Scalar => self.scalar(bytes, sink),
                _ => self.structure(bytes, sink)?,
            };
            self.offset = self
                .offset
                .saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether the top-level value is closed. A top-level scalar never is: nothing marks its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes were read without a mistake.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// A value that was too deep has been passed over, in so many bytes: reading goes on behind it.
    pub(crate) fn value_skipped(&mut self, bytes: u64) {
        self.offset = self.offset.saturating_add(bytes);
        self.after_value();
    }

    fn string(
        &mut self,
        bytes: &[u8],
        is_key: bool,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, JsonError> {
        let mut part = |run: &[u8]| {
            sink(if is_key {
                Event::Key(run)
            } else {
                Event::String(run)
            })
        };
        if self.escapes.is_open() {
            return self.escape(bytes, &mut part);
        }
        let run_bytes = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        let (run, rest) = bytes.split_at_checked(run_bytes).unwrap_or((bytes, &[]));
        if run_bytes > 0 || rest.first() == Some(&b'"') {
            emit(self.escapes.flush(), &mut part);
        }
        match rest.first() {
            Some(b'"') => {
                part_unless_empty(run, &mut part);
                self.end_string(is_key, sink);
                Ok(run_bytes.saturating_add(1))
            }
            Some(_) if !self.escapes.has_high() => Ok(self.short_escapes(bytes, &mut part)),
            Some(_) => {
                part_unless_empty(run, &mut part);
                self.escapes.open();
                Ok(run_bytes.saturating_add(1))
            }
            None => {
                part_unless_empty(run, &mut part);
                Ok(run_bytes)
            }
        }
    }

    /// One byte of an escape that is open.
    fn escape(&mut self, bytes: &[u8], part: &mut impl FnMut(&[u8])) -> Result<usize, JsonError> {
        let byte = bytes.first().copied().unwrap_or_default();
        let offset = self.offset;
        let decoded = self
            .escapes
            .next(byte)
            .ok_or(JsonError::Unexpected { byte, offset })?;
        emit(decoded, part);
        Ok(1)
    }

    /// Gathers runs and the escapes of two bytes between them, so that text with many of them is handed out in few long
    /// parts; gives how many bytes that were.
    fn short_escapes(&mut self, bytes: &[u8], part: &mut impl FnMut(&[u8])) -> usize {
        let mut gathered = Gathered::default();
        let mut used = 0usize;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            used = used.saturating_add(gathered.run(rest, part));
            let rest = bytes.get(used..).unwrap_or_default();
            let Some(character) = escape::short(rest) else {
                break;
            };
            gathered.push(character, part);
            used = used.saturating_add(2);
        }
        gathered.flush(part);
        // What stopped it: the string's end, an escape of another kind, or the end of the piece.
        if bytes.get(used) == Some(&b'\\') {
            self.escapes.open();
            used = used.saturating_add(1);
        }
        used
    }

    fn end_string(&mut self, is_key: bool, sink: &mut impl FnMut(Event<'_>)) {
        if is_key {
            sink(Event::KeyEnd);
            self.state = State::Colon;
        } else {
            sink(Event::StringEnd);
            self.after_value();
        }
    }

    fn scalar(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) -> usize {
        let run_bytes = bytes
            .iter()
            .position(|&byte| !is_scalar(byte))
            .unwrap_or(bytes.len());
        if let Some(run) = bytes.get(..run_bytes).filter(|run| !run.is_empty()) {
            sink(Event::Scalar(run));
        }
        if run_bytes < bytes.len() {
            sink(Event::ScalarEnd);
            self.after_value();
        }
        run_bytes
    }

    fn structure(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, JsonError> {
        let byte = bytes.first().copied().unwrap_or_default();
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') || self.is_byte_order_mark(byte) {
            return Ok(1);
        }
        match (self.state, byte) {
            (State::Value | State::ValueOrArrayEnd, b'{') => {
                self.open(true, State::KeyOrObjectEnd, sink)?
            }
            (State::Value | State::ValueOrArrayEnd, b'[') => {
                self.open(false, State::ValueOrArrayEnd, sink)?
            }
            (State::Value | State::ValueOrArrayEnd, b'"') => {
                self.state = State::String { is_key: false }
            }
            (State::KeyOrObjectEnd | State::Key, b'"') => {
                self.state = State::String { is_key: true }
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::CommaOrEnd, b',') => self.state = self.nesting.after_comma(),
            (State::KeyOrObjectEnd, b'}') => self.close(sink),
            (State::ValueOrArrayEnd, b']') => self.close(sink),
            (State::CommaOrEnd, b'}') if self.nesting.in_object() => self.close(sink),
            (State::CommaOrEnd, b']') if !self.nesting.in_object() => self.close(sink),
            (State::Value | State::ValueOrArrayEnd, _) if is_scalar(byte) => {
                self.state = State::Scalar;
                return Ok(0);
            }
            _ => {
                return Err(JsonError::Unexpected {
                    byte,
                    offset: self.offset,
                });
            }
        }
        Ok(1)
    }

    /// Python's json.loads, which the ranks use, skips a UTF-8 byte order mark.
    fn is_byte_order_mark(&self, byte: u8) -> bool {
        matches!((self.offset, byte), (0, 0xEF) | (1, 0xBB) | (2, 0xBF))
            && self.state == State::Value
    }

    fn open(
        &mut self,
        object: bool,
        state: State,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), JsonError> {
        let fits = self.nesting.open(object);
        if !fits {
            return Err(JsonError::TooDeep {
                offset: self.offset,
            });
        }
        sink(if object {
            Event::ObjectStart
        } else {
            Event::ArrayStart
        });
        self.state = state;
        Ok(())
    }

    fn close(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let event = if self.nesting.in_object() {
            Event::ObjectEnd
        } else {
            Event::ArrayEnd
        };
        sink(event);
        self.nesting.close();
        self.after_value();
    }

    fn after_value(&mut self) {
        self.state = if self.nesting.is_empty() {
            State::Done
        } else {
            State::CommaOrEnd
        };
    }
}

fn part_unless_empty(run: &[u8], part: &mut impl FnMut(&[u8])) {
    if !run.is_empty() {
        part(run);
    }
}

fn emit(decoded: Decoded, part: &mut impl FnMut(&[u8])) {
    for character in decoded.into_iter().flatten() {
        part(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests;
