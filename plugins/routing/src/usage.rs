//! What a rank says of the tokens of a request, read from the end of its answer.
//!
//! The number of prompt tokens, and of those that came from the rank's cache, stand in `usage`: at the end of a JSON
//! answer, in the last event of a stream, and with Anthropic's messages partly in the first. So only a bounded tail and
//! head of an answer are kept while it passes, never its text; each chunk costs a copy of its last bytes. At the end the
//! tail is read backwards ([`backward`]): from there it is certain what is a key and what is a text of the model that
//! looks like one.
//!
//! An answer without `usage` is normal. One that makes no sense is `None`, too: a negative, broken or absurd number, more
//! tokens cached than there were. Missing counts are unknown, never zero.

mod backward;
mod counts;
mod tail;

use counts::Counts;
use tail::Tail;

/// Bytes of an answer's end that are kept. What vLLM writes from `usage` on takes about 500.
const TAIL_BYTES: usize = 4096;

/// Bytes of a stream's beginning that are kept: `message_start` takes about 300.
const HEAD_BYTES: usize = 1024;

/// Events looked at from the end of a stream: behind the one with `usage` come at most `message_stop` and `[DONE]`.
const LAST_EVENTS: usize = 4;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// One JSON object.
    Json,
    /// Server-sent events, each a JSON object.
    Events,
}

impl AnswerKind {
    /// What a `content-type` says; `None` for what holds no `usage`.
    #[must_use]
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let media = content_type.split(|byte| *byte == b';').next()?;
        let media = media.trim_ascii();
        if media.eq_ignore_ascii_case(b"application/json") {
            Some(Self::Json)
        } else if media.eq_ignore_ascii_case(b"text/event-stream") {
            Some(Self::Events)
        } else {
            None
        }
    }
}

/// Tokens of one request, as its rank counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included; at least 1.
    pub prompt_tokens: u64,
    /// Those of them that were in a cache, if that is said; never more than all.
    pub cached_tokens: Option<u64>,
    /// Tokens of the answer, if that is said.
    pub completion_tokens: Option<u64>,
}

/// Keeps the ends of one answer. Memory: at most 5 KiB, and no more than the answer has.
#[derive(Clone, Debug)]
pub struct UsageReader {
    kind: AnswerKind,
    head: Vec<u8>,
    tail: Tail,
}

impl UsageReader {
    /// Starts on an answer.
    #[must_use]
    pub fn new(kind: AnswerKind) -> Self {
        Self {
            kind,
            head: Vec::new(),
            tail: Tail::new(TAIL_BYTES),
        }
    }

    /// Which bytes of a chunk are to be given to [`push`](Self::push), in this order: at most 5 KiB.
    #[must_use]
    pub fn wanted(&self, chunk_bytes: usize) -> [std::ops::Range<usize>; 2] {
        let head_end = self.head_left().min(chunk_bytes);
        let tail_start = chunk_bytes.saturating_sub(TAIL_BYTES);
        if tail_start <= head_end {
            [0..chunk_bytes, 0..0]
        } else {
            [0..head_end, tail_start..chunk_bytes]
        }
    }

    /// Takes the next bytes of the answer.
    pub fn push(&mut self, bytes: &[u8]) {
        let (head, _) = bytes
            .split_at_checked(self.head_left())
            .unwrap_or((bytes, &[]));
        self.head.extend_from_slice(head);
        self.tail.push(bytes);
    }

    /// What the answer said, now that it has ended.
    #[must_use]
    pub fn finish(self) -> Option<Usage> {
        let is_cut = self.tail.is_cut();
        let tail = self.tail.into_bytes();
        match self.kind {
            AnswerKind::Json => read(backward::find_usage(&tail, is_cut)?)?.usage(),
            AnswerKind::Events => {
                let end = last_event(&tail, is_cut);
                let start = || first_event(&self.head);
                end.map_or_else(start, |end| Some(end.or(start)))?.usage()
            }
        }
    }

    fn head_left(&self) -> usize {
        match self.kind {
            AnswerKind::Json => 0,
            AnswerKind::Events => HEAD_BYTES.saturating_sub(self.head.len()),
        }
    }
}

/// The counts of the last of the last few events that has some.
fn last_event(tail: &[u8], is_cut: bool) -> Option<Counts> {
    // What follows the last line end is an event that broke off.
    let lines = tail.get(..memchr::memrchr(b'\n', tail)?)?;
    let first_end = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
    let whole_from = if is_cut { first_end } else { 0 };
    let (cut, whole) = lines.split_at_checked(whole_from)?;
    let events = whole.rsplit(|byte| *byte == b'\n').filter_map(event);
    let events = events.map(|event| (event, false)).chain([(cut, true)]);
    let mut last = events.take(LAST_EVENTS);
    last.find_map(|(event, is_cut)| read(backward::find_usage(event, is_cut)?))
}

/// The counts in the first event of a stream.
fn first_event(head: &[u8]) -> Option<Counts> {
    let end = memchr::memrchr(b'\n', head)?;
    let lines = head.get(..end)?.split(|byte| *byte == b'\n');
    read(backward::find_usage(
        lines.filter_map(event).next()?,
        false,
    )?)
}

/// The data of a line of an event stream.
fn event(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"data:")
}

/// Reads the value that stands at the front of these bytes.
fn read(value: &[u8]) -> Option<Counts> {
    let values = serde_json::Deserializer::from_slice(value);
    values.into_iter::<Option<Counts>>().next()?.ok()?
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests;
