//! Requests whose body is being read and whose headers are held for a decision.
//!
//! A reader opens an exchange when a request that carries a prompt comes by; a picker that holds the same request
//! joins it. It becomes due when the body has ended or is read to its limit, when the body turns out to be
//! unreadable, or when no byte came for a while: whatever the client does, a held request is decided. Both sides
//! may go away at any time; an exchange ends with the first of them.

use hashbrown::HashMap;

use crate::{Endpoint, Prompt, PromptReader};

/// When a decision cannot wait longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes seen of the body.
    pub bytes: u64,
    /// Milliseconds since the last byte.
    pub idle_ms: u64,
}

/// Why a request is decided now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The body has ended.
    BodyEnd,
    /// As many bytes were seen as a decision may wait for.
    ByteLimit,
    /// No byte came for as long as a decision may wait.
    IdleLimit,
    /// The body is no JSON object.
    Unreadable,
}

/// A held request that is to be decided.
#[derive(Debug)]
pub struct Decidable {
    /// The picker that holds the headers.
    pub picker: u32,
    /// Why now.
    pub due: Due,
    /// What was read of the prompt.
    pub prompt: Prompt,
}

#[derive(Debug)]
struct Held {
    picker: u32,
    reader: PromptReader,
    limits: Limits,
    last_byte_ms: u64,
    due: Option<Due>,
}

#[derive(Debug)]
struct Exchange {
    endpoint: Endpoint,
    body_bytes: Option<u64>,
    held: Option<Held>,
}

/// All exchanges of a worker, by the reader's number.
///
/// Each holds at most the prompt reader's state, so memory is bounded by the requests that Envoy has open.
#[derive(Debug, Default)]
pub struct Exchanges {
    open: HashMap<u32, Exchange>,
    due: Vec<u32>,
}

impl Exchanges {
    /// A reader met a request that carries a prompt; `body_bytes` is its announced length.
    pub fn open(&mut self, reader: u32, endpoint: Endpoint, body_bytes: Option<u64>) {
        self.open.insert(
            reader,
            Exchange {
                endpoint,
                body_bytes,
                held: None,
            },
        );
    }

    /// A picker wants to hold the request; false when there is nothing to wait for: the reader is gone, or another
    /// picker has joined.
    pub fn join(
        &mut self,
        reader: u32,
        picker: u32,
        block_bytes: usize,
        limits: Limits,
        now_ms: u64,
    ) -> bool {
        let Some(exchange) = self
            .open
            .get_mut(&reader)
            .filter(|exchange| exchange.held.is_none())
        else {
            return false;
        };
        exchange.held = Some(Held {
            picker,
            reader: PromptReader::new(exchange.endpoint, block_bytes),
            limits,
            last_byte_ms: now_ms,
            due: None,
        });
        true
    }

    /// Whether the body of this request is still wanted.
    #[must_use]
    pub fn is_reading(&self, reader: u32) -> bool {
        self.held(reader).is_some_and(|held| held.due.is_none())
    }

    /// A piece of the body passed; true when that made the request due.
    pub fn feed(&mut self, reader: u32, piece: &[u8], now_ms: u64) -> bool {
        let Some(held) = self.held_mut(reader).filter(|held| held.due.is_none()) else {
            return false;
        };
        held.reader.feed(piece);
        held.last_byte_ms = now_ms;
        let due = if held.reader.is_unreadable() {
            Due::Unreadable
        } else if held.reader.is_complete() {
            Due::BodyEnd
        } else if held.reader.seen_bytes() >= held.limits.bytes {
            Due::ByteLimit
        } else {
            return false;
        };
        self.make_due(reader, due)
    }

    /// The body has ended; true when that made the request due.
    pub fn end_body(&mut self, reader: u32) -> bool {
        self.make_due(reader, Due::BodyEnd)
    }

    /// Makes every request due for which no byte came for too long, by rising number.
    pub fn expire(&mut self, now_ms: u64) {
        let is_idle = |held: &Held| now_ms.saturating_sub(held.last_byte_ms) >= held.limits.idle_ms;
        let reading = self
            .open
            .iter()
            .filter_map(|(reader, exchange)| Some((*reader, exchange.held.as_ref()?)));
        let mut idle: Vec<u32> = reading
            .filter(|(_, held)| is_idle(held))
            .map(|(reader, _)| reader)
            .collect();
        idle.sort_unstable();
        for reader in idle {
            self.make_due(reader, Due::IdleLimit);
        }
    }

    /// Takes the requests that are due, in the order in which they became so.
    pub fn take_due(&mut self) -> Vec<Decidable> {
        let due = std::mem::take(&mut self.due);
        due.into_iter()
            .filter_map(|reader| self.take(reader))
            .collect()
    }

    /// The reader or the picker of a request is gone, or an answer was given without a decision; true when the
    /// request was held until now.
    pub fn close(&mut self, reader: u32) -> bool {
        self.open
            .remove(&reader)
            .is_some_and(|exchange| exchange.held.is_some())
    }

    /// Requests whose headers are held.
    #[must_use]
    pub fn held_requests(&self) -> usize {
        self.open
            .values()
            .filter(|exchange| exchange.held.is_some())
            .count()
    }

    fn held(&self, reader: u32) -> Option<&Held> {
        self.open.get(&reader)?.held.as_ref()
    }

    fn held_mut(&mut self, reader: u32) -> Option<&mut Held> {
        self.open.get_mut(&reader)?.held.as_mut()
    }

    fn make_due(&mut self, reader: u32, due: Due) -> bool {
        let Some(held) = self.held_mut(reader).filter(|held| held.due.is_none()) else {
            return false;
        };
        held.due = Some(due);
        self.due.push(reader);
        true
    }

    fn take(&mut self, reader: u32) -> Option<Decidable> {
        let due = self.held(reader)?.due?;
        let exchange = self.open.remove(&reader)?;
        let held = exchange.held?;
        let is_end = due == Due::BodyEnd;
        let prompt = held.reader.finish(is_end, exchange.body_bytes);
        Some(Decidable {
            picker: held.picker,
            due,
            prompt,
        })
    }
}

#[cfg(test)]
mod tests;
