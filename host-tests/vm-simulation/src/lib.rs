//! Several VMs of the real module in one fake Envoy, under a seeded scheduler that misbehaves.
//!
//! The SDK's entry points exist natively too, and what they import is plain C functions. This crate defines those
//! functions (`host_abi`) and so is the host of the module as it is, glue included. A VM is a thread, because module and
//! SDK keep their state in thread-locals (`vm`); it runs only while it holds the fake Envoy (`baton`), so one seed is
//! one run.
//!
//! | file | holds |
//! | --- | --- |
//! | `host_abi.rs` | the C side: all that is unsafe |
//! | `baton.rs`, `vm.rs`, `vm_record.rs` | threads as VMs, traps, panics; what Envoy keeps of each |
//! | `envoy.rs`, `envoy/` | host calls, with the statuses of each phase; shared data, queues, metrics, clock |
//! | `stream.rs`, `traffic.rs`, `ranks.rs`, `backend.rs` | requests, clients, ranks, answers to HTTP calls |
//! | `hostile.rs`, `simulation/afterwards.rs` | clients that attack, and what their prompts left behind |
//! | `schedule.rs`, `chaos.rs`, `chance.rs` | what happens when, and what goes wrong |
//! | `simulation.rs`, `simulation/` | a run: VMs, requests, answers, ends, troubles |
//! | `invariants.rs`, `invariants/`, `findings.rs`, `trace.rs` | what must hold, and what was seen |
//!
//! What it simplifies: HTTP as frames instead of bytes; one pool; one moment for all that a callback does; a dead VM's
//! streams end at once, where Envoy ends those in flight at their next callback.

mod backend;
mod baton;
mod chance;
mod chaos;
mod envoy;
mod findings;
mod host_abi;
mod hostile;
mod invariants;
mod ranks;
mod schedule;
mod simulation;
mod stream;
mod trace;
mod traffic;
mod vm;
mod vm_record;

pub use findings::Figures;
pub use simulation::{Options, Outcome, run};
pub use trace::Detail;
