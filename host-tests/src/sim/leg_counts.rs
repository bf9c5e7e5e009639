//! Counts of prefill legs, and of requests that no leg should have been spared.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one rank since its process began; a restart of the rank keeps them.
#[derive(Debug, Default)]
pub(super) struct LegCounts {
    pub(super) direct_requests: Counter,
    pub(super) prefill_legs: Counter,
    pub(super) decode_only: Counter,
    pub(super) legs_failed: Counter,
    pub(super) legs_fallen_back: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
