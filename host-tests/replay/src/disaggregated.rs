//! Prefill and decode apart: each request gets a prefill rank, or none, and a decode rank.
//!
//! A request with a prefill rank goes through that rank's front end and scheduler, which makes one token; then the decode rank's
//! front end reads it, what the decode rank's cache does not hold of its keys and values is transferred ([`transfer`]), and the
//! decode rank computes the last token of the prompt anew and answers, as with llm-d's routing sidecar and vLLM's NIXL connector.
//! The received blocks enter the decode rank's prefix cache. Without a prefill rank the decode rank does it all, in chunks that
//! share its steps with what it decodes. Prefill ranks are those of an engine that
//! [only prefills](crate::profile::Profile::prefill_only), decode ranks those of the engine as it is; under wide expert
//! parallelism both kinds step in groups.
//!
//! Simpler than the real thing: transfers do not slow each other down; a decode rank takes the room of a prompt when its
//! transfer is over, not when it begins; a prefill rank's blocks are without a user as soon as its token is made, not once they
//! were fetched; nothing fails.
//!
//! Loads are shares of the joint saturation ([`saturation`]). Answers say what the prefill rank had cached, where there was
//! one: the sidecar puts that into the usage since v0.9, and hit rates are those.

pub mod matrix;
pub mod oracle;
pub mod ours;
pub mod policies;
pub mod policy;
pub mod ranks;
pub mod ratio;
pub mod report;
pub mod round_robin;
pub mod saturation;
pub mod simulation;
pub mod transfer;
