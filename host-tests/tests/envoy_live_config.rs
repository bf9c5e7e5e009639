//! Configuration that changes while a real Envoy runs: endpoints, the listener with both filters, the picker alone.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use host_tests::bootstrap::Bootstrap;
use host_tests::config_files::ConfigFiles;
use host_tests::connection::{Connection, Protocol, get};
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::pod_addresses;
use host_tests::pool_endpoint::{EndpointHealth, PoolEndpoint};
use host_tests::reply::{Reply, request};
use host_tests::sim::{PodsConfig, SimulatedPods};
use hyper::Method;
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";

async fn two_pods() -> Result<(SimulatedPods, Vec<SocketAddr>)> {
    let config = PodsConfig {
        pods: pod_addresses::unused(2),
        ranks_per_pod: 1,
        ..PodsConfig::default()
    };
    let pods = SimulatedPods::start(config).await?;
    let ranks = pods.ranks().iter().map(|rank| rank.addr()).collect();
    Ok((pods, ranks))
}

async fn answering_rank(envoy: &Envoy) -> Result<Option<SocketAddr>> {
    let mut connection = Connection::open(envoy.gateway(), Protocol::Http1Length).await?;
    Ok(ask(envoy, &mut connection).await?.rank())
}

async fn ask(envoy: &Envoy, connection: &mut Connection) -> Result<Reply> {
    let body = json!({"prompt": "tide", "max_tokens": 1}).to_string();
    let request = request(envoy.gateway(), Method::POST, COMPLETIONS, &[], &body)?;
    Reply::read(connection.send(request).await?).await
}

/// The endpoints that Envoy's admin interface tells of.
async fn endpoints(envoy: &Envoy, kind: &str) -> Result<Vec<Value>> {
    let path = format!("/config_dump?include_eds&resource={kind}_endpoint_configs&name_regex=pool");
    let page = get(envoy.admin(), &path).await?;
    let dump: Value = serde_json::from_str(&page)?;
    let endpoints = dump.pointer("/configs/0/endpoint_config/endpoints/0/lb_endpoints");
    Ok(endpoints
        .and_then(Value::as_array)
        .context(page.clone())?
        .clone())
}

each_envoy! {
    async fn the_pool_follows_its_file(version: &str) -> Result<()> {
        let (_pods, ranks) = two_pods().await?;
        let files = ConfigFiles::new()?;
        // The picker names both all the time: Envoy skips the one that the pool does not have.
        let bootstrap = Bootstrap::with_rank_router(&ranks)?.live_endpoints(&files, &[PoolEndpoint::at(ranks[0])])?;
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        for (update, rank) in [(1, ranks[0]), (2, ranks[1]), (3, ranks[0])] {
            files.write_endpoints(&[PoolEndpoint::at(rank)])?;
            envoy.wait_for_stat("cluster.pool.update_success", update + 1).await?;
            assert_eq!(answering_rank(&envoy).await?, Some(rank));
        }
        Ok(())
    }

    async fn health_workload_and_ipv6_reach_the_admin_interface(version: &str) -> Result<()> {
        let draining = PoolEndpoint::at("[::1]:8000".parse()?).with_health(EndpointHealth::Draining).of_workload("decode-0", "models");
        // A cluster of the bootstrap is static to Envoy, wherever its endpoints come from.
        for kind in ["static", "dynamic"] {
            let files = ConfigFiles::new()?;
            let mut bootstrap = Bootstrap::with_rank_router(&["127.0.0.1:8000".parse()?])?.live_endpoints(&files, std::slice::from_ref(&draining))?;
            if kind == "dynamic" {
                bootstrap = bootstrap.live_cluster(&files)?;
            }
            let envoy = Envoy::start(version, 1, &bootstrap).await?;
            let endpoints = endpoints(&envoy, kind).await?;
            // A draining endpoint is told as an unhealthy one.
            assert_eq!(endpoints[0]["health_status"], "UNHEALTHY");
            assert_eq!(endpoints[0].pointer("/endpoint/address/socket_address/address"), Some(&json!("::1")));
            assert_eq!(
                endpoints[0].pointer("/metadata/filter_metadata/istio/workload"),
                Some(&json!("decode-0;models;decode-0;latest;Kubernetes"))
            );
        }
        Ok(())
    }

    async fn the_clusters_that_the_module_calls_reach_admin_and_ranks(version: &str) -> Result<()> {
        let (_pods, ranks) = two_pods().await?;
        for (cluster, path, answer) in [("prometheus_stats", "/ready", "LIVE"), ("rank_router_scrape", "/metrics", "vllm:num_requests_running")] {
            let bootstrap = Bootstrap::with_rank_router(&ranks)?.route_to(cluster).without_filter(0).without_filter(0);
            let envoy = Envoy::start(version, 1, &bootstrap).await?;
            let mut connection = Connection::open(envoy.gateway(), Protocol::Http1Length).await?;
            let rank = ranks[1].to_string();
            let request = request(envoy.gateway(), Method::GET, path, &[("x-envoy-original-dst-host", &rank)], "")?;
            let reply = Reply::read(connection.send(request).await?).await?;
            assert_eq!(reply.status, 200, "{cluster}");
            assert!(String::from_utf8_lossy(&reply.body).contains(answer), "{cluster}: {:?}", reply.body);
        }
        Ok(())
    }

    async fn the_listener_follows_its_file_and_old_connections_go_on(version: &str) -> Result<()> {
        let (_pods, ranks) = two_pods().await?;
        let files = ConfigFiles::new()?;
        let bootstrap = Bootstrap::with_rank_router(&ranks)?;
        let envoy = Envoy::start(version, 1, &bootstrap.clone().live_listener(&files)?).await?;
        let mut old = Connection::open(envoy.gateway(), Protocol::Http1Length).await?;
        assert!(ask(&envoy, &mut old).await?.rank().is_some());
        // From now on the picker knows one rank.
        files.write_listener(&bootstrap.picker_field("ranks", json!([ranks[0].to_string()])).picker_field("pool", json!("one")))?;
        envoy.wait_for_stat("listener_manager.lds.update_success", 2).await?;
        assert!(ask(&envoy, &mut old).await?.rank().is_some());
        for _ in 0..4 {
            assert_eq!(answering_rank(&envoy).await?, Some(ranks[0]));
        }
        envoy.wait_until_nothing_is_counted().await
    }

    async fn the_picker_follows_its_file_on_open_connections_too(version: &str) -> Result<()> {
        let (_pods, ranks) = two_pods().await?;
        let files = ConfigFiles::new()?;
        let bootstrap = Bootstrap::with_rank_router(&ranks)?;
        let envoy = Envoy::start(version, 1, &bootstrap.clone().live_picker(&files)?).await?;
        let mut old = Connection::open(envoy.gateway(), Protocol::Http1Length).await?;
        assert!(ask(&envoy, &mut old).await?.rank().is_some());
        for (update, rank) in [(2, ranks[0]), (3, ranks[1])] {
            files.write_picker(&bootstrap.clone().picker_field("ranks", json!([rank.to_string()])))?;
            envoy.wait_for_stat("extension_config_discovery.http_filter.picker.config_reload", update).await?;
            for _ in 0..4 {
                assert_eq!(ask(&envoy, &mut old).await?.rank(), Some(rank));
            }
        }
        envoy.wait_until_nothing_is_counted().await
    }
}
