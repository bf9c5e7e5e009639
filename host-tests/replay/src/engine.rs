//! Simulated ranks: what a scheduler of vLLM's kind does with the requests it is sent.
//!
//! As in vLLM: first come, first served; a budget of tokens for each step, of which running sequences take one each and
//! prefill the rest, in chunks; a request is let in when its whole prompt has room; when running sequences find no room to
//! grow, the newest goes back to the queue and is computed anew; blocks without users stay until their room is needed.
//!
//! A sequence whose prompt was received from a prefill rank has all but its last token computed when it is let in, as with
//! vLLM's NIXL connector (`Scheduler._update_waiting_for_remote_kv`): that token is computed here and gives the first one of
//! the answer, and the received blocks enter the prefix cache as if they had been computed here.
//!
//! Simpler than vLLM: blocks of the prompt have the size of the trace's blocks, everything else counts in single tokens;
//! the room of a prompt is taken when it is let in, not chunk by chunk; the answer's own blocks are not found again,
//! because traces give no number for them.

mod cache;
mod group;
mod lookahead;
mod rank;
mod sequence;

pub use cache::PrefixCache;
pub use group::Group;
pub use lookahead::first_token_ms;
pub use rank::{Plan, Rank};
pub use sequence::{Sequence, Served};

/// Tokens of a block of the trace.
pub const BLOCK_TOKENS: u64 = 512;
