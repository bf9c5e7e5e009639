//! An endpoint of the pool, as a control plane tells Envoy.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::{Value, json};

/// What the control plane says of an endpoint's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EndpointHealth {
    /// It serves.
    #[default]
    Healthy,
    /// It serves, but badly.
    Degraded,
    /// It ends what it has and should get nothing new: a pod that terminates.
    Draining,
    /// It does not serve.
    Unhealthy,
}

/// A rank as an endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its health.
    pub health: EndpointHealth,
    /// What Istio says of its workload: `name;namespace;service;revision;cluster`.
    pub workload: Option<String>,
}

impl PoolEndpoint {
    /// A healthy endpoint of which nothing more is known.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            health: EndpointHealth::Healthy,
            workload: None,
        }
    }

    /// The same with another health.
    #[must_use]
    pub fn with_health(self, health: EndpointHealth) -> Self {
        Self { health, ..self }
    }

    /// The same as a pod of a workload, with the metadata that Istio adds.
    #[must_use]
    pub fn of_workload(self, name: &str, namespace: &str) -> Self {
        let workload = Some(format!("{name};{namespace};{name};latest;Kubernetes"));
        Self { workload, ..self }
    }

    /// Envoy's `LbEndpoint`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let address =
            json!({"address": self.address.ip().to_string(), "port_value": self.address.port()});
        let mut endpoint = json!({"endpoint": {"address": {"socket_address": address}}});
        if self.health != EndpointHealth::Healthy {
            endpoint["health_status"] = json!(self.health);
        }
        if let Some(workload) = &self.workload {
            endpoint["metadata"] = json!({"filter_metadata": {"istio": {"workload": workload}}});
        }
        endpoint
    }
}
