//! A gateway with changing configuration before mortal ranks.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bootstrap::Bootstrap;
use crate::caller::Caller;
use crate::config_files::ConfigFiles;
use crate::envoy::Envoy;
use crate::gateway_log::GatewayLog;
use crate::pod_addresses;
use crate::pool_endpoint::PoolEndpoint;
use crate::rank_process::{RankProcess, RankProcessConfig};

const PODS: u32 = 4;
const RANKS_PER_POD: u16 = 8;
const BASE_PORT: u16 = 8000;
/// As the program names it unless told otherwise.
const MODEL: &str = "simulated";
/// Longer than a rank hangs here, so that what waited for it is seen to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a stage is made of.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Envoy's version.
    pub version: String,
    /// Its worker threads.
    pub workers: u32,
    /// How many times as slow as the measured GPU the ranks are.
    pub slowness: f64,
    /// Whether the picker finds its ranks in the gateway's own cluster, instead of in a list.
    pub discovers: bool,
    /// A module other than the one of this build.
    pub module: Option<PathBuf>,
    /// Fields of the picker's configuration.
    pub picker: Vec<(&'static str, Value)>,
}

/// Everything that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Stage {
    /// The gateway.
    pub envoy: Envoy,
    /// Its log.
    pub log: GatewayLog,
    /// Its configuration.
    pub files: ConfigFiles,
    /// What the listener's file was written from.
    pub bootstrap: Bootstrap,
    /// Three pods in a process each, and the ranks of a fourth in a process each.
    pub processes: Vec<RankProcess>,
}

impl Stage {
    /// Starts ranks and gateway.
    ///
    /// # Errors
    /// When something does not start; the error says what.
    pub async fn start(config: &StageConfig) -> Result<Self> {
        let mut processes = Vec::new();
        for process in layout(config.slowness) {
            processes.push(RankProcess::start(process).await?);
        }
        let ranks: Vec<SocketAddr> = processes.iter().flat_map(RankProcess::ranks).collect();
        let (files, log) = (ConfigFiles::new()?, GatewayLog::new()?);
        let bootstrap = bootstrap(config, &ranks)?.logs(log.folder());
        let live = bootstrap
            .clone()
            .live_endpoints(&files, &endpoints(&ranks))?
            .live_cluster(&files)?
            .live_listener(&files)?;
        let envoy = Envoy::start_at_level(&config.version, config.workers, &live, "info").await?;
        Ok(Self {
            envoy,
            log,
            files,
            bootstrap,
            processes,
        })
    }

    /// A client.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller::new(self.envoy.gateway(), PATIENCE)
    }

    /// Name of the model.
    #[must_use]
    pub fn model(&self) -> &'static str {
        MODEL
    }

    /// Puts the processes that got most attempts first, so that what is broken is what is used.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn sort_by_traffic(&mut self) -> Result<()> {
        let attempts = self.log.attempts()?;
        let traffic = |process: &RankProcess| {
            let ranks = process.ranks();
            let own = attempts.iter().filter_map(|attempt| attempt.rank);
            Reverse(own.filter(|rank| ranks.contains(rank)).count())
        };
        self.processes.sort_by_key(traffic);
        Ok(())
    }

    /// The pods that are a process each.
    pub fn pods(&mut self) -> impl Iterator<Item = &mut RankProcess> {
        let processes = self.processes.iter_mut();
        processes.filter(|process| process.ranks().len() > 1)
    }

    /// A rank that is a process.
    ///
    /// # Errors
    /// When there is none.
    pub fn lone_rank(&mut self) -> Result<&mut RankProcess> {
        let mut processes = self.processes.iter_mut();
        processes
            .find(|process| process.ranks().len() == 1)
            .context("no rank by itself")
    }

    /// Tells Envoy that the pool has all ranks but those of one pod, or all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_endpoints(&self, without: &[SocketAddr]) -> Result<()> {
        let ranks = self.processes.iter().flat_map(RankProcess::ranks);
        let kept: Vec<SocketAddr> = ranks.filter(|rank| !without.contains(rank)).collect();
        self.files.write_endpoints(&endpoints(&kept))
    }
}

fn layout(slowness: f64) -> Vec<RankProcessConfig> {
    let mut pods = pod_addresses::unused(PODS);
    let apart = pods.pop();
    let process = |pod, base_port, ranks| RankProcessConfig {
        pod,
        base_port,
        ranks,
        slowness,
    };
    let whole = pods
        .into_iter()
        .map(|pod| process(pod, BASE_PORT, RANKS_PER_POD));
    let ports = BASE_PORT..BASE_PORT + RANKS_PER_POD;
    let single = apart
        .into_iter()
        .flat_map(|pod| ports.clone().map(move |port| process(pod, port, 1)));
    whole.chain(single).collect()
}

fn bootstrap(config: &StageConfig, ranks: &[SocketAddr]) -> Result<Bootstrap> {
    let mut bootstrap = Bootstrap::with_rank_router(ranks)?;
    if config.discovers {
        bootstrap = bootstrap
            .picker_field("ranks", Value::Null)
            .picker_field("clusters", json!(["pool*"]));
    }
    if let Some(module) = &config.module {
        bootstrap = bootstrap.module(module);
    }
    for (field, value) in &config.picker {
        bootstrap = bootstrap.picker_field(field, value.clone());
    }
    Ok(bootstrap)
}

fn endpoints(ranks: &[SocketAddr]) -> Vec<PoolEndpoint> {
    let endpoints = ranks.iter().map(|rank| PoolEndpoint::at(*rank));
    endpoints
        .map(|endpoint| endpoint.of_workload("model-decode", "models"))
        .collect()
}
