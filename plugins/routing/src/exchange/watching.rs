//! What is looked for in a body while it passes, at every stage of its request.

use std::sync::Arc;

use super::{Due, Exchange, Exchanges, Stage};
use crate::refused_keys::WatchedKeys;
use crate::{BodyScanner, Refusal, RefusedKeys};

impl Exchanges {
    /// Looks for these keys too in the bodies of requests that come from now on: pools refuse them.
    pub fn look_for(&mut self, added: impl IntoIterator<Item = String>) {
        self.keys = WatchedKeys::with(added);
    }

    /// A picker says by which rules requests are refused: those of each pool that this one may be for, none where nothing
    /// is refused. Where several pickers speak, one whose rules refuse is enough.
    pub fn guard(&mut self, reader: u32, rules: impl IntoIterator<Item = Arc<RefusedKeys>>) {
        if let Some(exchange) = self.open.get_mut(&reader) {
            exchange.guard.refuse_by(rules);
            exchange.let_go();
        }
    }

    /// A picker will say so with its pick: until then its rules refuse nothing.
    pub fn guard_by_pick(&mut self, reader: u32) {
        if let Some(exchange) = self.open.get_mut(&reader) {
            exchange.guard.await_pick();
        }
    }

    /// The route was chosen by the model that the body has named last: if it names another one from here on, the request is
    /// refused.
    pub fn fix_model(&mut self, reader: u32) {
        if let Some(exchange) = self.open.get_mut(&reader) {
            let models = exchange.scanner().map(BodyScanner::models);
            exchange.guard.chosen_by(models.unwrap_or(u32::MAX));
        }
    }

    /// Why the request is to be refused, by what was seen of its body.
    #[must_use]
    pub fn refusal(&self, reader: u32) -> Option<Refusal> {
        self.open.get(&reader)?.refusal()
    }
}

impl Exchange {
    pub(super) fn feed(&mut self, piece: &[u8], now_ms: u64) {
        match &mut self.stage {
            Stage::Held(held) => {
                held.reader.feed(piece);
                held.last_byte_ms = now_ms;
            }
            Stage::ReadOn { reader, .. } => reader.feed(piece),
            Stage::Open(scanner) | Stage::Watched(scanner) => scanner.feed(piece, &mut |_| {}),
            Stage::Over => {}
        }
    }

    pub(super) fn is_reading(&self) -> bool {
        match &self.stage {
            Stage::Held(held) if held.due.is_none_or(Due::is_early) => true,
            Stage::ReadOn { .. } => true,
            Stage::Held(_) | Stage::Open(_) | Stage::Watched(_) => self
                .scanner()
                .is_some_and(|scanner| self.guard.is_watching(scanner)),
            Stage::Over => false,
        }
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.guard.refusal(self.scanner()?)
    }

    pub(super) fn scanner(&self) -> Option<&BodyScanner> {
        match &self.stage {
            Stage::Held(held) => Some(held.reader.scanner()),
            Stage::ReadOn { reader, .. } => Some(reader.scanner()),
            Stage::Open(scanner) | Stage::Watched(scanner) => Some(scanner),
            Stage::Over => None,
        }
    }

    /// What follows when no more is to be learnt of the prompt.
    pub(super) fn watched(&self, scanner: &BodyScanner) -> Stage {
        if self.guard.needs(scanner) {
            Stage::Watched(Box::new(scanner.clone()))
        } else {
            Stage::Over
        }
    }

    /// Forgets a body in which nothing more is to be looked for.
    pub(super) fn let_go(&mut self) {
        if let Stage::Watched(scanner) = &self.stage
            && !self.guard.needs(scanner)
            && self.refusal().is_none()
        {
            self.stage = Stage::Over;
        }
    }
}
