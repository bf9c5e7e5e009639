//! What a body said of what stands in front of its main section.

use super::fields::{MAIN, SECTIONS};
use crate::{Preface, Section, chain};

/// What stands in front of the main section, and which of it was there.
#[derive(Debug)]
pub(super) struct OwnPreface {
    pub(super) preface: Preface,
    pub(super) has_section: [bool; MAIN],
    pub(super) certain_sections: usize,
}

impl OwnPreface {
    /// What a conversation is known by: the first block of its main section, of what leads it, of its tools.
    pub(super) fn starts(&self, seed: u64, main: &Section) -> [Option<u64>; SECTIONS] {
        let [tools, lead] = &self.preface.sections;
        let start = |section: u64, blocks: &Section| {
            let first = blocks.blocks.first()?;
            Some(chain(chain(seed, section), first.hash))
        };
        [start(2, main), start(1, lead), start(0, tools)]
    }

    /// Drops the sections that stand behind one that was cut.
    pub(super) fn drop_uncertain(&mut self, main: &mut Section) {
        let [tools, lead] = &mut self.preface.sections;
        for section in [tools, lead, main].into_iter().skip(self.certain_sections) {
            *section = Section::default();
        }
    }

    /// Takes what was not there from a preface of the same conversation.
    pub(super) fn borrow_from(&mut self, known: Option<&Preface>) {
        let Some(known) = known else { return };
        for (own, known) in self.preface.front.iter_mut().zip(known.front) {
            if *own == 0 {
                *own = known;
            }
        }
        let own = self.preface.sections.iter_mut().zip(self.has_section);
        for ((own, has_own), known) in own.zip(&known.sections) {
            if !has_own {
                own.clone_from(known);
            }
        }
    }
}
