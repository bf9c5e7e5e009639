//! The module follows Envoy's own endpoint table, in a real Envoy.
//!
//! How long each step took is printed: `cargo test ... -- --nocapture`.

use std::collections::HashSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use host_tests::bootstrap::{Bootstrap, CLUSTER_HEADER};
use host_tests::caller::Caller;
use host_tests::config_files::ConfigFiles;
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::pod_addresses;
use host_tests::pool_endpoint::{EndpointHealth, PoolEndpoint};
use host_tests::reply::{Reply, send};
use host_tests::scene::ECHO;
use host_tests::sim::{PodsConfig, SimulatedPods};
use host_tests::traffic::{Traffic, ask, lost};
use hyper::Method;
use routing::DESTINATION_HEADER;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

const COMPLETIONS: &str = "/v1/completions";
const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(20);
/// A rank of four that is still used is not passed over so often by chance.
const IN_A_ROW: usize = 50;

async fn pods(count: u32, ranks_per_pod: u16) -> Result<(SimulatedPods, Vec<SocketAddr>)> {
    let config = PodsConfig {
        pods: pod_addresses::unused(count),
        ranks_per_pod,
        ..PodsConfig::default()
    };
    let pods = SimulatedPods::start(config).await?;
    let ranks = pods.ranks().iter().map(|rank| rank.addr()).collect();
    Ok((pods, ranks))
}

fn endpoints(ranks: &[SocketAddr]) -> Vec<PoolEndpoint> {
    ranks.iter().map(|rank| PoolEndpoint::at(*rank)).collect()
}

/// A prompt of six blocks of the default size.
async fn complete(envoy: &Envoy, topic: &str, headers: &[(&str, &str)]) -> Result<Reply> {
    let prompt = format!("{topic}: ").repeat(1600 / (topic.len() + 2));
    let body = json!({"prompt": prompt, "max_tokens": 1}).to_string();
    let reply = send(envoy.gateway(), Method::POST, COMPLETIONS, headers, &body).await?;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    Ok(reply)
}

/// The ranks that are named for a request to a cluster.
async fn named(envoy: &Envoy, topic: &str, cluster: &str) -> Result<Vec<SocketAddr>> {
    let headers = [ECHO, (CLUSTER_HEADER, cluster)];
    let reply = complete(envoy, topic, &headers).await?;
    Ok(reply.digest()?.named_ranks())
}

/// A gateway whose pool is in the hands of a control plane, and the time since that last said something new.
struct Stage {
    files: ConfigFiles,
    envoy: Envoy,
    updates: u64,
}

impl Stage {
    async fn start(version: &str, endpoints: &[PoolEndpoint]) -> Result<Self> {
        let files = ConfigFiles::new()?;
        let bootstrap = Bootstrap::with_rank_router(&[])?
            .discovers(&["pool*"])
            .live_endpoints(&files, endpoints)?
            .live_cluster(&files)?;
        let envoy = Envoy::start(version, 2, &bootstrap).await?;
        let listed = u64::try_from(endpoints.len())?;
        envoy.wait_for_metric("ranks_listed", listed).await?;
        Ok(Self {
            files,
            envoy,
            updates: 1,
        })
    }

    /// Gives when Envoy knew.
    async fn tell(&mut self, endpoints: &[PoolEndpoint]) -> Result<SystemTime> {
        self.files.write_endpoints(endpoints)?;
        self.updates += 1;
        let name = "cluster.pool.update_success";
        self.envoy.wait_for_stat(name, self.updates).await?;
        Ok(SystemTime::now())
    }
}

/// Listens on an IPv6 address and passes everything on to a rank.
async fn in_front_of(rank: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut rank = TcpStream::connect(rank).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut rank).await
            });
        }
    });
    Ok(address)
}

each_envoy! {
    async fn ranks_that_appear_drain_fail_and_vanish_are_followed_under_traffic(version: &str) -> Result<()> {
        let (_pods, ranks) = pods(2, 2).await?;
        let mut stage = Stage::start(version, &endpoints(&ranks[..3])).await?;
        let caller = Caller::new(stage.envoy.gateway(), PATIENCE);
        let traffic = Traffic::start(caller, 0, PACE);

        let mut now = endpoints(&ranks);
        let known = stage.tell(&now).await?;
        println!("{version}: a new rank answers after {:?}", traffic.wait_until_answered_by(ranks[3], known).await?);
        for (rank, health) in [(0, EndpointHealth::Draining), (1, EndpointHealth::Unhealthy)] {
            now[rank] = PoolEndpoint::at(ranks[rank]).with_health(health);
            let known = stage.tell(&now).await?;
            let last = traffic.wait_until_left(&ranks[rank..=rank], IN_A_ROW, known).await?;
            println!("{version}: the last request to a rank that is {health:?} came after {last:?}");
        }
        now.remove(2);
        let known = stage.tell(&now).await?;
        stage.envoy.wait_for_metric("ranks_listed", 3).await?;
        println!("{version}: a rank that vanished is forgotten after {:?}", known.elapsed()?);
        traffic.wait_until_left(&ranks[..3], IN_A_ROW, known).await?;

        let known = stage.tell(&endpoints(&ranks)).await?;
        for rank in &ranks {
            println!("{version}: a rank that came back answers after {:?}", traffic.wait_until_answered_by(*rank, known).await?);
        }
        let calls = traffic.stop().await;
        assert!(lost(&calls).is_empty(), "{:?}", lost(&calls));
        assert_eq!(stage.envoy.metric("picks_no_rank").await?, 0);
        Ok(())
    }

    async fn prefill_ranks_are_never_a_destination(version: &str) -> Result<()> {
        let (_pods, ranks) = pods(1, 4).await?;
        let files = ConfigFiles::new()?;
        let pod = |rank: usize, workload: &str| PoolEndpoint::at(ranks[rank]).of_workload(workload, "models");
        // The names of workloads tell in the first pool, rules in the second, where a name would tell the contrary.
        let pools = json!([
            {"pool": "named", "clusters": ["pool"]},
            {"pool": "ruled", "clusters": ["ruled*"], "roles": [
                {"role": "prefill", "cluster": "*-helpers"}, {"role": "decode", "namespace": "models"},
            ]},
        ]);
        let bootstrap = Bootstrap::with_rank_router(&[])?
            .pools(&pools)
            .live_endpoints(&files, &[pod(0, "wide-ep-prefill"), pod(1, "wide-ep-decode")])?
            .another_cluster("ruled", &files, &[pod(2, "odd-prefill")])?
            .another_cluster("ruled-helpers", &files, &[pod(3, "plain")])?;
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        envoy.wait_for_metric("ranks_listed", 4).await?;
        for number in 0..8 {
            let topic = format!("topic {number}");
            assert_eq!(named(&envoy, &topic, "").await?, [ranks[1]]);
            assert_eq!(named(&envoy, &topic, "ruled").await?, [ranks[2]]);
        }
        Ok(())
    }

    async fn two_pools_in_one_gateway_have_their_own_ranks_state_and_settings(version: &str) -> Result<()> {
        let (_pods, ranks) = pods(5, 1).await?;
        let files = ConfigFiles::new()?;
        let pools = json!([
            {"pool": "a", "clusters": ["pool"], "decideAfterIdleMs": 10_000},
            {"pool": "b", "clusters": ["b-*"], "decideAfterIdleMs": 10_000, "blockBytes": 4096},
        ]);
        // One cluster of the bootstrap and one of a control plane: Envoy tells of them in two tables.
        let bootstrap = Bootstrap::with_rank_router(&[])?
            .pools(&pools)
            .live_endpoints(&files, &endpoints(&ranks[..2]))?
            .another_cluster("b-1", &files, &endpoints(&ranks[2..4]))?
            .another_cluster("apart", &files, &endpoints(&ranks[4..]))?
            .live_cluster(&files)?;
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        envoy.wait_for_metric("ranks_listed", 4).await?;
        let mut answered = Vec::new();
        for cluster in ["", "b-1", "", "b-1"] {
            let reply = complete(&envoy, "the tides", &[(CLUSTER_HEADER, cluster)]).await?;
            answered.push(reply.rank().context("a rank answers")?);
        }
        assert!(ranks[..2].contains(&answered[0]) && ranks[2..4].contains(&answered[1]), "{answered:?}");
        assert_eq!(answered[2], answered[0]);
        // Of b's blocks the prompt does not fill one.
        assert_eq!(envoy.metric("picks_prefix_hit").await?, 1);
        assert_eq!(envoy.metric("prompts_without_block").await?, 2);
        let own: HashSet<SocketAddr> = named(&envoy, "glaciers", "b-1").await?.into_iter().collect();
        assert_eq!(own, HashSet::from([ranks[2], ranks[3]]));

        let steered = ranks[0].to_string();
        let reply = complete(&envoy, "the tides", &[ECHO, (CLUSTER_HEADER, "apart"), (DESTINATION_HEADER, &steered)]).await?;
        assert_eq!((reply.rank(), reply.digest()?.named_ranks()), (Some(ranks[4]), vec![]));
        assert_eq!(envoy.metric("pool_missing").await?, 1);
        envoy.wait_until_nothing_is_counted().await
    }

    async fn ranks_with_ipv6_addresses_are_found_asked_and_picked(version: &str) -> Result<()> {
        let (_pods, ranks) = pods(2, 1).await?;
        let found = [in_front_of(ranks[0]).await?, in_front_of(ranks[1]).await?];
        let files = ConfigFiles::new()?;
        let bootstrap = Bootstrap::with_rank_router(&[])?
            .discovers(&["pool"])
            .live_endpoints(&files, &endpoints(&found))?
            .renamed_cluster("prometheus_stats", "own_admin")
            .renamed_cluster("rank_router_scrape", "own_scrape")
            .picker_field("adminCluster", json!("own_admin"))
            .picker_field("scrapeCluster", json!("own_scrape"));
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        envoy.wait_for_metric("ranks_reported", 2).await?;
        for topic in ["tides", "glaciers", "volcanoes"] {
            let named = named(&envoy, topic, "").await?;
            assert_eq!(named.iter().collect::<HashSet<_>>(), found.iter().collect());
            let place = found.iter().position(|rank| *rank == named[0]).context("found")?;
            assert_eq!(complete(&envoy, topic, &[]).await?.rank(), Some(ranks[place]));
        }
        Ok(())
    }

    async fn a_pool_may_have_1024_ranks_and_one(version: &str) -> Result<()> {
        let (_pods, live) = pods(1, 8).await?;
        let ports = 9000..9000 + 1016;
        let dead = ports.map(|port| PoolEndpoint::at(SocketAddr::new(live[0].ip(), port)).with_health(EndpointHealth::Unhealthy));
        let of_workload = |endpoint: PoolEndpoint| endpoint.of_workload("wide-ep-llm-d-decode-0", "models");
        let all: Vec<PoolEndpoint> = endpoints(&live).into_iter().chain(dead).map(of_workload).collect();
        let started = SystemTime::now();
        let mut stage = Stage::start(version, &all).await?;
        println!("{version}: {} ranks are listed after {:?}", all.len(), started.elapsed()?);
        let caller = Caller::new(stage.envoy.gateway(), PATIENCE);
        let calls = ask(&caller, 0..48, 8).await?;
        let used: HashSet<SocketAddr> = calls.iter().filter_map(|call| call.rank).collect();
        assert!(lost(&calls).is_empty() && used.len() == 8, "{used:?}");

        let known = stage.tell(&all[..1]).await?;
        stage.envoy.wait_for_metric("ranks_listed", 1).await?;
        println!("{version}: 1,023 ranks are forgotten after {:?}", known.elapsed()?);
        let calls = ask(&caller, 48..56, 1).await?;
        assert!(lost(&calls).is_empty());
        // The other worker may have taken notice a tick later.
        assert_eq!(calls.last().context("calls")?.rank, Some(live[0]));
        Ok(())
    }

    async fn without_an_admin_cluster_the_list_is_used_and_said_so_once(version: &str) -> Result<()> {
        let (_pods, ranks) = pods(2, 1).await?;
        let bootstrap = Bootstrap::with_rank_router(&ranks)?
            .picker_field("clusters", json!(["pool*"]))
            .without_cluster("prometheus_stats");
        let envoy = Envoy::start(version, 2, &bootstrap).await?;
        envoy.wait_for_metric("admin_cluster_missing", 1).await?;
        let caller = Caller::new(envoy.gateway(), PATIENCE);
        let calls = ask(&caller, 0..20, 4).await?;
        let used: HashSet<SocketAddr> = calls.iter().filter_map(|call| call.rank).collect();
        assert!(lost(&calls).is_empty() && used.len() == 2, "{used:?}");
        assert_eq!(envoy.metric("picks_lowest_cost").await?, 20);
        // They are asked for reports like any others, meanwhile at least twice.
        envoy.wait_for_metric("ranks_reported", 2).await?;
        envoy.wait_for_stat_at_least("cluster.rank_router_scrape.upstream_rq_total", 4).await?;
        assert_eq!(envoy.log().matches("Envoy has no cluster \"prometheus_stats\"").count(), 1);
        assert_eq!(envoy.metric("ranks_listed").await?, 2);
        Ok(())
    }
}
