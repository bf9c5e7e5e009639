//! The events of a document, in a form that does not depend on where its pieces were cut.

use routing::{Event, JsonError, JsonScanner};

/// Events with the parts of each run joined.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Events {
    kinds: Vec<u8>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Events {
    /// Scans a document that comes in pieces, and says how that ended and whether the document is closed.
    pub fn of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Self, Result<(), JsonError>, bool) {
        let mut scanner = JsonScanner::default();
        let mut events = Self::default();
        let mut outcome = Ok(());
        for piece in pieces {
            outcome = scanner.feed(piece, &mut |event| events.push(event));
            if outcome.is_err() {
                break;
            }
        }
        (events, outcome, scanner.is_done())
    }

    /// The events, first to last: a letter for the kind, and the text.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut start = 0;
        self.kinds.iter().zip(&self.ends).map(move |(&kind, &end)| {
            let text = &self.bytes[start..end];
            start = end;
            (kind, text)
        })
    }

    fn push(&mut self, event: Event<'_>) {
        let (kind, text): (u8, &[u8]) = match event {
            Event::ObjectStart => (b'{', b""),
            Event::ObjectEnd => (b'}', b""),
            Event::ArrayStart => (b'[', b""),
            Event::ArrayEnd => (b']', b""),
            Event::Key(part) => (b'k', part),
            Event::KeyEnd => (b'K', b""),
            Event::String(part) => (b's', part),
            Event::StringEnd => (b'S', b""),
            Event::Scalar(part) => (b'v', part),
            Event::ScalarEnd => (b'V', b""),
        };
        let is_run = kind.is_ascii_lowercase();
        if is_run && text.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(text);
        match self.ends.last_mut() {
            Some(end) if is_run && self.kinds.last() == Some(&kind) => *end = self.bytes.len(),
            _ => {
                self.kinds.push(kind);
                self.ends.push(self.bytes.len());
            }
        }
    }
}
