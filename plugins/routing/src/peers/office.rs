//! An office that one VM at a time holds, such as asking the ranks for reports.

use super::lease::Lease;
use super::shared_memory::SharedMemory;

/// The office of doing `key` for all VMs of an Envoy.
#[derive(Clone, Debug)]
pub struct Office {
    key: String,
}

/// Shorter than the lease of a slot: a second without reports is noticed, and nothing is lost when two VMs ask at once.
const OFFICE_MS: u64 = 1250;

impl Office {
    /// An office of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            key: format!("rank_router.1.office.{name}"),
        }
    }

    /// Whether `vm` holds the office from now until its lease ends, because it is free or its own.
    ///
    /// To be called with each beat. A race is won by one; who loses tries again with the next beat.
    pub fn hold(&self, memory: &impl SharedMemory, vm: u64, now_ms: u64) -> bool {
        let stored = memory.get(&self.key);
        let lease = Lease::from_bytes(&stored.bytes).unwrap_or_default();
        let is_free = lease.vm == vm || lease.is_over(now_ms);
        let own = Lease {
            vm,
            expires_ms: now_ms.saturating_add(OFFICE_MS),
            head: 0,
        };
        if stored.version.is_none() {
            memory.set(&self.key, &Lease::default().to_bytes(), None);
            return false;
        }
        is_free && memory.set(&self.key, &own.to_bytes(), stored.version)
    }

    /// Whether nobody holds the office.
    pub fn is_vacant(&self, memory: &impl SharedMemory, now_ms: u64) -> bool {
        let lease = Lease::from_bytes(&memory.get(&self.key).bytes);
        lease.unwrap_or_default().is_over(now_ms)
    }

    /// Gives the office up, so that another can hold it at once.
    pub fn give_up(&self, memory: &impl SharedMemory, vm: u64) {
        let stored = memory.get(&self.key);
        let is_own = Lease::from_bytes(&stored.bytes).is_some_and(|lease| lease.vm == vm);
        if is_own {
            memory.set(&self.key, &Lease::default().to_bytes(), stored.version);
        }
    }
}
