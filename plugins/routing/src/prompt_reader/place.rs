//! Where in a body the reader is, and where values go.

/// Top, messages, message, parts, part.
pub(super) const MAX_PLACES: usize = 5;

/// A container that is entered; all others are taken as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Messages,
    Message,
    Parts,
    Part,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Skip,
    /// The value of the endpoint's prompt field.
    Prompt,
    Tools,
    /// One of the fields of the front, by its number.
    Front(usize),
    /// An element of the messages.
    Message,
    Role,
    Content,
    MessageOther(u64),
    /// An element of a content that is a list.
    Part,
    PartText,
    PartOther(u64),
}

impl Target {
    /// Whether the value goes in as one hash.
    pub(super) fn is_hashed(self) -> bool {
        matches!(
            self,
            Self::Front(_) | Self::Role | Self::MessageOther(_) | Self::PartOther(_)
        )
    }
}
