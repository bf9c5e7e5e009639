//! Requests whose body is being read and whose headers are held for a decision.
//!
//! A reader opens an exchange when a request that carries a prompt comes by; a picker that holds the same request
//! joins it. It becomes due when the body has ended or is read to its limit, when the body turns out to be
//! unreadable, or when no byte came for a while: whatever the client does, a held request is decided. Both sides
//! may go away at any time; an exchange ends with the first of them.
//!
//! A body that was decided on early is read on as it passes: its rank will hold all of it, and what its conversation
//! starts with helps to decide on the next turn.
//!
//! Every body, of whatever request, is also looked through to its end for keys that no client may set
//! ([`BodyScanner::found_keys`]): a request with one that its pool refuses is to be refused, whatever was decided on it.
//! Where the model in the body chooses among pools, the rules of the pool that it has chosen count, from the pick on; until
//! then the headers are held, so nothing has reached a rank.

use hashbrown::HashMap;

use crate::refused_keys::WatchedKeys;
use crate::{BodyEnd, BodyScanner, Endpoint, Prefaces, Prompt, PromptReader};
use guard::Guard;

mod guard;
mod watching;

/// When a decision cannot wait longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes seen of the body.
    pub bytes: u64,
    /// Milliseconds since the last byte.
    pub idle_ms: u64,
}

/// How a pool cuts prompts into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCut {
    /// Bytes of a block.
    pub block_bytes: usize,
    /// What block hashes are seeded with; 0 for nothing.
    pub seed: u64,
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
    /// The reader that sees the body.
    pub reader: u32,
    /// The picker that holds the headers.
    pub picker: u32,
    /// What kind of request it is.
    pub endpoint: Endpoint,
    /// Why now.
    pub due: Due,
    /// Whether the body has ended, so that its rank will have all of it at once.
    pub has_ended: bool,
    /// What was read of the prompt.
    pub prompt: Prompt,
    /// Whether the answer is to be streamed, as far as that was read.
    pub is_streamed: bool,
    /// The model's name, if it was read and a header can have it as its value.
    pub model_name: Option<String>,
}

/// A prompt that was decided on early and has been read to its end since.
#[derive(Debug)]
pub struct ReadToEnd {
    /// The picker that held its headers.
    pub picker: u32,
    /// The whole prompt.
    pub prompt: Prompt,
}

/// How far a body that was decided on early is read on: reading costs the worker time, and prompts of more bytes are rare.
const READ_ON_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Debug)]
struct Held {
    picker: u32,
    reader: PromptReader,
    limits: Limits,
    last_byte_ms: u64,
    due: Option<Due>,
}

/// What becomes of a body.
#[derive(Debug)]
enum Stage {
    /// Nobody waits for it, or not yet.
    Open(Box<BodyScanner>),
    /// A picker holds the headers.
    Held(Box<Held>),
    /// The request went on, and the rest of the body is read to know what the rank will hold.
    ReadOn {
        picker: u32,
        reader: Box<PromptReader>,
    },
    /// The request went on, and the rest of the body is only looked through.
    Watched(Box<BodyScanner>),
    /// Nothing more is wanted.
    Over,
}

#[derive(Debug)]
struct Exchange {
    /// What carries a prompt that can be read.
    endpoint: Option<Endpoint>,
    /// Whether the body has ended. Its JSON may be whole long before: a rank waits for the end of the body.
    has_ended: bool,
    guard: Guard,
    stage: Stage,
}

/// All exchanges of a worker, by the reader's number.
///
/// Each holds at most the prompt reader's state, so memory is bounded by the requests that Envoy has open.
#[derive(Debug, Default)]
pub struct Exchanges {
    open: HashMap<u32, Exchange>,
    /// What is looked for in bodies from now on.
    keys: WatchedKeys,
    due: Vec<u32>,
    read: Vec<ReadToEnd>,
    prefaces: Prefaces,
    secret: u64,
}

impl Exchanges {
    /// None yet. Who does not know `secret` can foresee neither kinds of requests nor places in tables.
    #[must_use]
    pub fn keyed(secret: u64) -> Self {
        Self {
            prefaces: Prefaces::keyed(secret),
            secret,
            ..Self::default()
        }
    }

    /// A reader met a request with a body. `endpoint` is there if it carries a prompt that can be read.
    pub fn open(&mut self, reader: u32, endpoint: impl Into<Option<Endpoint>>) {
        let exchange = Exchange {
            endpoint: endpoint.into(),
            has_ended: false,
            guard: Guard::default(),
            stage: Stage::Open(Box::new(BodyScanner::looking_for(self.keys.clone()))),
        };
        self.open.insert(reader, exchange);
    }

    /// Whether a reader is there and sees no prompt that it can read: the body is only looked through.
    #[must_use]
    pub fn sees_no_prompt(&self, reader: u32) -> bool {
        let exchange = self.open.get(&reader);
        exchange.is_some_and(|exchange| exchange.endpoint.is_none())
    }

    /// A picker wants to hold the request; false when there is nothing to wait for: it carries no prompt, the reader is
    /// gone, or another picker has joined. `cut` is its pool's.
    pub fn join(
        &mut self,
        reader: u32,
        picker: u32,
        cut: BlockCut,
        limits: Limits,
        now_ms: u64,
    ) -> bool {
        let Some(exchange) = self.open.get_mut(&reader) else {
            return false;
        };
        let (Stage::Open(scanner), Some(endpoint)) = (&exchange.stage, exchange.endpoint) else {
            return false;
        };
        let reader = PromptReader::with_scanner((**scanner).clone(), endpoint, cut.block_bytes)
            .seeded(cut.seed, self.secret);
        exchange.stage = Stage::Held(Box::new(Held {
            picker,
            reader,
            limits,
            last_byte_ms: now_ms,
            due: None,
        }));
        true
    }

    /// Whether the body of this request is still wanted.
    #[must_use]
    pub fn is_reading(&self, reader: u32) -> bool {
        self.open.get(&reader).is_some_and(Exchange::is_reading)
    }

    /// A piece of the body passed; true when that made the request due.
    pub fn feed(&mut self, reader: u32, piece: &[u8], now_ms: u64) -> bool {
        let Some(exchange) = self.open.get_mut(&reader) else {
            return false;
        };
        exchange.feed(piece, now_ms);
        if exchange.refusal().is_some() {
            return false;
        }
        match &exchange.stage {
            Stage::Held(held) => held
                .due_by_bytes()
                .is_some_and(|due| self.make_due(reader, due)),
            Stage::ReadOn { reader: prompt, .. } => {
                if prompt.is_complete()
                    || prompt.is_unreadable()
                    || prompt.seen_bytes() > READ_ON_BYTES
                {
                    self.end_read_on(reader);
                }
                false
            }
            Stage::Open(_) | Stage::Watched(_) | Stage::Over => false,
        }
    }

    /// The body has ended; true when that made the request due.
    pub fn end_body(&mut self, reader: u32) -> bool {
        if let Some(exchange) = self.open.get_mut(&reader) {
            exchange.has_ended = true;
        }
        self.end_read_on(reader);
        self.make_due(reader, Due::BodyEnd)
    }

    /// Makes every request due for which no byte came for too long, by rising number.
    pub fn expire(&mut self, now_ms: u64) {
        // A clock that was set back makes it due too: waiting until it has caught up would hang the request.
        let is_idle = |held: &Held| now_ms.abs_diff(held.last_byte_ms) >= held.limits.idle_ms;
        let held = self
            .open
            .iter()
            .filter_map(|(reader, exchange)| match &exchange.stage {
                Stage::Held(held) => Some((*reader, held)),
                _ => None,
            });
        let mut idle: Vec<u32> = held
            .filter(|(_, held)| is_idle(held))
            .map(|(reader, _)| reader)
            .collect();
        idle.sort_unstable();
        for reader in idle {
            self.make_due(reader, Due::IdleLimit);
        }
    }

    /// Makes a held request due, because no byte will come before it went on; true when that is news.
    pub fn hurry(&mut self, reader: u32) -> bool {
        self.make_due(reader, Due::IdleLimit)
    }

    /// Takes the requests that are due, in the order in which they became so.
    pub fn take_due(&mut self) -> Vec<Decidable> {
        let due = std::mem::take(&mut self.due);
        due.into_iter()
            .filter_map(|reader| self.take(reader))
            .collect()
    }

    /// Takes the prompts that were read to their end after they were decided on.
    pub fn take_read(&mut self) -> Vec<ReadToEnd> {
        std::mem::take(&mut self.read)
    }

    /// The reader or the picker of a request is gone, or an answer was given without a decision; true when the
    /// request was held until now.
    pub fn close(&mut self, reader: u32) -> bool {
        let closed = self.open.remove(&reader);
        closed.is_some_and(|exchange| matches!(exchange.stage, Stage::Held(_)))
    }

    /// Requests whose headers are held.
    #[must_use]
    pub fn held_requests(&self) -> usize {
        self.open
            .values()
            .filter(|exchange| matches!(exchange.stage, Stage::Held(_)))
            .count()
    }

    fn make_due(&mut self, reader: u32, due: Due) -> bool {
        let Some(Exchange {
            stage: Stage::Held(held),
            ..
        }) = self.open.get_mut(&reader)
        else {
            return false;
        };
        let is_news = held.due.is_none();
        // What ends while it waits for its decision is decided on as whole.
        if is_news || (due == Due::BodyEnd && held.due.is_some_and(Due::is_early)) {
            held.due = Some(due);
        }
        if is_news {
            self.due.push(reader);
        }
        is_news
    }

    fn take(&mut self, reader: u32) -> Option<Decidable> {
        let exchange = self.open.get_mut(&reader)?;
        let Stage::Held(held) = &exchange.stage else {
            return None;
        };
        let due = held.due?;
        let endpoint = exchange.endpoint?;
        let Stage::Held(held) = std::mem::replace(&mut exchange.stage, Stage::Over) else {
            return None;
        };
        let Held {
            picker,
            reader: prompt,
            ..
        } = *held;
        exchange.stage = if due.is_early() {
            Stage::ReadOn {
                picker,
                reader: Box::new(prompt.clone()),
            }
        } else {
            exchange.watched(prompt.scanner())
        };
        let is_end = due == Due::BodyEnd;
        let is_streamed = prompt.is_streamed();
        let model_name = prompt.model_name().map(ToString::to_string);
        let prompt = prompt.finish_with(is_end, &mut self.prefaces);
        Some(Decidable {
            reader,
            picker,
            endpoint,
            due,
            has_ended: exchange.has_ended,
            prompt,
            is_streamed,
            model_name,
        })
    }

    fn end_read_on(&mut self, reader: u32) {
        let Some(exchange) = self.open.get_mut(&reader) else {
            return;
        };
        let stage = std::mem::replace(&mut exchange.stage, Stage::Over);
        let Stage::ReadOn { picker, reader } = stage else {
            exchange.stage = stage;
            return;
        };
        exchange.stage = exchange.watched(reader.scanner());
        let prompt = reader.finish_with(true, &mut self.prefaces);
        if prompt.body_end == BodyEnd::Whole {
            self.read.push(ReadToEnd { picker, prompt });
        }
    }
}

impl Held {
    fn due_by_bytes(&self) -> Option<Due> {
        if self.reader.is_unreadable() {
            Some(Due::Unreadable)
        } else if self.reader.is_complete() {
            Some(Due::BodyEnd)
        } else {
            (self.reader.seen_bytes() >= self.limits.bytes).then_some(Due::ByteLimit)
        }
    }
}

impl Due {
    /// Whether more of the body may come.
    fn is_early(self) -> bool {
        matches!(self, Self::ByteLimit | Self::IdleLimit)
    }
}

#[cfg(test)]
mod tests;
