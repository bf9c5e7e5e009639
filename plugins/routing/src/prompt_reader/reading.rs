//! What the events of a body have come to.

use super::bypass::Bypass;
use super::fields::{self, MAIN, SECTIONS};
use super::key::Key;
use super::kind::Keys;
use super::message::{Message, Part, plain_parts, string_hash};
use super::model_name::ModelName;
use super::number::Number;
use super::own_preface::OwnPreface;
use super::place::{self, Kind, Place, Target};
use crate::canonical::{self, ValueHash};
use crate::json::Event;
use crate::{BlockStream, Endpoint, FRONT_FIELDS, Preface, Section, chain};

mod closing;
mod noting;

/// Ends a message in the stream of blocks: a byte that JSON text cannot hold unescaped.
const MESSAGE_END: &[u8] = b"\x1e";
/// Ends a part of a message's content.
const PART_END: &[u8] = b"\x1f";
/// Ends a text in a list of texts; no byte, so that token ids keep to whole tokens.
const ITEM_END: u64 = 0x6974_656d_5f65_6e64;

/// What a template prints around a message: about four tokens.
const MESSAGE_WEIGHT_BYTES: u64 = 16;
/// An image or a piece of sound: about 1,024 tokens, as vision models make of a usual picture.
const MEDIA_WEIGHT_BYTES: u64 = 4096;
/// Tells token ids from text of the same bytes.
const TOKEN_IDS: u64 = 0x746f_6b65_6e5f_6964;

/// The state between events.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    endpoint: Endpoint,
    places: Vec<Place>,
    key: Key,
    /// Where the value at hand goes while it is read, with the containers open inside it.
    at_hand: Option<(Target, usize)>,
    value: ValueHash,
    number: Number,
    /// Key and value of each of the [`fields::FRONT`], hashed; 0 for one that is not there.
    front: [u64; FRONT_FIELDS],
    model_name: ModelName,
    sections: [Option<BlockStream>; SECTIONS],
    /// The section that values go to.
    section: usize,
    block_bytes: usize,
    seed: u64,
    plain_parts: [u64; 3],
    message: Message,
    parts: Vec<Part>,
    is_late: bool,
    /// How many sections are known as far as they were read.
    certain_sections: usize,
    /// The first letter of the last `stream` field: `t` for an answer that is streamed.
    streamed: Option<u8>,
    bypass: Bypass,
    keys: Keys,
    pub(super) is_no_object: bool,
}

impl Reading {
    pub(super) fn new(endpoint: Endpoint, block_bytes: usize) -> Self {
        Self {
            endpoint,
            places: Vec::with_capacity(place::MAX_PLACES),
            key: Key::default(),
            at_hand: None,
            value: ValueHash::default(),
            number: Number::default(),
            front: [0; FRONT_FIELDS],
            model_name: ModelName::default(),
            sections: [None, None, None],
            section: MAIN,
            block_bytes,
            seed: 0,
            plain_parts: plain_parts(0),
            message: Message::default(),
            parts: Vec::new(),
            is_late: false,
            certain_sections: SECTIONS,
            streamed: None,
            bypass: Bypass::default(),
            keys: Keys::default(),
            is_no_object: false,
        }
    }

    /// Hashes under a seed, and kinds under a secret.
    pub(super) fn seeded(self, seed: u64, secret: u64) -> Self {
        Self {
            seed,
            plain_parts: plain_parts(seed),
            value: ValueHash::seeded(seed),
            keys: Keys::under(secret),
            ..self
        }
    }

    pub(super) fn take(&mut self, event: Event<'_>) {
        match (self.at_hand, self.places.last().copied(), event) {
            (Some((target, depth)), _, event) => self.go_on(target, depth, event),
            (None, None, Event::ObjectStart) if !self.is_no_object => self.places.push(Place::Top),
            (None, None, _) => self.is_no_object = true,
            (None, Some(_), Event::Key(part)) => self.key.push(part),
            (None, Some(_), Event::KeyEnd) => self.key.end(),
            (None, Some(place), Event::ObjectEnd | Event::ArrayEnd) => self.leave(place),
            (None, Some(place), event) => {
                self.note_key(place);
                self.begin(self.target(place), event);
            }
        }
    }

    /// The preface and the main section.
    pub(super) fn into_parts(self) -> (OwnPreface, Section) {
        let has = self.sections.each_ref().map(Option::is_some);
        let [tools, lead, main] = self
            .sections
            .map(|stream| stream.map(BlockStream::into_section).unwrap_or_default());
        let preface = Preface {
            front: self.front,
            sections: [tools, lead],
        };
        let [has_tools, has_lead, _] = has;
        (
            OwnPreface {
                preface,
                has_section: [has_tools, has_lead],
                certain_sections: self.certain_sections,
            },
            main,
        )
    }

    /// Where a value goes, by the place it stands in and its key.
    fn target(&self, place: Place) -> Target {
        let key = self.key.name();
        match place {
            Place::Top => fields::target(self.endpoint, key),
            Place::Items => Target::Item,
            Place::Messages => Target::Message,
            Place::Message => fields::message_target(key, self.key.hash()),
            Place::Parts => Target::Part,
            Place::Part => fields::part_target(key, self.key.hash()),
            Place::Sampling => fields::sampling_target(key),
        }
    }

    fn begin(&mut self, target: Target, event: Event<'_>) {
        match (target, event) {
            (Target::Section(section, kind), event) => self.begin_section(section, kind, event),
            (Target::Item, Event::ArrayStart) if self.has_room() => self.places.push(Place::Items),
            (Target::Message, Event::ObjectStart) => {
                self.places.push(Place::Message);
                self.open_message(None);
            }
            (Target::Message, Event::ArrayStart) if self.has_room() => {
                self.places.push(Place::Messages)
            }
            (Target::Content, Event::ArrayStart) if self.has_room() => {
                self.places.push(Place::Parts)
            }
            (Target::Part, Event::ObjectStart) if self.has_room() => {
                self.places.push(Place::Part);
                self.parts.push(Part::default());
            }
            (Target::Sampling, Event::ObjectStart) => {
                self.bypass = Bypass::default();
                self.places.push(Place::Sampling);
            }
            _ => {
                self.note_late(target);
                self.forget_earlier(target);
                self.go_on(target, 0, event);
            }
        }
    }

    fn begin_section(&mut self, section: usize, kind: Kind, event: Event<'_>) {
        self.section = section;
        self.message = Message::default();
        self.note_late(Target::Section(section, kind));
        if matches!(event, Event::Scalar(_)) {
            // `null` is as good as absent.
            self.drop_section(section);
            return self.go_on(Target::Skip, 0, event);
        }
        if let Some(slot) = self.sections.get_mut(section) {
            *slot = Some(BlockStream::new(self.block_bytes).seeded(self.seed));
        }
        match (kind, event) {
            (Kind::Items, Event::ArrayStart) => self.places.push(Place::Items),
            (Kind::Messages, Event::ArrayStart) => self.places.push(Place::Messages),
            (Kind::System, Event::ArrayStart) => {
                self.open_message(Some("system"));
                self.places.push(Place::Parts);
            }
            (Kind::Messages, _) => self.begin_lone(section, kind, "user", event),
            (Kind::System, _) => self.begin_lone(section, kind, "system", event),
            _ => self.go_on(Target::Section(section, kind), 0, event),
        }
    }

    fn drop_section(&mut self, section: usize) {
        if let Some(slot) = self.sections.get_mut(section) {
            *slot = None;
        }
    }

    /// A section that is one message without an object around it.
    fn begin_lone(&mut self, section: usize, kind: Kind, role: &'static str, event: Event<'_>) {
        self.open_message(Some(role));
        self.go_on(Target::Section(section, kind), 0, event);
    }

    /// Deeper lists are taken as values.
    fn has_room(&self) -> bool {
        self.places.len() < place::MAX_PLACES
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
            self.end_value(target, event);
        }
    }

    fn deliver(&mut self, target: Target, depth: usize, event: Event<'_>) {
        if let (Target::Front(fields::MODEL), 0, Event::String(part)) = (target, depth, event) {
            self.model_name.push(part);
        }
        match (target, event) {
            (Target::Streamed, Event::Scalar(part)) if depth == 0 => {
                self.streamed = self.streamed.or(part.first().copied());
            }
            (Target::Bypass(field), event) => self.deliver_bypass(field, depth, event),
            (Target::Skip | Target::Streamed | Target::Sampling, _)
            | (Target::Content, Event::Scalar(_) | Event::ScalarEnd) => {}
            (Target::Item, Event::Scalar(part)) if depth == 0 => self.number.push(part),
            (Target::Item, Event::ScalarEnd) if depth == 0 => self.end_number(),
            (target, event) if target.is_hashed() => {
                canonical::write(event, &mut |bytes| self.value.push(bytes));
            }
            (Target::Section(_, Kind::Value), event) => self.write(event),
            (_, Event::String(part)) if depth == 0 => self.stream().push(part),
            (_, Event::StringEnd) if depth == 0 => {}
            (_, event) => self.write(event),
        }
    }

    fn end_value(&mut self, target: Target, event: Event<'_>) {
        match target {
            Target::Section(_, Kind::Messages | Kind::System) => self.end_message(),
            Target::Item if event == Event::StringEnd => self.end_item(),
            target if target.is_hashed() => self.end_hashed(target),
            _ => {}
        }
    }

    fn end_hashed(&mut self, target: Target) {
        let (hash, bytes) = self.value.take();
        match target {
            Target::Front(field) => {
                if field == fields::MODEL {
                    self.model_name.end();
                }
                if let Some(front) = self.front.get_mut(field) {
                    *front = chain(self.key.hash(), hash);
                }
            }
            Target::Role => self.message.role = Some(hash),
            Target::MessageOther(key) => {
                self.message.others = self.message.others.wrapping_add(chain(key, hash));
                self.message.others_bytes = self.message.others_bytes.saturating_add(bytes);
            }
            Target::PartOther { key, is_media } => {
                if let Some(part) = self.parts.last_mut() {
                    part.others = part.others.wrapping_add(chain(key, hash));
                    let weight = if is_media { MEDIA_WEIGHT_BYTES } else { bytes };
                    part.weight_bytes = part.weight_bytes.saturating_add(weight);
                }
            }
            _ => {}
        }
    }

    /// A token id weighs four bytes, as a token of text does on average, so ids are counted exactly.
    fn end_number(&mut self) {
        let id = self.number.take();
        let position = self.stream().position();
        match id {
            Some(id) if position == 0 && self.stream().prompt_bytes() == 0 => {
                self.stream().fold(0, TOKEN_IDS);
                self.stream().push(&id.to_le_bytes());
            }
            Some(id) => self.stream().push(&id.to_le_bytes()),
            None => self.write(Event::ScalarEnd),
        }
    }

    fn leave(&mut self, place: Place) {
        self.places.pop();
        let outer = self.places.last().copied();
        match (place, outer) {
            (Place::Message, _) => self.end_message(),
            (Place::Part, _) => self.end_part(),
            (Place::Parts, Some(Place::Top)) => self.end_message(),
            (Place::Items, Some(Place::Items)) | (Place::Messages, Some(Place::Messages)) => {
                self.end_item();
            }
            _ => {}
        }
    }

    fn open_message(&mut self, role: Option<&'static str>) {
        self.message = Message {
            number: self.message.number.wrapping_add(1),
            first_block: self.stream().position(),
            role: role.map(|role| string_hash(role, self.seed)),
            ..Message::default()
        };
    }

    fn end_message(&mut self) {
        self.fold_role(self.message.role.unwrap_or(0));
        let (others, bytes) = (self.message.others, self.message.others_bytes);
        self.stream()
            .weigh(bytes.saturating_add(MESSAGE_WEIGHT_BYTES));
        if others != 0 {
            self.mark(&others.to_le_bytes());
        }
        self.mark(MESSAGE_END);
    }

    /// The number makes the order of several messages in one block count.
    fn fold_role(&mut self, role: u64) {
        let (position, word) = (self.message.first_block, chain(self.message.number, role));
        self.stream().fold(position, word);
    }

    /// A part that is nothing but text is the same prompt as that text alone.
    fn end_part(&mut self) {
        let part = self.parts.pop().unwrap_or_default();
        if !self.plain_parts.contains(&part.others) {
            self.stream().weigh(part.weight_bytes);
            self.mark(PART_END);
            self.mark(&part.others.to_le_bytes());
        }
    }

    fn end_item(&mut self) {
        self.keys.note_item();
        let stream = self.stream();
        let word = chain(ITEM_END, stream.prompt_bytes());
        stream.fold(stream.position(), word);
    }

    /// Puts bytes into the blocks that are no tokens.
    fn mark(&mut self, bytes: &[u8]) {
        self.stream().mark(bytes);
    }

    fn write(&mut self, event: Event<'_>) {
        let stream = self.stream();
        canonical::write(event, &mut |bytes| stream.push(bytes));
    }

    fn stream(&mut self) -> &mut BlockStream {
        let (block_bytes, seed) = (self.block_bytes, self.seed);
        let section = self.section.min(MAIN);
        let [tools, lead, main] = &mut self.sections;
        let slot = match section {
            0 => tools,
            1 => lead,
            _ => main,
        };
        slot.get_or_insert_with(|| BlockStream::new(block_bytes).seeded(seed))
    }
}
