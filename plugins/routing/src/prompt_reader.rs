//! Reads the prompt out of a request's body while the body passes by.
//!
//! One pass, no tree, no copy of the prompt beyond the block in hand. The parts of a prompt may stand in any order
//! in the body, so each is hashed by itself and joined at the end in the order of a chat template: the front
//! ([`fields::FRONT`]: model, salt, template), then the sections (tools, system prompt, messages). Within a
//! message the content makes the blocks; the role is folded into the block in which the message starts; everything
//! else (names, tool calls) follows the content as one hash that does not depend on the order of the keys.
//!
//! Any body is read to a defined end: what is not JSON, or not an object, is [`BodyEnd::Unreadable`]. A top-level field
//! that comes twice counts the last time, as in the ranks' own parser.

mod bypass;
mod fields;
mod key;
mod kind;
mod message;
mod model_name;
mod number;
mod own_preface;
mod place;
mod reading;

use crate::{BodyEnd, BodyScanner, Endpoint, Prefaces, Prompt, chain};
use reading::Reading;

/// Reads one body.
#[derive(Clone, Debug)]
pub struct PromptReader {
    endpoint: Endpoint,
    scanner: BodyScanner,
    reading: Reading,
    seen_bytes: u64,
    failed: bool,
    seed: u64,
}

impl PromptReader {
    /// Starts on a body; blocks hold `block_bytes` of prompt text.
    #[must_use]
    pub fn new(endpoint: Endpoint, block_bytes: usize) -> Self {
        Self {
            endpoint,
            scanner: BodyScanner::default(),
            reading: Reading::new(endpoint, block_bytes),
            seen_bytes: 0,
            failed: false,
            seed: 0,
        }
    }

    /// Hashes with `seed`, 0 for none, and tells kinds of requests apart by hashes that nobody can foresee who does not know
    /// `secret`. To be called before the first byte.
    #[must_use]
    pub fn seeded(self, seed: u64, secret: u64) -> Self {
        Self {
            reading: self.reading.seeded(seed, secret),
            seed,
            ..self
        }
    }

    /// Reads a body with this scanner. Where that has scanned a part of it already, no prompt is to be learnt from the rest.
    #[must_use]
    pub(crate) fn with_scanner(
        scanner: BodyScanner,
        endpoint: Endpoint,
        block_bytes: usize,
    ) -> Self {
        Self {
            failed: scanner.has_begun(),
            scanner,
            ..Self::new(endpoint, block_bytes)
        }
    }

    /// Reads the next piece of the body.
    pub fn feed(&mut self, piece: &[u8]) {
        self.seen_bytes = self
            .seen_bytes
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        let (reading, failed) = (&mut self.reading, self.failed);
        self.scanner.feed(piece, &mut |event| {
            if !failed {
                reading.take(event);
            }
        });
        self.failed |= self.scanner.is_unreadable() || reading.is_no_object;
    }

    /// What the scanner has met, also behind where nothing more can be learnt of a prompt.
    #[must_use]
    pub fn scanner(&self) -> &BodyScanner {
        &self.scanner
    }

    /// Bytes read so far.
    #[must_use]
    pub fn seen_bytes(&self) -> u64 {
        self.seen_bytes
    }

    /// Whether the answer is to be streamed, as far as the body was read. Then its first byte comes when the prompt has
    /// been prefilled, and not when all of it has been generated.
    #[must_use]
    pub fn is_streamed(&self) -> bool {
        self.reading.is_streamed()
    }

    /// The model's name, if the body has named one whole so far and a header can have it as its value. A body that cannot be
    /// read names none: what comes behind the part that could might name another.
    #[must_use]
    pub fn model_name(&self) -> Option<&str> {
        self.reading.model_name().filter(|_| !self.failed)
    }

    /// Whether nothing more can be learnt from the body.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.failed
    }

    /// Whether the body's object is closed; what follows is not read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.failed && self.scanner.is_done()
    }

    /// Gives the prompt as far as it was read; `is_end` says that no more is to come.
    #[must_use]
    pub fn finish(self, is_end: bool) -> Prompt {
        self.finish_with(is_end, &mut Prefaces::default())
    }

    /// As [`finish`](Self::finish), and lets a body that was cut have the preface of a conversation that starts alike,
    /// where its own was not reached.
    #[must_use]
    pub fn finish_with(mut self, is_end: bool, prefaces: &mut Prefaces) -> Prompt {
        let body_end = self.body_end(is_end);
        if body_end == BodyEnd::Unreadable {
            return Prompt::unreadable();
        }
        self.reading.close_open_places();
        let seed = match self.seed {
            0 => self.endpoint.seed(),
            seed => chain(seed, self.endpoint.seed()),
        };
        let (bypasses_cache, kind) = (self.reading.bypasses_cache(), self.reading.kind());
        let is_late = self.reading.is_late();
        let (mut preface, mut main) = self.reading.into_parts();
        let starts = preface.starts(seed, &main);
        match body_end {
            BodyEnd::Whole if is_late => {
                for start in starts.into_iter().flatten() {
                    prefaces.learn(start, preface.preface.clone());
                }
            }
            BodyEnd::Cut => {
                let known = starts
                    .into_iter()
                    .flatten()
                    .find_map(|start| prefaces.get(start));
                preface.borrow_from(known);
            }
            _ => {}
        }
        preface.drop_uncertain(&mut main);
        let preface = preface.preface;
        let [tools, lead] = &preface.sections;
        let mut prompt = Prompt::chained(
            chain(seed, preface.front_hash()),
            &[tools, lead, &main],
            body_end,
        );
        prompt.model = preface.model();
        (prompt.bypasses_cache, prompt.kind) = (bypasses_cache, kind);
        if body_end == BodyEnd::Cut {
            prompt.read_bytes = self.seen_bytes;
        }
        prompt
    }

    fn body_end(&self, is_end: bool) -> BodyEnd {
        match (self.failed, is_end, self.scanner.is_done()) {
            (true, _, _) | (false, true, false) => BodyEnd::Unreadable,
            (false, _, true) => BodyEnd::Whole,
            (false, false, false) => BodyEnd::Cut,
        }
    }
}

#[cfg(test)]
mod tests;
