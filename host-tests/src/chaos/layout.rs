//! Which ranks a stage has, and what its gateway is told of them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::stage::StageConfig;
use crate::bootstrap::Bootstrap;
use crate::config_files::ConfigFiles;
use crate::pod_addresses;
use crate::pool_endpoint::PoolEndpoint;
use crate::rank_process::{RankProcess, RankProcessConfig};
use crate::sim::{Role, SidecarVersion};

const RANKS_PER_POD: u16 = 8;
const BASE_PORT: u16 = 8000;
/// Pods that are a process each, beside one whose ranks are: a group of two, and one more.
const WHOLE_PODS: u32 = 3;
/// The same of each role where prefill and decode are apart: a group, for the machine's sake without another pod.
const WHOLE_PODS_OF_ROLE: u32 = 2;
/// The cluster of the ranks that prefill, in `manifests/envoy/disaggregated.yaml`.
pub(super) const PREFILL_CLUSTER: &str = "prefill";

/// How prefill and decode are apart.
#[derive(Clone, Copy, Debug)]
pub struct Disaggregation {
    /// The sidecar before each decode rank.
    pub sidecar: SidecarVersion,
    /// How the gateway learns roles.
    pub roles: RolesFrom,
}

/// What tells the module that a rank only prefills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RolesFrom {
    /// The cluster that it is in, which no route leads to: as in `manifests/envoy/disaggregated.yaml`.
    #[default]
    Cluster,
    /// The name of its workload: it is in the pool with the others, so whatever Envoy picks by itself may hit it.
    Workload,
    /// Nothing, and it is in the pool: a mistake, which every account must show.
    Nothing,
}

/// The ranks in each cluster of the gateway.
pub(super) struct Clusters {
    pool: Vec<PoolEndpoint>,
    prefill: Vec<PoolEndpoint>,
}

impl Clusters {
    /// Those of all processes but `without`.
    pub(super) fn of(
        config: &StageConfig,
        processes: &[RankProcess],
        without: &[SocketAddr],
    ) -> Self {
        let is_apart = |role| role == Role::Prefill && config.has_prefill_cluster();
        let endpoints = |is_in_prefill: bool| {
            let is_in = |process: &&RankProcess| is_apart(process.role()) == is_in_prefill;
            let processes = processes.iter().filter(is_in);
            let endpoints = processes.flat_map(|process| config.endpoints_of(process));
            endpoints
                .filter(|endpoint| !without.contains(&endpoint.address))
                .collect()
        };
        Self {
            pool: endpoints(false),
            prefill: endpoints(true),
        }
    }

    /// How many ranks there are.
    pub(super) fn ranks(&self) -> usize {
        self.pool.len() + self.prefill.len()
    }

    /// The gateway before them, with a list of the ranks or finding them in its own clusters.
    pub(super) fn bootstrap(&self, config: &StageConfig) -> Result<Bootstrap> {
        let [pool, prefill] = [&self.pool, &self.prefill].map(|ranks| addresses(ranks));
        let bootstrap = match config.apart {
            None if config.discovers => Bootstrap::with_rank_router(&pool)?.discovers(&["pool*"]),
            None => Bootstrap::with_rank_router(&pool)?,
            Some(_) if config.has_prefill_cluster() => Bootstrap::disaggregated(&prefill, &pool)?,
            Some(_) => Bootstrap::disaggregated(&prefill, &pool)?
                .picker_field("roles", Value::Null)
                .picker_field("clusters", json!(["pool"])),
        };
        let bootstrap = match &config.module {
            Some(module) => bootstrap.module(module),
            None => bootstrap,
        };
        let set = |bootstrap: Bootstrap, (field, value): &(&str, Value)| {
            bootstrap.picker_field(field, value.clone())
        };
        Ok(config.picker.iter().fold(bootstrap, set))
    }

    /// The same gateway, with endpoints and listener from files.
    pub(super) fn live(
        &self,
        config: &StageConfig,
        bootstrap: &Bootstrap,
        files: &ConfigFiles,
    ) -> Result<Bootstrap> {
        let mut live = bootstrap.clone().live_endpoints(files, &self.pool)?;
        if config.has_prefill_cluster() {
            live = live.live_endpoints_of(PREFILL_CLUSTER, files, &self.prefill)?;
        }
        live.live_cluster(files)?.live_listener(files)
    }

    /// Tells a running Envoy of them.
    pub(super) fn write(&self, config: &StageConfig, files: &ConfigFiles) -> Result<()> {
        files.write_endpoints(&self.pool)?;
        if config.has_prefill_cluster() {
            files.write_endpoints_of(PREFILL_CLUSTER, &self.prefill)?;
        }
        Ok(())
    }
}

impl StageConfig {
    /// Whether the gateway has a cluster of ranks that only prefill.
    pub(super) fn has_prefill_cluster(&self) -> bool {
        let roles = self.apart.map(|apart| apart.roles);
        roles == Some(RolesFrom::Cluster)
    }

    fn endpoints_of(&self, process: &RankProcess) -> Vec<PoolEndpoint> {
        let workload = match (self.apart.map(|apart| apart.roles), process.role()) {
            (Some(RolesFrom::Nothing), _) => "model",
            (_, Role::Prefill) => "model-prefill",
            _ => "model-decode",
        };
        let endpoints = process.ranks().into_iter().map(PoolEndpoint::at);
        endpoints
            .map(|endpoint| endpoint.of_workload(workload, "models"))
            .collect()
    }
}

fn addresses(endpoints: &[PoolEndpoint]) -> Vec<SocketAddr> {
    endpoints.iter().map(|endpoint| endpoint.address).collect()
}

/// All processes: of each role some pods in a process each, and one pod with a process for each rank.
pub(super) fn processes(config: &StageConfig) -> Vec<RankProcessConfig> {
    match (config.apart, config.whole_pods) {
        (None, None) => of_role(config, Role::Both, WHOLE_PODS, true),
        (None, Some(pods)) => of_role(config, Role::Both, pods, false),
        (Some(_), _) => [Role::Prefill, Role::Decode]
            .into_iter()
            .flat_map(|role| of_role(config, role, WHOLE_PODS_OF_ROLE, true))
            .collect(),
    }
}

fn of_role(
    config: &StageConfig,
    role: Role,
    whole_pods: u32,
    has_single_ranks: bool,
) -> Vec<RankProcessConfig> {
    let sidecar = config.apart.map(|apart| apart.sidecar).unwrap_or_default();
    let process = |pod: Ipv4Addr, base_port, ranks| RankProcessConfig {
        pod,
        base_port,
        ranks,
        slowness: config.slowness,
        role,
        sidecar,
    };
    let mut pods = pod_addresses::unused(whole_pods + u32::from(has_single_ranks));
    let single = has_single_ranks.then(|| pods.pop()).flatten();
    let whole = pods
        .into_iter()
        .map(|pod| process(pod, BASE_PORT, RANKS_PER_POD));
    let ports = BASE_PORT..BASE_PORT + RANKS_PER_POD;
    let single = single
        .into_iter()
        .flat_map(|pod| ports.clone().map(move |port| (pod, port)))
        .map(|(pod, port)| process(pod, port, 1));
    whole.chain(single).collect()
}
