//! Ranks that die, hang and fail under traffic, and a gateway that is reconfigured or traps: what clients see of it.
//!
//! A [`Stage`](stage::Stage) is a real Envoy before ranks that are processes; [`load`] is the traffic, steady and with shared
//! prefixes; a [`Case`](case::Case) is what goes wrong in the middle of it; [`report`] counts what became of every request.
//! [`hostile`] is traffic beside clients that attack the gateway. Where prefill and decode are apart, [`direct`] counts what went straight to ranks that only prefill. `scripts/chaos` runs
//! all cases.

pub mod blow;
pub mod case;
pub mod direct;
pub mod hostile;
pub mod layout;
pub mod load;
pub mod report;
pub mod stage;
