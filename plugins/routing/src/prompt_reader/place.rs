//! Where in a body the reader is, and where values go.

use super::bypass::BypassField;

/// Top, a list, a message, its parts, a part, parts inside it (results of tools), a part of those.
pub(super) const MAX_PLACES: usize = 7;

/// A container that is entered; all others are taken as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    /// A list of texts, token ids or lists of them.
    Items,
    Messages,
    Message,
    Parts,
    Part,
    /// The sampling parameters of `/inference/v1/generate`.
    Sampling,
}

/// What a section's value may be, beside any JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing else.
    Value,
    /// A text, token ids, or a list of these.
    Items,
    /// A list of messages; a text is one message of the user.
    Messages,
    /// A text or parts: one message of the system.
    System,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Skip,
    /// Whether the answer is to be streamed.
    Streamed,
    /// What may ask for all of the prompt to be computed.
    Bypass(BypassField),
    /// An object of fields that may.
    Sampling,
    /// One of the fields of the front, by its number.
    Front(usize),
    /// A section of the prompt, by its number.
    Section(usize, Kind),
    /// An element of a list of texts or token ids.
    Item,
    /// An element of the messages.
    Message,
    Role,
    Content,
    MessageOther(u64),
    /// An element of a content that is a list.
    Part,
    PartText,
    PartOther {
        key: u64,
        is_media: bool,
    },
}

impl Target {
    /// Whether the value goes in as one hash.
    pub(super) fn is_hashed(self) -> bool {
        matches!(
            self,
            Self::Front(_) | Self::Role | Self::MessageOther(_) | Self::PartOther { .. }
        )
    }
}
