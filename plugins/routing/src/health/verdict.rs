//! What the table makes of a failure.

/// What a failure came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It was known, or is one of a row that is too short to mean anything.
    #[default]
    Noted,
    /// It put the rank out.
    GoesOut,
    /// A server error that would have put the rank out, had it not been the request's as far as other ranks tell.
    NotCounted,
}
