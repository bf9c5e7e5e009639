//! The endpoints that Envoy knows, read from its own admin endpoint.
//!
//! Envoy 1.37.0 and 1.40.0 answer `/config_dump?include_eds&resource=...` alike (`corpus/endpoints`):
//!
//! - Clusters of the bootstrap are in `static_endpoint_configs`, even those whose endpoints come by EDS; clusters that came
//!   by CDS, all of Istio's, are in `dynamic_endpoint_configs`.
//! - A cluster bears the name by which EDS is asked for it, its `service_name` where that is set, and `name_regex` compares
//!   the whole of that name. Istio sets both names alike (`maybeApplyEdsConfig`). Clusters with one `service_name` come as often as there are clusters.
//! - `health_status` is `HEALTHY`, `DEGRADED` or `UNHEALTHY`, with Envoy's own health checks and ejections in it. `UNKNOWN`
//!   is shown as `HEALTHY`; `DRAINING` and `TIMEOUT` are shown as `UNHEALTHY`.
//! - Clusters come in any order, another at each call. Names of DNS clusters are resolved.
//! - Clusters that wait for their first endpoints are not shown. No cluster is `{}`, and a wrong or too long `name_regex` a
//!   400 with text.
//!
//! Istio puts `workload;namespace;canonical service;canonical revision;cluster id` under `filter_metadata.istio.workload`
//! (`AppendLbEndpointMetadata` in `pilot/pkg/networking/util/util.go` of <https://github.com/istio/istio>), without the
//! revision where it is `latest`, and nothing if `PILOT_ENDPOINT_TELEMETRY_LABEL` is off. The workload is the pod's controller
//! (for a LeaderWorkerSet the StatefulSet), or what the label `service.istio.io/workload-name` says.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::config::MAX_RANKS;
use crate::{Condition, Glob};

mod json;
mod table;

use json::{Dump, LbEndpoint};
pub use table::{EndpointTable, Reach, query_escape};

/// The longest dump that is read: several times what the most ranks take (about 0.6 MiB), so that one callback stays short.
pub const MAX_DUMP_BYTES: usize = 4 * 1024 * 1024;

/// An endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The cluster, by the name that EDS knows.
    pub cluster: String,
    /// The name of its Deployment, StatefulSet or the like.
    pub workload: Option<String>,
    /// The namespace of the workload.
    pub namespace: Option<String>,
    /// The canonical revision of the workload; unknown and `latest` are both `None`.
    pub revision: Option<String>,
    /// What Envoy thinks of its health.
    pub condition: Condition,
}

/// What a dump says of the clusters that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointDump {
    /// Each endpoint once for each cluster that names it, by address and then cluster, of at most 1,024 addresses.
    pub endpoints: Vec<FoundEndpoint>,
    /// Clusters that match; 0 is a wrong pattern, or a gateway that has not heard of them yet.
    pub clusters: usize,
    /// Endpoints left out because they are not of the form that is known.
    pub unreadable: usize,
    /// Endpoints left out because they have no IP address: pipes, and internal listeners, by which Istio's ambient mode
    /// reaches pods. `override_host` finds neither by `ip:port`.
    pub without_ip: usize,
    /// Addresses left out because there are more than 1,024; those kept are the lowest, on every gateway the same.
    pub too_many: usize,
}

/// Why a dump cannot be used as a whole; then what was known before is better than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpError {
    /// More than 4 MiB: the pattern for clusters is too wide.
    TooLong {
        /// The length of the dump.
        bytes: usize,
    },
    /// No JSON, broken off, or not of the form that is known outside of endpoints.
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 at a line's end.
        column: usize,
    },
}

impl EndpointDump {
    /// Reads a dump: the endpoints of clusters that match one of `clusters`.
    ///
    /// One pass over all of it and a second over matching endpoints; memory for those and 16 bytes for each other one.
    ///
    /// # Errors
    ///
    /// A dump that is too long, or wrong outside of endpoints: a cluster that is read as empty by mistake would take all
    /// its ranks away, while an endpoint that is wrong is only counted.
    pub fn parse(json: &[u8], clusters: &[Glob]) -> Result<Self, DumpError> {
        if json.len() > MAX_DUMP_BYTES {
            return Err(DumpError::TooLong { bytes: json.len() });
        }
        let dump: Dump<'_> = serde_json::from_slice(json).map_err(|error| malformed(&error))?;
        let mut found = Self::default();
        for (name, endpoints) in dump.clusters() {
            if clusters.iter().any(|glob| glob.matches(name)) {
                found.clusters = found.clusters.saturating_add(1);
                endpoints.for_each(|endpoint| found.take(name, endpoint));
            }
        }
        found.settle();
        Ok(found)
    }

    fn take(&mut self, cluster: &str, json: &str) {
        let skipped = match serde_json::from_str::<LbEndpoint<'_>>(json) {
            Err(_) => &mut self.unreadable,
            Ok(endpoint) => match address(&endpoint) {
                Some(address) if address.port() == 0 => &mut self.unreadable,
                Some(address) => return self.endpoints.push(found(cluster, address, &endpoint)),
                None => &mut self.without_ip,
            },
        };
        *skipped = skipped.saturating_add(1);
    }

    /// Brings the endpoints in order and down to the number of addresses that a pool may have.
    fn settle(&mut self) {
        self.endpoints.sort_unstable();
        self.endpoints.dedup();
        let addresses: BTreeSet<SocketAddr> =
            self.endpoints.iter().map(|found| found.address).collect();
        if let Some(first_beyond) = addresses.iter().nth(MAX_RANKS) {
            self.endpoints.retain(|found| found.address < *first_beyond);
        }
        self.too_many = addresses.len().saturating_sub(MAX_RANKS);
    }
}

fn malformed(error: &serde_json::Error) -> DumpError {
    DumpError::Malformed {
        line: error.line(),
        column: error.column(),
    }
}

fn address(endpoint: &LbEndpoint<'_>) -> Option<SocketAddr> {
    let (address, port) = endpoint.socket_address()?;
    let ip: IpAddr = address.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

fn found(cluster: &str, address: SocketAddr, endpoint: &LbEndpoint<'_>) -> FoundEndpoint {
    let mut parts = endpoint.workload().split(';').map(known);
    let (workload, namespace) = (parts.next().flatten(), parts.next().flatten());
    FoundEndpoint {
        address,
        cluster: cluster.to_string(),
        workload,
        namespace,
        revision: parts.nth(1).flatten(),
        condition: Condition::of_health_status(endpoint.health_status()),
    }
}

fn known(part: &str) -> Option<String> {
    (!part.is_empty()).then(|| part.to_string())
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(f, "{bytes} bytes, {MAX_DUMP_BYTES} are read at most")
            }
            Self::Malformed { line, column } => {
                write!(f, "no list of endpoints at line {line}, column {column}")
            }
        }
    }
}

impl std::error::Error for DumpError {}

#[cfg(test)]
mod tests;
