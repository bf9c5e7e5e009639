//! How much of the true prefix sharing of a trace the router's block hashes see.
//!
//! A trace says exactly which tokens of a prompt an earlier one began with. The router sees only what it can hash: whole
//! blocks, as many as its budget allows, of what was read when the pick was due. Both answer the same requests in the same
//! order, each with one cache that forgets nothing, so the difference is what hashing and budgets cost, and nothing else:
//! no ranks, no load, no eviction.
//!
//! Two things make the router's count differ from the exact one although the hashes are right. It counts 16 bytes, four
//! tokens, around each message, which the trace does not know: that can only add, and is shown as a surplus instead of
//! making up for losses. And a match ends with the last block that is whole, so up to a block of tokens is lost where
//! prompts part.
//!
//! Where they part matters: blocks of a trace have 512 tokens, a multiple of the router's own blocks, so in text of exactly
//! that length prompts part nearly where a block ends and almost nothing is lost. [`ragged`] prompts share as much but
//! part anywhere, as real ones do.

mod body;
mod comparison;
mod cutting;
mod exact;
mod far_apart;
mod figures;
mod requests;
mod seen;

pub use comparison::{DECIDE_AFTER_BYTES, Way, compare};
pub use cutting::Cutting;
pub use far_apart::{FarApart, far_apart};
pub use figures::{Figures, Placement, Rated, Recognised, TraceFigures};
pub use requests::{Piece, Request, Sample, parse, ragged, read, sample};
pub use seen::Link;

use body::{Writer, Written};
use exact::Exact;
use seen::Seen;
