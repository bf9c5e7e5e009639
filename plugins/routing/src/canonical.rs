//! Bytes for JSON values that do not depend on how the JSON was spelt.
//!
//! Every event becomes its text and a tag, which starts with a NUL; NULs in texts are doubled, so that no two
//! values have the same bytes. White space and escapes are gone by then. The order of an object's keys stays:
//! templates print tools in it. Numbers stay as they are written.

use crate::json::Event;
use crate::{chain, hash_seeded};

/// Hands the canonical bytes of an event to `push`.
pub(crate) fn write(event: Event<'_>, push: &mut impl FnMut(&[u8])) {
    match event {
        Event::ObjectStart => push(b"\0{"),
        Event::ObjectEnd => push(b"\0}"),
        Event::ArrayStart => push(b"\0["),
        Event::ArrayEnd => push(b"\0]"),
        Event::Key(part) | Event::String(part) | Event::Scalar(part) => write_text(part, push),
        Event::KeyEnd => push(b"\0k"),
        Event::StringEnd => push(b"\0s"),
        Event::ScalarEnd => push(b"\0v"),
    }
}

fn write_text(mut part: &[u8], push: &mut impl FnMut(&[u8])) {
    while let Some((run, rest)) = memchr::memchr(0, part).and_then(|at| part.split_at_checked(at)) {
        push(run);
        push(b"\0\0");
        part = rest.get(1..).unwrap_or_default();
    }
    push(part);
}

const PIECE_BYTES: usize = 64;

/// Hash of a value that arrives in parts of any length, in constant memory.
///
/// Hashes pieces of 64 bytes and chains them, so the result does not depend on where the parts were cut.
#[derive(Clone, Debug)]
pub(crate) struct ValueHash {
    piece: [u8; PIECE_BYTES],
    filled: usize,
    chained: u64,
    bytes: u64,
    seed: u64,
}

impl Default for ValueHash {
    fn default() -> Self {
        Self {
            piece: [0; PIECE_BYTES],
            filled: 0,
            chained: 0,
            bytes: 0,
            seed: 0,
        }
    }
}

impl ValueHash {
    /// Hashes under a seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, mut part: &[u8]) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        while !part.is_empty() {
            let free = self.piece.get_mut(self.filled..).unwrap_or_default();
            let (taken, rest) = part.split_at_checked(free.len()).unwrap_or((part, &[]));
            if let Some(free) = free.get_mut(..taken.len()) {
                free.copy_from_slice(taken);
            }
            self.filled = self.filled.saturating_add(taken.len());
            part = rest;
            if self.filled == PIECE_BYTES {
                self.chained = chain(self.chained, hash_seeded(&self.piece, self.seed));
                self.filled = 0;
            }
        }
    }

    /// Gives the hash and the length of what was pushed, and starts anew.
    pub(crate) fn take(&mut self) -> (u64, u64) {
        let rest = self.piece.get(..self.filled).unwrap_or_default();
        let hash = chain(
            chain(self.chained, hash_seeded(rest, self.seed)),
            self.bytes,
        );
        let bytes = self.bytes;
        (self.filled, self.chained, self.bytes) = (0, 0, 0);
        (hash, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(parts: &[&[u8]]) -> u64 {
        let mut hash = ValueHash::default();
        parts.iter().for_each(|part| hash.push(part));
        hash.take().0
    }

    /// The canonical bytes of a document.
    fn written(document: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut scanner = crate::JsonScanner::default();
        let outcome = scanner.feed(document.as_bytes(), &mut |event| {
            write(event, &mut |part| bytes.extend_from_slice(part))
        });
        assert_eq!((outcome, scanner.is_done()), (Ok(()), true), "{document}");
        bytes
    }

    #[test]
    fn spelling_does_not_matter() {
        for (one, other) in [
            (
                r#"{"a":[1,"b"]}"#,
                " { \"\\u0061\" :\n[ 1 , \"\\u0062\" ] } ",
            ),
            (r#"["/"]"#, r#"["\/"]"#),
            ("[\"\u{1F600}\"]", r#"["\ud83d\uDE00"]"#),
        ] {
            assert_eq!(written(one), written(other), "{one} and {other}");
        }
    }

    #[test]
    fn different_values_have_different_bytes() {
        let documents = [
            "[]",
            "[[]]",
            "{}",
            "[{}]",
            "[null]",
            "[\"null\"]",
            "[1]",
            "[1.0]",
            "[\"1\"]",
            "[\"\"]",
            "[\"\",\"\"]",
            r#"["a","b"]"#,
            r#"["ab"]"#,
            r#"["a\u0000sb"]"#,
            r#"["a\u0000\u0000sb"]"#,
            r#"["{}"]"#,
            r#"[{},""]"#,
            r#"["[","]"]"#,
            r#"[[""],""]"#,
            r#"{"a":"b"}"#,
            r#"{"b":"a"}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{},"b":1}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"b":2,"a":1}"#,
            r#"{"a\u0000sb":1}"#,
            r#"["\u0000s"]"#,
            r#"["\u0000","s"]"#,
        ];
        for (place, one) in documents.iter().enumerate() {
            for other in &documents[..place] {
                assert_ne!(written(one), written(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn the_hash_depends_on_the_bytes_and_not_on_the_cuts() {
        let bytes: Vec<u8> = (0..=255).collect();
        let whole = hash(&[&bytes]);
        for at in 0..bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(hash(&[head, tail]), whole, "cut at {at}");
            assert_ne!(hash(&[head]), whole, "only {at} bytes");
        }
    }

    #[test]
    fn taking_starts_anew() {
        let mut value = ValueHash::default();
        value.push(b"one");
        let first = value.take();
        value.push(b"one");
        assert_eq!(value.take(), first);
        assert_ne!(value.take(), first);
    }
}
