//! A part of a prompt that a template prints in one piece, cut into blocks.

use crate::RawBlock;

/// A finished stream of blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The whole blocks.
    pub blocks: Vec<RawBlock>,
    /// Hash of what follows the last whole block, or `None` when nothing does.
    pub tail: Option<u64>,
    /// Length.
    pub prompt_bytes: u64,
}
