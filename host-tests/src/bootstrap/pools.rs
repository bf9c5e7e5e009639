//! How the picker comes to its ranks, and gateways of several pools.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use routing::MODEL_HEADER;
use serde_json::{Value, json};

use super::{Bootstrap, CLUSTER, CLUSTERS};
use crate::config_files::ConfigFiles;
use crate::pool_endpoint::PoolEndpoint;

/// A request with this header goes to the cluster that it names, if the gateway has a route to it.
pub const CLUSTER_HEADER: &str = "x-cluster";

impl Bootstrap {
    /// Lets the picker find its ranks in the clusters of these names, instead of in a list.
    #[must_use]
    pub fn discovers(self, clusters: &[&str]) -> Self {
        self.picker_field("ranks", Value::Null)
            .picker_field("clusters", json!(clusters))
    }

    /// Gives the picker several pools, in the place of what it has.
    #[must_use]
    pub fn pools(self, pools: &Value) -> Self {
        self.change_picker(|own| *own = json!({"filter": "picker", "pools": pools}))
    }

    /// Adds a cluster like the pool's, with endpoints from a file of its own, and a route to it by [`CLUSTER_HEADER`].
    ///
    /// # Errors
    /// When there is no pool or the file cannot be written.
    pub fn another_cluster(
        mut self,
        name: &str,
        files: &ConfigFiles,
        endpoints: &[PoolEndpoint],
    ) -> Result<Self> {
        let mut cluster = self.0.pointer(CLUSTER).context("no cluster")?.clone();
        cluster["name"] = json!(name);
        let clusters = self.0.pointer_mut(CLUSTERS).and_then(Value::as_array_mut);
        clusters.context("no clusters")?.push(cluster);
        self.route_by_header(name)?;
        self.live_endpoints_of(name, files, endpoints)
    }

    /// Adds a cluster like the pool's with these ranks, and a route to it for the model of this name.
    ///
    /// # Errors
    /// When there is no pool.
    pub fn cluster_of_model(self, name: &str, model: &str, ranks: &[SocketAddr]) -> Result<Self> {
        self.cluster_if(name, (MODEL_HEADER, model), ranks)
    }

    /// Adds a cluster like the pool's with these ranks, and a route to it for requests with this header.
    ///
    /// # Errors
    /// When there is no pool.
    pub fn cluster_if(
        mut self,
        name: &str,
        (header, value): (&str, &str),
        ranks: &[SocketAddr],
    ) -> Result<Self> {
        let mut cluster = self.0.pointer(CLUSTER).context("no cluster")?.clone();
        let endpoints = ranks.iter().map(|rank| PoolEndpoint::at(*rank).to_json());
        cluster["name"] = json!(name);
        cluster["load_assignment"]["cluster_name"] = json!(name);
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = endpoints.collect();
        let clusters = self.0.pointer_mut(CLUSTERS).and_then(Value::as_array_mut);
        clusters.context("no clusters")?.push(cluster);
        self.route_to_if(name, header, value)?;
        Ok(self)
    }

    /// Adds a cluster with these endpoints, to which no route leads.
    ///
    /// # Errors
    /// When there are no clusters.
    pub fn cluster_of(mut self, name: &str, endpoints: &[SocketAddr]) -> Result<Self> {
        let endpoints = endpoints.iter().map(|one| PoolEndpoint::at(*one).to_json());
        let endpoints: Vec<Value> = endpoints.collect();
        let cluster = json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        });
        let clusters = self.0.pointer_mut(CLUSTERS).and_then(Value::as_array_mut);
        clusters.context("no clusters")?.push(cluster);
        Ok(self)
    }

    /// Takes a cluster away.
    #[must_use]
    pub fn without_cluster(mut self, name: &str) -> Self {
        if let Some(clusters) = self.0.pointer_mut(CLUSTERS).and_then(Value::as_array_mut) {
            clusters.retain(|cluster| cluster["name"] != name);
        }
        self
    }

    /// Gives a cluster another name.
    #[must_use]
    pub fn renamed_cluster(mut self, name: &str, new_name: &str) -> Self {
        if let Some(cluster) = self.cluster(name) {
            cluster["name"] = json!(new_name);
        }
        self
    }

    fn route_by_header(&mut self, cluster: &str) -> Result<()> {
        self.route_to_if(cluster, CLUSTER_HEADER, cluster)
    }

    fn route_to_if(&mut self, cluster: &str, header: &str, value: &str) -> Result<()> {
        let mut route = self.route().clone();
        route["cluster"] = json!(cluster);
        let is_it = json!({"name": header, "string_match": {"exact": value}});
        let routes = self
            .connection_manager()
            .pointer_mut("/route_config/virtual_hosts/0/routes")
            .and_then(Value::as_array_mut);
        let routes = routes.context("no routes")?;
        routes.insert(
            0,
            json!({"match": {"prefix": "/", "headers": [is_it]}, "route": route}),
        );
        Ok(())
    }
}

/// Lets a cluster take its endpoints from elsewhere.
pub(super) fn become_eds(cluster: &mut Value, source: &Value) {
    cluster["type"] = json!("EDS");
    cluster["eds_cluster_config"] = json!({"eds_config": source});
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.remove("load_assignment");
    }
}
