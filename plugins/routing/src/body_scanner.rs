//! Scans a body as the ranks' own parser would read it, and watches for what a client must not say.
//!
//! The scanner of [`json`](crate::json) is stricter than Python's `json.loads` in two ways that matter to nobody but a
//! client that wants to hide something: bodies in UTF-16 or UTF-32, and values that are nested deeper than it keeps track
//! of. No prompt is read from these, but keys are looked for in them like in any other body. Everything else that
//! stops it, stops Python's parser too, so nothing that follows can count.
//!
//! Cost: that of the scanner. Memory: constant, about 350 bytes, and for a body that is refused 8 more for each key that was met.

mod deep;
mod encoding;

use deep::DeepValue;
use encoding::{Head, Wide};

use crate::json::{Event, JsonError, JsonScanner};
use crate::key_watch::KeyWatch;
use crate::refused_keys::WatchedKeys;

/// Characters of a wide encoding that are scanned at once.
const WIDE_CHARACTERS: usize = 256;

/// Scans one body.
#[derive(Clone, Debug, Default)]
pub struct BodyScanner {
    scanner: JsonScanner,
    keys: KeyWatch,
    head: Head,
    wide: Option<Wide>,
    deep: Option<DeepValue>,
    is_unreadable: bool,
    is_stuck: bool,
}

impl BodyScanner {
    /// Looks for these keys; by default for those of the list.
    #[must_use]
    pub(crate) fn looking_for(keys: WatchedKeys) -> Self {
        Self {
            keys: KeyWatch::new(keys),
            ..Self::default()
        }
    }

    /// Scans the next piece. Reports to `sink` what it holds, up to where the body becomes unreadable.
    pub fn feed(&mut self, piece: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        if self.is_over() {
            return;
        }
        if self.head.is_full() {
            return self.feed_known(piece, sink);
        }
        let rest = self.head.fill(piece);
        match self.head.wide_encoding() {
            Some(wide) => {
                self.begin_wide(wide);
                let head = self.head.bytes();
                self.feed_known(&head, sink);
                self.feed_known(rest, sink);
            }
            None => self.feed_known(piece, sink),
        }
    }

    /// Whether any of the body was scanned.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.head.has_begun()
    }

    /// The keys that were met of those that no client may set, each once, in the order in which they came.
    pub fn found_keys(&self) -> impl Iterator<Item = &str> {
        self.keys.found()
    }

    /// How many values of a top-level `model` have begun.
    #[must_use]
    pub fn models(&self) -> u32 {
        self.keys.models()
    }

    /// Whether no prompt can be read from the body: it is no JSON object in UTF-8, or too deep.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.is_unreadable || self.keys.is_no_object()
    }

    /// Whether the body's value is closed; what follows is not scanned.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.scanner.is_done()
    }

    /// Whether nothing that may follow can change what is known.
    #[must_use]
    pub fn is_over(&self) -> bool {
        // Only the whole head tells the encoding, and so whether what was scanned was understood.
        self.head.is_full() && (self.is_done() || self.is_stuck || self.keys.is_no_object())
    }

    fn begin_wide(&mut self, wide: Wide) {
        self.scanner = JsonScanner::default();
        self.keys.start_over();
        self.wide = Some(wide);
        self.is_unreadable = true;
        self.is_stuck = false;
    }

    fn feed_known(&mut self, piece: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let Some(mut wide) = self.wide.take() else {
            return self.feed_plain(piece, sink);
        };
        let mut characters = [0; WIDE_CHARACTERS];
        let mut rest = piece;
        while !rest.is_empty() {
            let (decoded, behind) = wide.decode(rest, &mut characters);
            self.feed_plain(decoded, sink);
            rest = behind;
        }
        self.wide = Some(wide);
    }

    fn feed_plain(&mut self, piece: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        let mut rest = piece;
        while !rest.is_empty() && !self.is_stuck {
            let used = match self.deep.as_mut() {
                Some(deep) => deep.skip(rest),
                None => self.scan(rest, sink),
            };
            self.leave_deep();
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Gives how many bytes were used: fewer than there are where a value that is too deep begins.
    fn scan(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) -> usize {
        let before = self.scanner.offset();
        let (keys, is_readable) = (&mut self.keys, !self.is_unreadable);
        let scanned = self.scanner.feed(bytes, &mut |event| {
            keys.take(event);
            if is_readable {
                sink(event);
            }
        });
        match scanned {
            // What follows a whole value is the rank's to judge.
            Err(_) if self.scanner.is_done() => {}
            Err(JsonError::TooDeep { offset }) => {
                self.is_unreadable = true;
                self.deep = Some(DeepValue::default());
                return usize::try_from(offset.saturating_sub(before)).unwrap_or(usize::MAX);
            }
            Err(JsonError::Unexpected { .. }) => {
                self.is_unreadable = true;
                self.is_stuck = true;
            }
            Ok(()) => {}
        }
        bytes.len()
    }

    fn leave_deep(&mut self) {
        if let Some(deep) = self.deep.take_if(|deep| deep.is_closed()) {
            self.scanner.value_skipped(deep.bytes());
        }
    }
}

#[cfg(test)]
mod tests;
