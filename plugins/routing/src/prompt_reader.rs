//! Reads the prompt out of a request's body while the body passes by.
//!
//! One pass, no tree, no copy of the prompt beyond the block in hand. The parts of a prompt may stand in any order
//! in the body, so each is hashed by itself and joined at the end in the order of a chat template: what stands in
//! front (model, salt, template: [`FRONT_FIELDS`]), the tools, the messages. Within a message the content makes the
//! blocks; the role is folded into the block in which the message starts; everything else (names, tool calls)
//! follows the content as one hash that does not depend on the order of the keys.
//!
//! Any body is read to a defined end: what is not JSON, or not an object, is [`BodyEnd::Unreadable`]. A top-level field
//! that comes twice counts the last time, as in the ranks' own parser.

mod key;
mod place;

use crate::canonical::{self, ValueHash};
use crate::json::{Event, JsonScanner};
use crate::{BlockStream, BodyEnd, Endpoint, Prompt, chain, hash_bytes};
use key::Key;
use place::{Place, Target};

/// Top-level fields that change every token behind them, whatever their order.
const FRONT_FIELDS: [&[u8]; 6] = [
    b"model",
    b"cache_salt",
    b"chat_template",
    b"chat_template_kwargs",
    b"documents",
    b"add_special_tokens",
];

/// Ends a message in the stream of blocks: a byte that JSON text cannot hold unescaped.
const MESSAGE_END: &[u8] = b"\x1e";
/// Ends a part of a message's content.
const PART_END: &[u8] = b"\x1f";

/// The message whose object is open.
#[derive(Debug, Default)]
struct Message {
    number: u64,
    first_block: usize,
    role: Option<u64>,
    others: u64,
    others_bytes: u64,
}

/// Reads one body.
#[derive(Debug)]
pub struct PromptReader {
    endpoint: Endpoint,
    scanner: JsonScanner,
    reading: Reading,
    seen_bytes: u64,
    failed: bool,
}

impl PromptReader {
    /// Starts on a body; blocks hold `block_bytes` of prompt text.
    #[must_use]
    pub fn new(endpoint: Endpoint, block_bytes: usize) -> Self {
        Self {
            endpoint,
            scanner: JsonScanner::default(),
            reading: Reading::new(endpoint, block_bytes),
            seen_bytes: 0,
            failed: false,
        }
    }

    /// Reads the next piece of the body.
    pub fn feed(&mut self, piece: &[u8]) {
        self.seen_bytes = self
            .seen_bytes
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.failed {
            return;
        }
        let reading = &mut self.reading;
        let outcome = self.scanner.feed(piece, &mut |event| reading.take(event));
        self.failed = outcome.is_err() || reading.is_no_object;
    }

    /// Bytes read so far.
    #[must_use]
    pub fn seen_bytes(&self) -> u64 {
        self.seen_bytes
    }

    /// Whether nothing more can be learnt from the body.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.failed
    }

    /// Whether the body's object is closed: only white space can follow.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.failed && self.scanner.is_done()
    }

    /// Gives the prompt as far as it was read; `is_end` says that no more is to come, `body_bytes` is the body's
    /// whole length where it is known.
    #[must_use]
    pub fn finish(mut self, is_end: bool, body_bytes: Option<u64>) -> Prompt {
        let body_end = match (self.failed, is_end, self.scanner.is_done()) {
            (true, _, _) | (false, true, false) => BodyEnd::Unreadable,
            (false, _, true) => BodyEnd::Whole,
            (false, false, false) => BodyEnd::Cut,
        };
        self.reading.close_open_places();
        let front = self
            .reading
            .front
            .iter()
            .fold(0u64, |sum, field| sum.wrapping_add(*field));
        let seed = chain(self.endpoint.seed(), front);
        let mut prompt = Prompt::chained(seed, [&self.reading.tools, &self.reading.text], body_end);
        match body_end {
            BodyEnd::Whole => prompt,
            BodyEnd::Cut => prompt.scaled(self.seen_bytes, body_bytes),
            BodyEnd::Unreadable => {
                prompt.blocks.clear();
                prompt
            }
        }
    }
}

/// What the events have come to.
#[derive(Debug)]
struct Reading {
    prompt_field: &'static [u8],
    places: Vec<Place>,
    key: Key,
    /// Where the value at hand goes while it is read, with the containers open inside it.
    at_hand: Option<(Target, usize)>,
    value: ValueHash,
    /// Key and value of each of the [`FRONT_FIELDS`], hashed; 0 for one that is not there.
    front: [u64; FRONT_FIELDS.len()],
    tools: BlockStream,
    text: BlockStream,
    message: Message,
    part_others: u64,
    plain_part: u64,
    is_no_object: bool,
}

impl Reading {
    fn new(endpoint: Endpoint, block_bytes: usize) -> Self {
        Self {
            prompt_field: endpoint.prompt_field(),
            places: Vec::with_capacity(place::MAX_PLACES),
            key: Key::default(),
            at_hand: None,
            value: ValueHash::default(),
            front: [0; FRONT_FIELDS.len()],
            tools: BlockStream::new(block_bytes),
            text: BlockStream::new(block_bytes),
            message: Message::default(),
            part_others: 0,
            plain_part: plain_part(),
            is_no_object: false,
        }
    }

    fn take(&mut self, event: Event<'_>) {
        match (self.at_hand, self.places.last().copied(), event) {
            (Some((target, depth)), _, event) => self.go_on(target, depth, event),
            (None, None, Event::ObjectStart) if !self.is_no_object => self.places.push(Place::Top),
            (None, None, _) => self.is_no_object = true,
            (None, Some(_), Event::Key(part)) => self.key.push(part),
            (None, Some(_), Event::KeyEnd) => self.key.end(),
            (None, Some(place), Event::ObjectEnd | Event::ArrayEnd) => self.leave(place),
            (None, Some(place), event) => self.begin(self.target(place), event),
        }
    }

    /// Where a value goes, by the place it stands in and its key.
    fn target(&self, place: Place) -> Target {
        let key = self.key.name();
        match place {
            Place::Top if key == self.prompt_field => Target::Prompt,
            Place::Top if key == b"tools" => Target::Tools,
            Place::Top => FRONT_FIELDS
                .iter()
                .position(|field| *field == key)
                .map_or(Target::Skip, Target::Front),
            Place::Messages => Target::Message,
            Place::Message if key == b"role" => Target::Role,
            Place::Message if key == b"content" => Target::Content,
            Place::Message => Target::MessageOther(self.key.hash()),
            Place::Parts => Target::Part,
            Place::Part if key == b"text" => Target::PartText,
            Place::Part => Target::PartOther(self.key.hash()),
        }
    }

    fn begin(&mut self, target: Target, event: Event<'_>) {
        if target == Target::Prompt {
            self.restart_text();
        }
        if target == Target::Tools {
            self.tools.restart();
        }
        match (target, event) {
            (Target::Prompt, Event::ArrayStart) if self.prompt_field == b"messages" => {
                self.places.push(Place::Messages);
            }
            (Target::Message, Event::ObjectStart) => self.begin_message(),
            (Target::Content, Event::ArrayStart) => self.places.push(Place::Parts),
            (Target::Part, Event::ObjectStart) => self.places.push(Place::Part),
            _ => self.go_on(target, 0, event),
        }
    }

    /// Takes an event of the value at hand, `depth` containers deep inside it.
    fn go_on(&mut self, target: Target, depth: usize, event: Event<'_>) {
        let depth = match event {
            Event::ObjectStart | Event::ArrayStart => depth.saturating_add(1),
            Event::ObjectEnd | Event::ArrayEnd => depth.saturating_sub(1),
            _ => depth,
        };
        self.deliver(target, depth, event);
        let is_end = matches!(
            event,
            Event::ObjectEnd | Event::ArrayEnd | Event::StringEnd | Event::ScalarEnd
        ) && depth == 0;
        self.at_hand = (!is_end).then_some((target, depth));
        if is_end {
            self.end_value(target);
        }
    }

    fn deliver(&mut self, target: Target, depth: usize, event: Event<'_>) {
        let (text, tools, value) = (&mut self.text, &mut self.tools, &mut self.value);
        match (target, event) {
            (Target::Skip, _) | (Target::Content, Event::Scalar(_) | Event::ScalarEnd) => {}
            (
                Target::Prompt
                | Target::Content
                | Target::Part
                | Target::PartText
                | Target::Message,
                event,
            ) => match event {
                Event::String(part) if depth == 0 => text.push(part),
                Event::StringEnd if depth == 0 => {}
                event => canonical::write(event, &mut |bytes| text.push(bytes)),
            },
            (Target::Tools, event) => canonical::write(event, &mut |bytes| tools.push(bytes)),
            (_, event) => canonical::write(event, &mut |bytes| value.push(bytes)),
        }
    }

    fn end_value(&mut self, target: Target) {
        if !target.is_hashed() {
            return;
        }
        let (hash, bytes) = self.value.take();
        match target {
            Target::Front(field) => {
                if let Some(front) = self.front.get_mut(field) {
                    *front = chain(self.key.hash(), hash);
                }
            }
            Target::Role => self.message.role = Some(hash),
            Target::MessageOther(key) => {
                self.message.others = self.message.others.wrapping_add(chain(key, hash));
                self.message.others_bytes = self.message.others_bytes.saturating_add(bytes);
            }
            Target::PartOther(key) => {
                self.part_others = self.part_others.wrapping_add(chain(key, hash))
            }
            _ => {}
        }
    }

    fn leave(&mut self, place: Place) {
        self.places.pop();
        match place {
            Place::Message => self.end_message(),
            Place::Part => self.end_part(),
            Place::Top | Place::Messages | Place::Parts => {}
        }
    }

    fn begin_message(&mut self) {
        self.places.push(Place::Message);
        self.message = Message {
            number: self.message.number.wrapping_add(1),
            first_block: self.text.position(),
            ..Message::default()
        };
    }

    fn end_message(&mut self) {
        self.fold_role(self.message.role.unwrap_or(0));
        self.text.weigh(self.message.others_bytes);
        if self.message.others != 0 {
            self.text.push(&self.message.others.to_le_bytes());
        }
        self.text.push(MESSAGE_END);
    }

    /// The number makes the order of several messages in one block count.
    fn fold_role(&mut self, role: u64) {
        self.text
            .fold(self.message.first_block, chain(self.message.number, role));
    }

    /// A part that is nothing but text is the same prompt as that text alone.
    fn end_part(&mut self) {
        let others = std::mem::take(&mut self.part_others);
        if others != self.plain_part {
            self.text.push(PART_END);
            self.text.push(&others.to_le_bytes());
        }
    }

    /// A cut inside a message: with its role known its blocks are certain, without it they are not. Inside the tools:
    /// all messages stand behind what is missing.
    fn close_open_places(&mut self) {
        if matches!(self.at_hand, Some((Target::Tools, _))) {
            self.text.truncate(0);
        }
        if !self.places.contains(&Place::Message) {
            return;
        }
        self.text.weigh(self.message.others_bytes);
        match self.message.role {
            Some(role) => self.fold_role(role),
            None => self.text.truncate(self.message.first_block),
        }
    }

    fn restart_text(&mut self) {
        self.text.restart();
        self.message = Message::default();
    }
}

/// The hash of all fields but `text` of `{"type":"text","text":...}`.
fn plain_part() -> u64 {
    let mut value = ValueHash::default();
    canonical::write(Event::String(b"text"), &mut |bytes| value.push(bytes));
    canonical::write(Event::StringEnd, &mut |bytes| value.push(bytes));
    chain(hash_bytes(b"type"), value.take().0)
}

#[cfg(test)]
mod tests;
