//! Ranks are found however many patterns, endpoints and ranks there are, or it is said why not, in a real Envoy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use host_tests::bootstrap::Bootstrap;
use host_tests::config_files::ConfigFiles;
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::pod_addresses;
use host_tests::pool_endpoint::PoolEndpoint;
use host_tests::process_usage::cpu_time;
use serde_json::json;

/// Endpoints of a cluster that no pool names.
const FOREIGN_PER_CLUSTER: u32 = 1000;
const FOREIGN_CLUSTERS: u32 = 12;
/// So many that their list is longer than what is read.
const TOO_MANY_CLUSTERS: u32 = 20;

/// Names as long as Istio's.
fn service(number: usize) -> String {
    format!("outbound|8000||decode-{number}.models.svc.cluster.local")
}

/// A pattern for one of them alone, with a wild card for the port.
fn pattern(number: usize) -> String {
    format!("outbound|*||decode-{number}.models.svc.cluster.local")
}

/// A gateway whose pool is made of so many clusters of one rank each, a pattern for each.
fn with_patterns(count: usize) -> Result<Bootstrap> {
    let pod = pod_addresses::unused(1)[0];
    let patterns: Vec<String> = (0..count).map(pattern).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let mut bootstrap = Bootstrap::with_rank_router(&[])?.discovers(&patterns);
    for number in 0..count {
        let port = 8000 + u16::try_from(number)?;
        bootstrap = bootstrap.cluster_of(&service(number), &[SocketAddr::from((pod, port))])?;
    }
    Ok(bootstrap)
}

/// Adds 12,000 endpoints that are nobody's ranks.
fn among_foreign(bootstrap: Bootstrap) -> Result<Bootstrap> {
    among(bootstrap, FOREIGN_CLUSTERS)
}

fn among(mut bootstrap: Bootstrap, clusters: u32) -> Result<Bootstrap> {
    for cluster in 0..clusters {
        let endpoints = (0..FOREIGN_PER_CLUSTER).map(|number| {
            let [_, _, high, low] = (cluster * FOREIGN_PER_CLUSTER + number).to_be_bytes();
            SocketAddr::from((Ipv4Addr::new(10, 9, high, low), 8000))
        });
        let name = format!("outbound|8000||foreign-{cluster}.others.svc.cluster.local");
        bootstrap = bootstrap.cluster_of(&name, &endpoints.collect::<Vec<_>>())?;
    }
    Ok(bootstrap)
}

/// How often a line with these words is in the log.
fn lines(envoy: &Envoy, words: &str) -> usize {
    let log = envoy.log();
    log.lines().filter(|line| line.contains(words)).count()
}

/// Prints what an Envoy without requests needs while it is asked for its endpoints.
async fn cost_of_asking(envoy: &Envoy) -> Result<()> {
    let process = envoy.process_id().context("runs")?;
    let name = "cluster.prometheus_stats.upstream_rq_total";
    // What it does only at first is over.
    envoy
        .wait_for_stat_at_least(name, envoy.stat(name).await? + 8)
        .await?;
    let (asked, cpu) = (envoy.stat(name).await?, cpu_time(process)?);
    envoy.wait_for_stat_at_least(name, asked + 8).await?;
    let (asked, cpu) = (envoy.stat(name).await? - asked, cpu_time(process)? - cpu);
    println!("{asked} calls, {cpu:?} of CPU time in all");
    Ok(())
}

each_envoy! {
    async fn nine_and_sixty_four_patterns_find_their_ranks(version: &str) -> Result<()> {
        for patterns in [9, 64] {
            let envoy = Envoy::start(version, 1, &with_patterns(patterns)?).await?;
            envoy.wait_for_metric("ranks_listed", patterns as u64).await?;
            assert_eq!(envoy.metric("discovery_failures").await?, 0, "{patterns}");
        }
        Ok(())
    }

    async fn endpoints_of_others_keep_no_rank_from_being_found(version: &str) -> Result<()> {
        for patterns in [1, 9, 64] {
            let envoy = Envoy::start(version, 1, &among_foreign(with_patterns(patterns)?)?).await?;
            envoy.wait_for_metric("ranks_listed", patterns as u64).await?;
            assert_eq!(envoy.metric("discovery_failures").await?, 0, "{patterns}");
            print!("{version}, {patterns} patterns, 12,000 others in the bootstrap: ");
            cost_of_asking(&envoy).await?;
        }
        Ok(())
    }

    async fn endpoints_of_others_from_a_control_plane_keep_no_rank_from_being_found(version: &str) -> Result<()> {
        for patterns in [1, 9, 64] {
            let files = ConfigFiles::new()?;
            let bootstrap = among_foreign(with_patterns(patterns)?)?.live_clusters(&files)?;
            let envoy = Envoy::start(version, 1, &bootstrap).await?;
            envoy.wait_for_metric("ranks_listed", patterns as u64).await?;
            assert_eq!(envoy.metric("discovery_failures").await?, 0, "{patterns}");
            print!("{version}, {patterns} patterns, 12,000 others by CDS: ");
            cost_of_asking(&envoy).await?;
        }
        Ok(())
    }

    async fn ranks_that_are_too_many_are_counted_and_told_of_once(version: &str) -> Result<()> {
        let pod = pod_addresses::unused(1)[0];
        let ranks = |count: u16| (0..count).map(|number| SocketAddr::from((pod, 8000 + number)));
        let files = ConfigFiles::new()?;
        let endpoints: Vec<PoolEndpoint> = ranks(1100).map(PoolEndpoint::at).collect();
        let bootstrap = Bootstrap::with_rank_router(&[])?
            .discovers(&["pool"])
            .live_endpoints(&files, &endpoints)?;
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        envoy.wait_for_metric("ranks_listed", 1024).await?;
        envoy.wait_for_metric("ranks_over_limit", 76).await?;
        files.write_endpoints(&endpoints[..1050])?;
        envoy.wait_for_metric("ranks_over_limit", 26).await?;
        assert_eq!(lines(&envoy, "1100 ranks, of which 1024 are used"), 1);
        assert_eq!(lines(&envoy, "are used"), 1, "{}", envoy.log());
        files.write_endpoints(&endpoints[..1024])?;
        envoy.wait_for_metric("ranks_over_limit", 0).await
    }

    async fn an_admin_interface_that_cannot_be_read_is_counted_and_told_of_once(version: &str) -> Result<()> {
        // Whoever listens there answers nothing that is a list of endpoints.
        let ranks = ["127.0.0.1:1".parse()?];
        let bootstrap = Bootstrap::with_rank_router(&ranks)?
            .discovers(&["pool"])
            .picker_field("adminCluster", json!("nobody"))
            .cluster_of("nobody", &[SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 1))])?;
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        let failures = "wasmcustom.rank_router.discovery_failures";
        envoy.wait_for_stat_at_least(failures, 30).await?;
        assert_eq!(lines(&envoy, "cannot read Envoy's endpoints"), 1, "{}", envoy.log());
        assert_eq!(envoy.metric("ranks_listed").await?, 0);
        Ok(())
    }

    async fn a_pattern_that_matches_too_much_is_told_of_once(version: &str) -> Result<()> {
        let ranks = ["127.0.0.1:1".parse()?];
        let bootstrap = among_foreign(Bootstrap::with_rank_router(&ranks)?)?.discovers(&["*"]);
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        envoy.wait_for_metric("ranks_listed", 1024).await?;
        print!("{version}, 12,000 endpoints in one pool: ");
        cost_of_asking(&envoy).await?;
        drop(envoy);
        let bootstrap = among(Bootstrap::with_rank_router(&ranks)?, TOO_MANY_CLUSTERS)?;
        let envoy = Envoy::start(version, 1, &bootstrap.discovers(&["*"])).await?;
        let failures = "wasmcustom.rank_router.discovery_failures";
        envoy.wait_for_stat_at_least(failures, 14).await?;
        assert_eq!(lines(&envoy, "cannot read Envoy's endpoints"), 1, "{}", envoy.log());
        assert_eq!(envoy.metric("ranks_listed").await?, 0);
        Ok(())
    }

    async fn patterns_that_match_no_cluster_are_told_of_once(version: &str) -> Result<()> {
        let ranks = ["127.0.0.1:1".parse()?];
        let bootstrap = Bootstrap::with_rank_router(&ranks)?.discovers(&["misspelt"]);
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        let name = "cluster.prometheus_stats.upstream_rq_total";
        envoy.wait_for_stat_at_least(name, 30).await?;
        assert_eq!(lines(&envoy, "no cluster of Envoy matches"), 1, "{}", envoy.log());
        assert_eq!(envoy.metric("discovery_failures").await?, 0);
        Ok(())
    }
}
