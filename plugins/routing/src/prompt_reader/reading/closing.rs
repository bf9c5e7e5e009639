//! What becomes of a body that was cut.

use super::Reading;
use crate::prompt_reader::place::{Kind, Place, Target};

impl Reading {
    /// Makes a body that was cut certain: drops the blocks that depend on what is missing.
    ///
    /// Inside a section that is printed before others, all behind it. Inside a message, its blocks unless its role is
    /// known.
    pub(in crate::prompt_reader) fn close_open_places(&mut self) {
        let is_inside =
            self.places.len() > 1 || matches!(self.at_hand, Some((Target::Section(..), _)));
        if is_inside {
            self.certain_sections = self.section.saturating_add(1);
        }
        if !self.is_message_open() {
            return;
        }
        let (others_bytes, role, first_block) = (
            self.message.others_bytes,
            self.message.role,
            self.message.first_block,
        );
        self.stream().weigh(others_bytes);
        match role {
            Some(role) => self.fold_role(role),
            None => self.stream().truncate(first_block),
        }
    }

    fn is_message_open(&self) -> bool {
        let lone = matches!(
            self.at_hand,
            Some((Target::Section(_, Kind::Messages | Kind::System), _))
        );
        let in_system = self.places.get(1) == Some(&Place::Parts);
        lone || in_system || self.places.contains(&Place::Message)
    }
}
