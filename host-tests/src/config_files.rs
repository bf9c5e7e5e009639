//! Files that a running Envoy reads again whenever they change: endpoints, the listener, the picker.
//!
//! Each is replaced by renaming, so that Envoy, which watches for exactly that, never reads half of one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bootstrap::Bootstrap;
use crate::pool_endpoint::PoolEndpoint;

const KINDS: &str = "type.googleapis.com/envoy.config";

/// Where the endpoints of a cluster other than the pool's are.
pub(crate) fn endpoints_of(cluster: &str) -> String {
    format!("endpoints-{cluster}")
}

fn assignment(cluster: &str, endpoints: &[PoolEndpoint]) -> Value {
    let endpoints: Vec<Value> = endpoints.iter().map(PoolEndpoint::to_json).collect();
    json!({
        "@type": format!("{KINDS}.endpoint.v3.ClusterLoadAssignment"),
        "cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}],
    })
}

/// A folder of configuration; it goes away when this is dropped.
#[derive(Debug)]
pub struct ConfigFiles {
    folder: TempDir,
    version: AtomicU64,
}

impl ConfigFiles {
    /// An empty folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            version: AtomicU64::new(0),
        })
    }

    /// Tells Envoy which ranks the pool has from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_endpoints(&self, endpoints: &[PoolEndpoint]) -> Result<()> {
        self.write("endpoints", &assignment("pool", endpoints))
    }

    /// Tells Envoy which ranks another cluster has from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_endpoints_of(&self, cluster: &str, endpoints: &[PoolEndpoint]) -> Result<()> {
        self.write(&endpoints_of(cluster), &assignment(cluster, endpoints))
    }

    /// Gives Envoy the pool's cluster, as a control plane does; endpoints in a file of their own stay there.
    ///
    /// # Errors
    /// When the bootstrap has no pool or the file cannot be written.
    pub fn write_cluster(&self, bootstrap: &Bootstrap) -> Result<()> {
        let mut cluster = bootstrap.pool().context("no pool")?.clone();
        cluster["@type"] = json!(format!("{KINDS}.cluster.v3.Cluster"));
        self.write("cluster", &cluster)
    }

    /// Gives Envoy these clusters, as a control plane does.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_clusters(&self, clusters: &[Value]) -> Result<()> {
        let typed = clusters.iter().map(|cluster| {
            let mut cluster = cluster.clone();
            cluster["@type"] = json!(format!("{KINDS}.cluster.v3.Cluster"));
            cluster
        });
        self.write_all("cluster", &typed.collect::<Vec<_>>())
    }

    /// Tells Envoy to listen as this bootstrap says: the way to change both filters while traffic runs.
    ///
    /// # Errors
    /// When the bootstrap has no listener or the file cannot be written.
    pub fn write_listener(&self, bootstrap: &Bootstrap) -> Result<()> {
        let mut listener = bootstrap.listener().context("no listener")?.clone();
        listener["@type"] = json!(format!("{KINDS}.listener.v3.Listener"));
        self.write("listener", &listener)
    }

    /// Tells Envoy to run the picker as this bootstrap says, and to leave the listener alone.
    ///
    /// # Errors
    /// When the bootstrap has no picker or the file cannot be written.
    pub fn write_picker(&self, bootstrap: &Bootstrap) -> Result<()> {
        let mut extension = bootstrap.picker().context("no picker")?.clone();
        extension["@type"] = json!(format!("{KINDS}.core.v3.TypedExtensionConfig"));
        self.write("picker", &extension)
    }

    /// Where Envoy finds one of them.
    pub(crate) fn source(&self, name: &str) -> Value {
        json!({"resource_api_version": "V3", "path_config_source": {"path": self.path(name)}})
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.json"))
    }

    fn write(&self, name: &str, resource: &Value) -> Result<()> {
        self.write_all(name, std::slice::from_ref(resource))
    }

    fn write_all(&self, name: &str, resources: &[Value]) -> Result<()> {
        let version = self.version.fetch_add(1, Ordering::Relaxed).to_string();
        let response = json!({"version_info": version, "resources": resources});
        let (target, draft) = (self.path(name), self.folder.path().join("draft"));
        std::fs::write(&draft, response.to_string())
            .and_then(|()| std::fs::rename(&draft, &target))
            .with_context(|| format!("cannot write {}", target.display()))
    }
}
