//! Plain Services behind a gateway, as `manifests/istio/services` has them, without istiod.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Bootstrap, CLUSTER, CLUSTERS};
use crate::istio_manifest::IstioManifest;
use crate::pool_endpoint::PoolEndpoint;

const LUA: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
/// Where the folder's objects are.
const FOLDER: &str = "manifests/istio/services";

impl Bootstrap {
    /// A gateway before a Service of these ranks: a cluster for each port with the endpoints of all pods, routes by the port
    /// of the rank that is named first, and the Lua of the manifest before and behind the module.
    ///
    /// # Errors
    /// When a manifest or the module is missing.
    pub fn of_services(ranks: &[SocketAddr]) -> Result<Self> {
        let mut bootstrap = Self::with_rank_router(ranks)?;
        let mut ports: Vec<u16> = ranks.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        let pool = bootstrap.0.pointer(CLUSTER).context("no cluster")?.clone();
        let clusters = ports.iter().map(|port| cluster_of(&pool, *port, ranks));
        let clusters: Vec<Value> = clusters.collect();
        let all = bootstrap.0.pointer_mut(CLUSTERS);
        let all = all.and_then(Value::as_array_mut).context("no clusters")?;
        all.splice(0..1, clusters);
        let routes = bootstrap.routes_of(&ports)?;
        let host = "/route_config/virtual_hosts/0/routes";
        *bootstrap
            .connection_manager()
            .pointer_mut(host)
            .context("no routes")? = json!(routes);
        let behind = 3;
        Ok(bootstrap
            .discovers(&["decode-*"])
            .filter(0, lua("rank-router-strip")?)
            .filter(behind, lua("rank-router-pod")?))
    }

    /// The rules of the manifest's HTTPRoute, as istiod makes routes of them.
    fn routes_of(&mut self, ports: &[u16]) -> Result<Vec<Value>> {
        let manifest = object("llm")?;
        let rules = manifest["spec"]["rules"].as_array().context("no rules")?;
        let mut routes = Vec::new();
        for rule in rules {
            let port = rule["backendRefs"][0]["port"].as_u64();
            let port = port.context("no port")?;
            if !ports.iter().any(|known| u64::from(*known) == port) {
                continue;
            }
            let mut action = self.route().clone();
            action["cluster"] = json!(name_of(port));
            let headers = rule["matches"][0]["headers"].as_array();
            let headers = headers.into_iter().flatten().map(header_match);
            let headers: Vec<Value> = headers.collect();
            routes.push(json!({"match": {"prefix": "/", "headers": headers}, "route": action}));
        }
        Ok(routes)
    }
}

fn name_of(port: u64) -> String {
    format!("decode-{port}")
}

/// As istiod makes it: without a policy that reads a header.
fn cluster_of(pool: &Value, port: u16, ranks: &[SocketAddr]) -> Value {
    let mut cluster = pool.clone();
    let own = ranks.iter().filter(|rank| rank.port() == port);
    let endpoints: Vec<Value> = own.map(|rank| PoolEndpoint::at(*rank).to_json()).collect();
    let name = name_of(u64::from(port));
    cluster["name"] = json!(name);
    cluster["load_assignment"] =
        json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]});
    cluster["lb_policy"] = json!("ROUND_ROBIN");
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.remove("load_balancing_policy");
    }
    cluster
}

fn header_match(header: &Value) -> Value {
    json!({"name": header["name"], "string_match": {"safe_regex": {"regex": header["value"]}}})
}

/// The Lua filter that istiod makes of a TrafficExtension.
fn lua(name: &str) -> Result<Value> {
    let code = object(name)?["spec"]["lua"]["inlineCode"].clone();
    anyhow::ensure!(code.is_string(), "{name} has no Lua");
    let config = json!({"@type": LUA, "default_source_code": {"inline_string": code}});
    Ok(json!({"name": name, "typed_config": config}))
}

fn object(name: &str) -> Result<Value> {
    let mut manifests = IstioManifest::all()?.into_iter();
    let found = manifests.find(|manifest| {
        let folder = manifest.path.parent();
        folder.is_some_and(|folder| folder.ends_with(FOLDER))
            && manifest.object["metadata"]["name"] == name
    });
    Ok(found
        .with_context(|| format!("{FOLDER} has no {name}"))?
        .object)
}
