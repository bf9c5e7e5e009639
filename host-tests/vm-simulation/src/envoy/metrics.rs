//! Metrics: one value under a name for all VMs.

use std::collections::BTreeMap;

use proxy_wasm::types::MetricType;

/// The lowest bits of a metric's number are its kind.
const KIND_MASK: u32 = 0x3;
/// What a metric's number is counted up by.
const NUMBER_STEP: u32 = 0x4;

/// The `count`-th number of a VM for a metric of this kind. Numbers are a VM's own.
pub(crate) fn numbered(kind: MetricType, count: u32) -> u32 {
    kind as u32 + count * NUMBER_STEP
}

/// The kind that a number names, whether or not there is such a metric.
pub(crate) fn kind_of(number: u32) -> Option<MetricType> {
    match number & KIND_MASK {
        0 => Some(MetricType::Counter),
        1 => Some(MetricType::Gauge),
        2 => Some(MetricType::Histogram),
        _ => None,
    }
}

/// All counters and gauges by name. Envoy's gauges are unsigned and wrap; here a value below zero shows.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    values: BTreeMap<String, i64>,
}

impl Metrics {
    pub(crate) fn define(&mut self, name: &str) {
        self.values.entry(name.to_string()).or_insert(0);
    }

    /// The value; 0 for a metric that nobody defined.
    pub(crate) fn get(&self, name: &str) -> i64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// Adds and gives the new value.
    pub(crate) fn add(&mut self, name: &str, offset: i64) -> i64 {
        self.set(name, self.get(name).wrapping_add(offset))
    }

    /// Sets and gives the new value.
    pub(crate) fn set(&mut self, name: &str, value: i64) -> i64 {
        self.values.insert(name.to_string(), value);
        value
    }

    /// The sum of all whose names begin so.
    pub(crate) fn sum(&self, start: &str) -> i64 {
        let named = self
            .values
            .iter()
            .filter(|(name, _)| name.starts_with(start));
        named.map(|(_, value)| value).sum()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_its_kind() {
        for kind in [
            MetricType::Counter,
            MetricType::Gauge,
            MetricType::Histogram,
        ] {
            assert_eq!(kind_of(numbered(kind, 7)), Some(kind));
        }
        assert_eq!(kind_of(3), None);
        assert_ne!(
            numbered(MetricType::Gauge, 1),
            numbered(MetricType::Gauge, 2)
        );
    }

    #[test]
    fn values_are_by_name() {
        let mut metrics = Metrics::default();
        metrics.define("a.x");
        assert_eq!(metrics.add("a.x", 2), 2);
        assert_eq!(metrics.add("a.x", -3), -1);
        assert_eq!(metrics.set("a.y", 5), 5);
        metrics.set("b", 100);
        metrics.define("a.x");
        assert_eq!(metrics.sum("a."), 4);
        assert_eq!(metrics.get("none"), 0);
        assert_eq!(metrics.len(), 3);
    }
}
