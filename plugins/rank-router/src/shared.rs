//! Envoy's shared data and metrics as the memory that VMs share.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use routing::{SharedMemory, Stored, seal, unseal};

/// What this VM knows of the metrics that hint at something new.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// By slot; defined when first needed, because each definition makes a new number at the host.
    told: Vec<Option<u32>>,
    posted: Option<u32>,
}

impl Shared {
    /// A number that changes when what all workers use was posted anew.
    pub(crate) fn posted(&mut self) -> u64 {
        value(self.posted_metric())
    }

    /// What was put up under a key; nothing where something else stands.
    pub(crate) fn posting(&self, key: &str) -> Option<Vec<u8>> {
        unseal(&self.get(key).bytes).map(<[u8]>::to_vec)
    }

    /// Puts up what all workers use.
    pub(crate) fn post(&mut self, key: &str, bytes: &[u8]) {
        self.set(key, &seal(bytes), None);
        add_one(self.posted_metric());
    }

    fn posted_metric(&mut self) -> Option<u32> {
        if self.posted.is_none() {
            self.posted = counter("rank_router.posted");
        }
        self.posted
    }

    fn told_metric(&mut self, slot: u16) -> Option<u32> {
        let needed = usize::from(slot).saturating_add(1);
        if self.told.len() < needed {
            self.told.resize(needed, None);
        }
        let metric = self.told.get_mut(usize::from(slot))?;
        if metric.is_none() {
            *metric = counter(&format!("rank_router.told_{slot}"));
        }
        *metric
    }
}

impl SharedMemory for Shared {
    fn get(&self, key: &str) -> Stored {
        hostcalls::get_shared_data(key).map_or_else(
            |_| Stored::default(),
            |(bytes, version)| Stored {
                bytes: bytes.unwrap_or_default(),
                version,
            },
        )
    }

    fn set(&self, key: &str, bytes: &[u8], version: Option<u32>) -> bool {
        hostcalls::set_shared_data(key, Some(bytes), version).is_ok()
    }

    fn told(&mut self, slot: u16) -> u64 {
        value(self.told_metric(slot))
    }

    fn tell(&mut self, slot: u16) {
        add_one(self.told_metric(slot));
    }
}

fn counter(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Counter, name).ok()
}

fn value(metric: Option<u32>) -> u64 {
    metric
        .and_then(|metric| hostcalls::get_metric(metric).ok())
        .unwrap_or(0)
}

fn add_one(metric: Option<u32>) {
    if let Some(metric) = metric {
        let _ = hostcalls::increment_metric(metric, 1);
    }
}
