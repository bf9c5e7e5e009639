//! A gateway with changing configuration before mortal ranks.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::layout::{self, Clusters, Disaggregation, PREFILL_CLUSTER};
use crate::bootstrap::Bootstrap;
use crate::caller::Caller;
use crate::config_files::ConfigFiles;
use crate::envoy::Envoy;
use crate::gateway_log::GatewayLog;
use crate::rank_process::{LegReport, RankProcess};
use crate::sim::Role;

/// Pods of a group, which a LeaderWorkerSet starts and ends as one.
const GROUP: usize = 2;
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
    /// Whether the picker finds its ranks in the gateway's own cluster, instead of in a list. Where prefill and decode are
    /// apart it always does: only so it learns roles.
    pub discovers: bool,
    /// How prefill and decode are apart, if they are.
    pub apart: Option<Disaggregation>,
    /// Only so many pods, each in a process of its own.
    pub whole_pods: Option<u32>,
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
    /// Some pods in a process each, and the ranks of one more in a process each; where prefill and decode are apart, of each
    /// role.
    pub processes: Vec<RankProcess>,
    config: StageConfig,
}

impl Stage {
    /// Starts ranks and gateway; where prefill and decode are apart, waits until the module has found all ranks.
    ///
    /// # Errors
    /// When something does not start; the error says what.
    pub async fn start(config: &StageConfig) -> Result<Self> {
        let mut processes = Vec::new();
        for process in layout::processes(config) {
            processes.push(RankProcess::start(process).await?);
        }
        let (files, log) = (ConfigFiles::new()?, GatewayLog::new()?);
        let clusters = Clusters::of(config, &processes, &[]);
        let bootstrap = clusters.bootstrap(config)?.logs(log.folder());
        let live = clusters.live(config, &bootstrap, &files)?;
        let envoy = Envoy::start_at_level(&config.version, config.workers, &live, "info").await?;
        if config.apart.is_some() {
            envoy.wait_for_ranks(clusters.ranks()).await?;
        }
        Ok(Self {
            envoy,
            log,
            files,
            bootstrap,
            processes,
            config: config.clone(),
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
            let own = attempts.iter().filter(|attempt| attempt.is_for(&ranks));
            Reverse(own.count())
        };
        self.processes.sort_by_key(traffic);
        Ok(())
    }

    /// A rank of each role that is a process.
    pub fn lone_ranks(&mut self) -> Vec<&mut RankProcess> {
        self.one_of_each_role(|process| process.ranks().len() == 1)
    }

    /// A pod of each role that is a process.
    pub fn pods(&mut self) -> Vec<&mut RankProcess> {
        self.one_of_each_role(|process| process.ranks().len() > 1)
    }

    /// A group of pods of this role.
    pub fn group(&mut self, role: Role) -> Vec<&mut RankProcess> {
        let of_role = self.all_of(role).into_iter();
        let pods = of_role.filter(|process| process.ranks().len() > 1);
        pods.take(GROUP).collect()
    }

    /// Everything of this role.
    pub fn all_of(&mut self, role: Role) -> Vec<&mut RankProcess> {
        let processes = self.processes.iter_mut();
        processes.filter(|process| process.role() == role).collect()
    }

    fn one_of_each_role(
        &mut self,
        is_wanted: impl Fn(&RankProcess) -> bool,
    ) -> Vec<&mut RankProcess> {
        let mut found: Vec<&mut RankProcess> = Vec::new();
        for process in self.processes.iter_mut().filter(|one| is_wanted(one)) {
            if found.iter().all(|other| other.role() != process.role()) {
                found.push(process);
            }
        }
        found
    }

    /// Whether prefill and decode are apart.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.config.apart.is_some()
    }

    /// What all processes of this role say of prefill legs.
    ///
    /// # Errors
    /// When one that is there does not answer.
    pub async fn legs(&mut self, role: Role) -> Result<LegReport> {
        let mut reports = Vec::new();
        for process in self.all_of(role) {
            reports.push(process.legs().await?);
        }
        Ok(reports.into_iter().sum())
    }

    /// Tells Envoy that its clusters have all ranks but these, and waits until it has heard.
    ///
    /// # Errors
    /// When the files cannot be written, or Envoy does not read them.
    pub async fn update_endpoints(&self, without: &[SocketAddr]) -> Result<()> {
        let mut expected = Vec::new();
        for cluster in self.live_clusters() {
            let stat = format!("cluster.{cluster}.update_success");
            let updates = self.envoy.stat(&stat).await?;
            expected.push((stat, updates + 1));
        }
        Clusters::of(&self.config, &self.processes, without).write(&self.config, &self.files)?;
        for (stat, updates) in expected {
            self.envoy.wait_for_stat(&stat, updates).await?;
        }
        Ok(())
    }

    fn live_clusters(&self) -> &'static [&'static str] {
        match self.config.has_prefill_cluster() {
            true => &["pool", PREFILL_CLUSTER],
            false => &["pool"],
        }
    }
}
