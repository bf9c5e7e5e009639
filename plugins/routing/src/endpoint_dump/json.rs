//! The parts of the dump's JSON that count; all other fields are skipped.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The whole answer; `{}` when there is no cluster.
#[derive(Deserialize)]
pub(super) struct Dump<'a> {
    #[serde(borrow, default)]
    configs: Vec<Config<'a>>,
}

#[derive(Deserialize)]
struct Config<'a> {
    #[serde(borrow)]
    endpoint_config: Option<Assignment<'a>>,
}

#[derive(Deserialize)]
struct Assignment<'a> {
    #[serde(borrow, default)]
    cluster_name: Cow<'a, str>,
    #[serde(borrow, default)]
    endpoints: Vec<Locality<'a>>,
}

/// Endpoints of one locality and priority, each as its own piece of JSON, so that a wrong one can be skipped, and those of
/// clusters that do not count cost nothing more.
#[derive(Deserialize)]
struct Locality<'a> {
    #[serde(borrow, default)]
    lb_endpoints: Vec<&'a RawValue>,
}

impl<'a> Dump<'a> {
    /// Each cluster's name with the JSON of its endpoints, of all localities and priorities.
    pub(super) fn clusters(
        &self,
    ) -> impl Iterator<Item = (&str, impl Iterator<Item = &'a str> + use<'a, '_>)> {
        let assignments = self
            .configs
            .iter()
            .filter_map(|config| config.endpoint_config.as_ref());
        assignments.map(|assignment| {
            let localities = assignment.endpoints.iter();
            let endpoints = localities.flat_map(|locality| locality.lb_endpoints.iter());
            (
                &*assignment.cluster_name,
                endpoints.map(|endpoint| endpoint.get()),
            )
        })
    }
}

/// One endpoint.
#[derive(Deserialize)]
pub(super) struct LbEndpoint<'a> {
    #[serde(borrow)]
    endpoint: Option<Endpoint<'a>>,
    #[serde(borrow, default)]
    health_status: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
}

#[derive(Deserialize)]
struct Endpoint<'a> {
    #[serde(borrow)]
    address: Option<Address<'a>>,
}

#[derive(Deserialize)]
struct Address<'a> {
    #[serde(borrow)]
    socket_address: Option<SocketAddress<'a>>,
}

#[derive(Deserialize)]
struct SocketAddress<'a> {
    #[serde(borrow, default)]
    address: Cow<'a, str>,
    #[serde(default)]
    port_value: u16,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    filter_metadata: Option<FilterMetadata<'a>>,
}

#[derive(Deserialize)]
struct FilterMetadata<'a> {
    #[serde(borrow)]
    istio: Option<IstioMetadata<'a>>,
}

#[derive(Deserialize)]
struct IstioMetadata<'a> {
    #[serde(borrow, default)]
    workload: Cow<'a, str>,
}

impl LbEndpoint<'_> {
    /// Address and port; `None` for pipes, internal listeners and named endpoints.
    pub(super) fn socket_address(&self) -> Option<(&str, u16)> {
        let address = self.endpoint.as_ref()?.address.as_ref()?;
        let socket = address.socket_address.as_ref()?;
        Some((&socket.address, socket.port_value))
    }

    /// The status as Envoy writes it; empty where it writes none.
    pub(super) fn health_status(&self) -> &str {
        &self.health_status
    }

    /// Istio's description of the workload, its parts apart by `;`; empty where there is none.
    pub(super) fn workload(&self) -> &str {
        let filters = self
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.filter_metadata.as_ref());
        filters
            .and_then(|filters| filters.istio.as_ref())
            .map_or("", |istio| &istio.workload)
    }
}
