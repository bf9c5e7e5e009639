//! What a request is refused for.

use std::sync::Arc;

use crate::{BodyScanner, Refusal, RefusedKeys};

/// What the pickers of a request say of its body.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The rules of the pools that it may be for, each is enough; none where nothing is refused.
    rules: Vec<Arc<RefusedKeys>>,
    /// Whether any picker has said something.
    is_set: bool,
    /// Whether a picker's rules are known with its pick alone.
    awaits_pick: bool,
    /// How many models the body had named when one of them chose the route.
    chosen_by: Option<u32>,
}

impl Guard {
    pub(super) fn refuse_by(&mut self, rules: impl IntoIterator<Item = Arc<RefusedKeys>>) {
        self.is_set = true;
        self.awaits_pick = false;
        self.rules.extend(rules);
    }

    pub(super) fn await_pick(&mut self) {
        self.is_set = true;
        self.awaits_pick = true;
    }

    pub(super) fn chosen_by(&mut self, models: u32) {
        self.chosen_by = Some(models);
    }

    /// Whether what may follow in a body can matter.
    pub(super) fn is_watching(&self, scanner: &BodyScanner) -> bool {
        let is_strict = !self.rules.is_empty() || self.chosen_by.is_some() || self.awaits_pick;
        (is_strict || !self.is_set) && !scanner.is_over()
    }

    /// Whether what a body held until now is still needed.
    pub(super) fn needs(&self, scanner: &BodyScanner) -> bool {
        self.awaits_pick || (self.is_set && self.is_watching(scanner))
    }

    /// Why a body is refused by what was seen of it. Cost: nothing while no key was met.
    pub(super) fn refusal(&self, scanner: &BodyScanner) -> Option<Refusal> {
        let is_second = |models| scanner.models() > models;
        if self.chosen_by.is_some_and(is_second) {
            return Some(Refusal::SecondModel);
        }
        let is_refused = |key: &&str| self.rules.iter().any(|rules| rules.refuses(key));
        let key = scanner.found_keys().find(is_refused)?;
        Some(Refusal::Key(key.to_string()))
    }
}
