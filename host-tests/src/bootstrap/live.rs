//! Parts of a bootstrap that Envoy takes from files instead, so that they can change while it runs.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::pools::become_eds;
use super::{
    ADMIN_CLUSTER, Bootstrap, CLUSTER, CLUSTERS, CONNECTION_MANAGER, LISTENER, SCRAPE_CLUSTER,
};
use crate::config_files::{ConfigFiles, endpoints_of};
use crate::pool_endpoint::PoolEndpoint;

const PICKER: &str = "picker";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

impl Bootstrap {
    /// Takes the pool's endpoints from a file, at first these.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn live_endpoints(
        mut self,
        files: &ConfigFiles,
        endpoints: &[PoolEndpoint],
    ) -> Result<Self> {
        files.write_endpoints(endpoints)?;
        let pool = self.0.pointer_mut(CLUSTER).context("no cluster")?;
        become_eds(pool, &files.source("endpoints"));
        Ok(self.with_node())
    }

    /// Takes the endpoints of another cluster of the bootstrap from a file, at first these.
    ///
    /// # Errors
    /// When there is no such cluster or the file cannot be written.
    pub fn live_endpoints_of(
        mut self,
        name: &str,
        files: &ConfigFiles,
        endpoints: &[PoolEndpoint],
    ) -> Result<Self> {
        files.write_endpoints_of(name, endpoints)?;
        let cluster = self.cluster(name).context("no cluster")?;
        become_eds(cluster, &files.source(&endpoints_of(name)));
        Ok(self.with_node())
    }

    /// Takes the pool's cluster from a file, so that it is a dynamic one, as under Istio. The result has no pool that could
    /// be changed further.
    ///
    /// # Errors
    /// When there is none or the file cannot be written.
    pub fn live_cluster(mut self, files: &ConfigFiles) -> Result<Self> {
        files.write_cluster(&self)?;
        // The route is read before the cluster is there.
        self.connection_manager()["route_config"]["validate_clusters"] = json!(false);
        let clusters = self.0.pointer_mut(CLUSTERS).and_then(Value::as_array_mut);
        clusters.context("no clusters")?.remove(0);
        self.0["dynamic_resources"]["cds_config"] = files.source("cluster");
        Ok(self.with_node())
    }

    /// Takes every cluster of ranks from a file, as under Istio: all but those by which the module asks. As
    /// [`live_cluster`](Self::live_cluster).
    ///
    /// # Errors
    /// As there.
    pub fn live_clusters(mut self, files: &ConfigFiles) -> Result<Self> {
        self.connection_manager()["route_config"]["validate_clusters"] = json!(false);
        let clusters = self.0.pointer_mut(CLUSTERS).and_then(Value::as_array_mut);
        let clusters = clusters.context("no clusters")?;
        let asks = |cluster: &Value| {
            [ADMIN_CLUSTER, SCRAPE_CLUSTER].contains(&cluster["name"].as_str().unwrap_or(""))
        };
        let (own, of_ranks): (Vec<Value>, Vec<Value>) = clusters.drain(..).partition(asks);
        *clusters = own;
        files.write_clusters(&of_ranks)?;
        self.0["dynamic_resources"]["cds_config"] = files.source("cluster");
        Ok(self.with_node())
    }

    /// Takes the picker from a file, at first as it is here.
    ///
    /// # Errors
    /// When there is none or the file cannot be written.
    pub fn live_picker(mut self, files: &ConfigFiles) -> Result<Self> {
        files.write_picker(&self)?;
        let filters = self.connection_manager()["http_filters"].as_array_mut();
        let picker = filters
            .into_iter()
            .flatten()
            .find(|filter| filter["name"] == PICKER);
        *picker.context("no picker")? = json!({"name": PICKER, "config_discovery": {
            "config_source": files.source(PICKER), "type_urls": [WASM],
        }});
        Ok(self.with_node())
    }

    /// Takes the listener from a file, at first as it is here. The result has none that could be changed further: to
    /// change it while Envoy runs, change a copy of what this was called on and give it to
    /// [`ConfigFiles::write_listener`].
    ///
    /// # Errors
    /// When there is none or the file cannot be written.
    pub fn live_listener(mut self, files: &ConfigFiles) -> Result<Self> {
        files.write_listener(&self)?;
        self.0["static_resources"]["listeners"] = json!([]);
        self.0["dynamic_resources"]["lds_config"] = files.source("listener");
        Ok(self.with_node())
    }

    /// The gateway's listener.
    #[must_use]
    pub fn listener(&self) -> Option<&Value> {
        self.0.pointer(LISTENER)
    }

    /// The pool's cluster.
    #[must_use]
    pub fn pool(&self) -> Option<&Value> {
        self.0.pointer(CLUSTER)
    }

    /// The picker's place in the chain of filters.
    #[must_use]
    pub fn picker(&self) -> Option<&Value> {
        let manager = self.0.pointer(CONNECTION_MANAGER)?;
        manager
            .get("http_filters")?
            .as_array()?
            .iter()
            .find(|filter| filter["name"] == PICKER)
    }

    /// Whoever takes configuration from elsewhere must say who it is.
    pub(super) fn with_node(mut self) -> Self {
        self.0["node"] = json!({"id": "gateway", "cluster": "gateway"});
        self
    }
}
