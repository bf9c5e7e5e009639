//! What is noted of a body beside its prompt: how it wants to be answered, and what kind of request it is.

use super::Reading;
use crate::json::Event;
use crate::prompt_reader::bypass::{Bypass, BypassField};
use crate::prompt_reader::fields;
use crate::prompt_reader::place::{Place, Target};

impl Reading {
    /// Whether something came behind the start of what it is printed before.
    pub(in crate::prompt_reader) fn is_late(&self) -> bool {
        self.is_late
    }

    /// The model's name, if a header can have it as its value.
    pub(in crate::prompt_reader) fn model_name(&self) -> Option<&str> {
        self.model_name.get()
    }

    /// Whether the answer is to be streamed, as far as the body was read.
    pub(in crate::prompt_reader) fn is_streamed(&self) -> bool {
        self.streamed == Some(b't')
    }

    /// Whether the rank computes all of the prompt, as far as the body was read.
    pub(in crate::prompt_reader) fn bypasses_cache(&self) -> bool {
        self.bypass.is_asked_for(self.endpoint)
    }

    /// What kind of request it is, as far as the body was read.
    pub(in crate::prompt_reader) fn kind(&self) -> u64 {
        let [model, ..] = self.front;
        self.keys.kind(self.endpoint, model)
    }

    /// Something comes behind the start of what it is printed before.
    pub(super) fn note_late(&mut self, target: Target) {
        let printed_before = match target {
            Target::Front(_) => 0,
            Target::Section(section, _) => section.saturating_add(1),
            _ => return,
        };
        self.is_late |= self
            .sections
            .iter()
            .skip(printed_before)
            .any(Option::is_some);
    }

    /// A value begins: its key is part of the kind of the request.
    pub(super) fn note_key(&mut self, place: Place) {
        match place {
            Place::Top => self.keys.note(self.key.hash()),
            Place::Sampling => self.keys.note_nested(self.key.hash()),
            _ => {}
        }
    }

    /// A field that comes twice counts the last time.
    pub(super) fn forget_earlier(&mut self, target: Target) {
        match target {
            Target::Front(fields::MODEL) => self.model_name.begin(),
            Target::Streamed => self.streamed = None,
            Target::Bypass(field) => self.bypass.begin(field),
            Target::Sampling => self.bypass = Bypass::default(),
            _ => {}
        }
    }

    pub(super) fn deliver_bypass(&mut self, field: BypassField, depth: usize, event: Event<'_>) {
        match event {
            Event::Scalar(part) | Event::String(part) if depth == 0 => {
                self.bypass.push(field, part);
            }
            Event::ObjectStart | Event::ArrayStart => self.bypass.push(field, b"["),
            _ => {}
        }
    }
}
