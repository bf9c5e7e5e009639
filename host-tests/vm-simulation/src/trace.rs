//! What happened, as a digest and, on demand, as lines.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How much of a run is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing.
    Silent,
    /// Events, callbacks, and what the module logs.
    Callbacks,
    /// Host calls too.
    HostCalls,
}

/// The record of a run. Its digest covers every event, callback and host call, so equal digests are equal runs.
pub(crate) struct Trace {
    digest: DefaultHasher,
    detail: Detail,
}

impl Trace {
    pub(crate) fn new(detail: Detail) -> Self {
        Self {
            digest: DefaultHasher::new(),
            detail,
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Notes something; `line` is made only when it is printed.
    pub(crate) fn note<L: Display>(
        &mut self,
        detail: Detail,
        now_ns: u64,
        what: impl Hash,
        line: impl FnOnce() -> L,
    ) {
        what.hash(&mut self.digest);
        if detail <= self.detail {
            eprintln!("{:>12.6} s  {}", seconds(now_ns), line());
        }
    }
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}
