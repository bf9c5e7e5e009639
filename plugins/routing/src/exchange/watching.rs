//! What is looked for in a body while it passes, at every stage of its request.

use super::{Due, Exchange, Stage};
use crate::BodyScanner;

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
            Stage::Held(_) | Stage::Open(_) | Stage::Watched(_) => {
                self.is_guarded != Some(false) && self.scanner().is_some_and(|s| !s.is_over())
            }
            Stage::Over => false,
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_guarded == Some(true) && self.scanner().is_some_and(BodyScanner::has_kv_params)
    }

    fn scanner(&self) -> Option<&BodyScanner> {
        match &self.stage {
            Stage::Held(held) => Some(held.reader.scanner()),
            Stage::ReadOn { reader, .. } => Some(reader.scanner()),
            Stage::Open(scanner) | Stage::Watched(scanner) => Some(scanner),
            Stage::Over => None,
        }
    }

    /// What follows when no more is to be learnt of the prompt.
    pub(super) fn watched(&self, scanner: &BodyScanner) -> Stage {
        if self.is_guarded == Some(true) && !scanner.is_over() {
            Stage::Watched(Box::new(scanner.clone()))
        } else {
            Stage::Over
        }
    }
}
