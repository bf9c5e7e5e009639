//! Envoy configurations, read from `manifests/envoy` and adapted to a test.
//!
//! Tests run what users apply: the file is the one in the repository, and only what must differ is changed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::pool_endpoint::PoolEndpoint;
use crate::{pod_addresses, repository};

mod guards;
mod istio;
mod live;
mod logs;
mod pools;
mod services;

pub use guards::ModuleFilter;
pub use pools::CLUSTER_HEADER;

const LISTENER: &str = "/static_resources/listeners/0";
const CONNECTION_MANAGER: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const CLUSTERS: &str = "/static_resources/clusters";
const CLUSTER: &str = "/static_resources/clusters/0";
const ADMIN_ADDRESS: &str = "/admin/address/socket_address/address";
/// The cluster by which the module reaches Envoy's own admin interface.
const ADMIN_CLUSTER: &str = "prometheus_stats";
/// The cluster by which it reaches any rank.
const SCRAPE_CLUSTER: &str = "rank_router_scrape";

/// An Envoy bootstrap configuration.
#[derive(Clone, Debug)]
pub struct Bootstrap(Value);

impl Bootstrap {
    /// Reads `manifests/envoy/<name>` with a port for the listener that the kernel chooses and an address for the admin
    /// interface that nobody else has: its port must be known beforehand, because a cluster points at it.
    ///
    /// # Errors
    /// When the file is missing or is no YAML.
    pub fn read(name: &str) -> Result<Self> {
        let text = repository::read(&format!("manifests/envoy/{name}"))?;
        let value =
            serde_saphyr::from_str(&text).with_context(|| format!("{name} is no valid YAML"))?;
        let mut bootstrap = Self(value);
        bootstrap.set(
            &format!("{LISTENER}/address/socket_address/port_value"),
            json!(0),
        );
        Ok(bootstrap.admin_at(&pod_addresses::unused(1)))
    }

    /// The gateway with the module in front of `ranks`, as `manifests/envoy/rank-router.yaml` has it, but with a list of the
    /// ranks, so that they are there from the first request on.
    ///
    /// # Errors
    /// When the file or the module is missing.
    pub fn with_rank_router(ranks: &[SocketAddr]) -> Result<Self> {
        let module = repository::module()?;
        let bootstrap = Self::read("rank-router.yaml")?.ranks(ranks);
        Ok(bootstrap
            .picker_field("clusters", Value::Null)
            .picker_field("ranks", rank_list(ranks))
            .module(&module))
    }

    /// The gateway with the module before ranks of which some prefill and others decode, as
    /// `manifests/envoy/disaggregated.yaml` has it: the module finds them by Envoy's admin interface.
    ///
    /// # Errors
    /// When the file or the module is missing.
    pub fn disaggregated(prefill: &[SocketAddr], decode: &[SocketAddr]) -> Result<Self> {
        let module = repository::module()?;
        let mut bootstrap = Self::read("disaggregated.yaml")?.ranks(decode);
        let endpoints = prefill.iter().map(|rank| PoolEndpoint::at(*rank).to_json());
        let endpoints: Vec<Value> = endpoints.collect();
        let cluster = bootstrap.cluster("prefill").context("no cluster")?;
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = json!(endpoints);
        Ok(bootstrap.module(&module))
    }

    /// The same gateway with Envoy's round robin, as `manifests/envoy/round-robin.yaml` has it.
    ///
    /// # Errors
    /// When the file is missing.
    pub fn with_round_robin(ranks: &[SocketAddr]) -> Result<Self> {
        Ok(Self::read("round-robin.yaml")?.ranks(ranks))
    }

    /// Balances by another policy of Envoy's own; for the gateway without the module.
    #[must_use]
    pub fn balance(mut self, policy: &str) -> Self {
        if let Some(balanced) = self.0.pointer_mut("/static_resources/clusters/0/lb_policy") {
            *balanced = policy.into();
        }
        self
    }

    /// Puts another module in the place of this build's.
    #[must_use]
    pub fn module(mut self, module: &Path) -> Self {
        self.each_module(|wasm| set_code(wasm, module));
        self
    }

    /// Sets the configuration of the VM: another one makes Envoy start new VMs, as a new version of the module does.
    #[must_use]
    pub fn vm_configuration(mut self, text: &str) -> Self {
        let value =
            json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text});
        self.each_module(|wasm| wasm["config"]["vm_config"]["configuration"] = value.clone());
        self
    }

    /// Sets what Envoy does when a VM fails, for both filters.
    #[must_use]
    pub fn failure_policy(mut self, policy: &str) -> Self {
        self.each_module(|wasm| wasm["config"]["failure_policy"] = json!(policy));
        self
    }

    /// Sets a field of the picker's own configuration.
    #[must_use]
    pub fn picker_field(self, field: &str, value: Value) -> Self {
        self.change_picker(|own| own[field] = value.clone())
    }

    fn change_picker(mut self, change: impl Fn(&mut Value)) -> Self {
        self.each_module(|wasm| {
            let text = wasm
                .pointer("/config/configuration/value")
                .and_then(Value::as_str)
                .unwrap_or("{}");
            let mut own: Value = serde_json::from_str(text).unwrap_or_default();
            if own["filter"] == "picker" {
                change(&mut own);
                wasm["config"]["configuration"]["value"] = json!(own.to_string());
            }
        });
        self
    }

    /// Sets the bytes that Envoy buffers for a connection before it stops reading, or leaves Envoy's default; takes away
    /// the virtual host's own limit, which would count instead.
    #[must_use]
    pub fn buffer_limit(mut self, bytes: Option<u32>) -> Self {
        let host = self
            .connection_manager()
            .pointer_mut("/route_config/virtual_hosts/0");
        if let Some(host) = host.and_then(Value::as_object_mut) {
            host.remove("request_body_buffer_limit");
        }
        if let (Some(bytes), Some(listener)) = (bytes, self.0.pointer_mut(LISTENER)) {
            listener["per_connection_buffer_limit_bytes"] = json!(bytes);
        }
        self
    }

    /// Gives each worker as many connections as the others, whoever of them accepts one.
    #[must_use]
    pub fn balanced_connections(mut self) -> Self {
        if let Some(listener) = self.0.pointer_mut(LISTENER) {
            listener["connection_balance_config"] = json!({"exact_balance": {}});
        }
        self
    }

    /// Sets how long a stream may stand still.
    #[must_use]
    pub fn stream_idle_timeout(mut self, seconds: f64) -> Self {
        self.connection_manager()["stream_idle_timeout"] = json!(format!("{seconds}s"));
        self
    }

    /// Sets how long the whole answer may take.
    #[must_use]
    pub fn route_timeout(mut self, seconds: f64) -> Self {
        self.route()["timeout"] = json!(format!("{seconds}s"));
        self
    }

    /// Sets the same for requests with a header alone.
    #[must_use]
    pub fn route_timeout_with(mut self, header: &str, seconds: f64) -> Self {
        let host = self
            .connection_manager()
            .pointer_mut("/route_config/virtual_hosts/0/routes");
        if let Some(routes) = host.and_then(Value::as_array_mut) {
            let mut route = routes.first().cloned().unwrap_or_default();
            route["match"]["headers"] = json!([{"name": header, "present_match": true}]);
            route["route"]["timeout"] = json!(format!("{seconds}s"));
            routes.insert(0, route);
        }
        self
    }

    /// Sets with which statuses of an answer Envoy asks the next rank.
    #[must_use]
    pub fn retried_statuses(mut self, statuses: &[u16]) -> Self {
        self.route()["retry_policy"]["retriable_status_codes"] = json!(statuses);
        self
    }

    /// Sends every request to another cluster.
    #[must_use]
    pub fn route_to(mut self, cluster: &str) -> Self {
        self.route()["cluster"] = json!(cluster);
        self
    }

    /// Puts an HTTP filter into the chain at `position`: 0 is before the reader, 2 behind the picker.
    #[must_use]
    pub fn filter(mut self, position: usize, filter: Value) -> Self {
        if let Some(filters) = self.connection_manager()["http_filters"].as_array_mut() {
            filters.insert(position.min(filters.len()), filter);
        }
        self
    }

    /// Takes the HTTP filter at `position` out of the chain.
    #[must_use]
    pub fn without_filter(mut self, position: usize) -> Self {
        if let Some(filters) = self.connection_manager()["http_filters"].as_array_mut() {
            filters.remove(position);
        }
        self
    }

    /// Exchanges two HTTP filters of the chain.
    #[must_use]
    pub fn swap_filters(mut self, one: usize, other: usize) -> Self {
        if let Some(filters) = self.connection_manager()["http_filters"].as_array_mut() {
            filters.swap(one, other);
        }
        self
    }

    /// Puts reader and picker into the chain a second time, behind the first two.
    #[must_use]
    pub fn twice_the_module(mut self) -> Self {
        if let Some(filters) = self.connection_manager()["http_filters"].as_array_mut() {
            let again = filters[..2].to_vec();
            filters.splice(2..2, again);
        }
        self
    }

    /// The configuration as JSON, which Envoy reads like YAML.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }

    fn ranks(mut self, ranks: &[SocketAddr]) -> Self {
        let endpoints: Vec<Value> = ranks
            .iter()
            .map(|rank| PoolEndpoint::at(*rank).to_json())
            .collect();
        self.set(
            &format!("{CLUSTER}/load_assignment/endpoints/0/lb_endpoints"),
            json!(endpoints),
        );
        self
    }

    fn admin_at(mut self, addresses: &[Ipv4Addr]) -> Self {
        let Some(address) = addresses.first().map(|address| json!(address)) else {
            return self;
        };
        self.set(ADMIN_ADDRESS, address.clone());
        if let Some(cluster) = self.cluster(ADMIN_CLUSTER) {
            cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
                ["socket_address"]["address"] = address;
        }
        self
    }

    fn cluster(&mut self, name: &str) -> Option<&mut Value> {
        let clusters = self.0.pointer_mut(CLUSTERS)?.as_array_mut()?;
        clusters.iter_mut().find(|cluster| cluster["name"] == name)
    }

    fn set(&mut self, pointer: &str, value: Value) {
        if let Some(place) = self.0.pointer_mut(pointer) {
            *place = value;
        }
    }

    fn connection_manager(&mut self) -> &mut Value {
        self.0
            .pointer_mut(CONNECTION_MANAGER)
            .expect("a manifest has an HTTP connection manager")
    }

    fn route(&mut self) -> &mut Value {
        self.connection_manager()
            .pointer_mut("/route_config/virtual_hosts/0/routes/0/route")
            .expect("a manifest has a route")
    }

    fn each_module(&mut self, change: impl Fn(&mut Value)) {
        let filters = self.connection_manager()["http_filters"].as_array_mut();
        let configs = filters
            .into_iter()
            .flatten()
            .filter_map(|filter| filter.get_mut("typed_config"));
        configs
            .filter(|config| {
                config["@type"]
                    .as_str()
                    .is_some_and(|kind| kind.ends_with("wasm.v3.Wasm"))
            })
            .for_each(change);
    }
}

/// The `configuration` of each Wasm filter of a bootstrap, in the order of the chain.
#[must_use]
pub fn module_configurations(bootstrap: &Bootstrap) -> Vec<String> {
    let mut texts = Vec::new();
    let filters = bootstrap
        .0
        .pointer(CONNECTION_MANAGER)
        .map(|manager| &manager["http_filters"]);
    for filter in filters.and_then(Value::as_array).into_iter().flatten() {
        let text = filter
            .pointer("/typed_config/config/configuration/value")
            .and_then(Value::as_str);
        texts.extend(text.map(ToString::to_string));
    }
    texts
}

fn set_code(wasm: &mut Value, module: &Path) {
    if let Some(name) = wasm.pointer_mut("/config/vm_config/code/local/filename") {
        *name = json!(module);
    }
}

fn rank_list(ranks: &[SocketAddr]) -> Value {
    json!(ranks.iter().map(ToString::to_string).collect::<Vec<_>>())
}
