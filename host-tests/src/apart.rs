//! A gateway before ranks of which some prefill and others decode.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::json;

use crate::bootstrap::Bootstrap;
use crate::envoy::Envoy;
use crate::pod_addresses;
use crate::sim::{PodsConfig, RankHandle, Role, SidecarVersion, SimulatedPods};

/// On a busy machine a body may stand still for longer than the default.
const FAR_AWAY_MS: u64 = 10_000;

/// How many ranks of which kind.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    /// Pods that prefill, and as many that decode.
    pub pods: u32,
    /// Ranks of each pod.
    pub ranks_per_pod: u16,
    /// What stands before each decode rank.
    pub sidecar: SidecarVersion,
}

/// An Envoy with the module, ranks that prefill and ranks that decode.
#[derive(Debug)]
pub struct ApartScene {
    /// The gateway.
    pub envoy: Envoy,
    /// Ranks that prefill.
    pub prefill: SimulatedPods,
    /// Ranks that decode, each behind a sidecar.
    pub decode: SimulatedPods,
}

impl ApartScene {
    /// Starts ranks, and an Envoy of this version with `manifests/envoy/disaggregated.yaml` in front, and waits until the module
    /// has found all ranks; `adapt` changes what the manifest says.
    ///
    /// # Errors
    /// When something does not start; the error says what.
    pub async fn start(
        version: &str,
        apart: Apart,
        adapt: impl FnOnce(Bootstrap) -> Bootstrap,
    ) -> Result<Self> {
        let addresses = pod_addresses::unused(apart.pods.saturating_mul(2));
        let (prefill, decode) = addresses.split_at(addresses.len() / 2);
        let pods = |pods: &[_], role| PodsConfig {
            pods: pods.to_vec(),
            ranks_per_pod: apart.ranks_per_pod,
            role,
            sidecar: apart.sidecar,
            ..PodsConfig::default()
        };
        let prefill = SimulatedPods::start(pods(prefill, Role::Prefill)).await;
        let prefill = prefill.context("cannot start the ranks that prefill")?;
        let decode = SimulatedPods::start(pods(decode, Role::Decode)).await;
        let decode = decode.context("cannot start the ranks that decode")?;
        let bootstrap = Bootstrap::disaggregated(&addresses_of(&prefill), &addresses_of(&decode))?
            .picker_field("decideAfterIdleMs", json!(FAR_AWAY_MS));
        let envoy = Envoy::start(version, 1, &adapt(bootstrap)).await?;
        let scene = Self {
            envoy,
            prefill,
            decode,
        };
        scene.wait_until_found().await?;
        Ok(scene)
    }

    /// Requests that came to a rank that prefills, and were not a sidecar's: there must never be one.
    #[must_use]
    pub fn direct_requests(&self) -> u64 {
        let counts = self.prefill.ranks().iter();
        counts.map(|rank| rank.stats().direct_requests).sum()
    }

    /// Prefill legs that each rank that prefills was given.
    #[must_use]
    pub fn legs(&self) -> Vec<u64> {
        let ranks = self.prefill.ranks().iter();
        ranks.map(|rank| rank.stats().prefill_legs).collect()
    }

    async fn wait_until_found(&self) -> Result<()> {
        let ranks = self.prefill.ranks().len() + self.decode.ranks().len();
        self.envoy.wait_for_ranks(ranks).await
    }
}

fn addresses_of(pods: &SimulatedPods) -> Vec<SocketAddr> {
    pods.ranks().iter().map(RankHandle::addr).collect()
}
