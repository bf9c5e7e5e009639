//! A prefill rank, and a decode rank behind its sidecar: the least that has prefill and decode apart.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use hyper::{Method, Request};
use serde_json::Value;

use crate::connection::Upload;
use crate::lone_rank::MODEL;
use crate::pod_addresses;
use crate::reply::{self, Reply};
use crate::sim::{PodsConfig, RankHandle, Role, SidecarVersion, SimulatedPods};

/// Names the prefill rank to the sidecar.
pub const PREFILLER: &str = "x-prefiller-host-port";

/// Both ranks; they end when this is dropped.
#[derive(Debug)]
pub struct RankPair {
    prefill: SimulatedPods,
    decode: SimulatedPods,
}

impl RankPair {
    /// Starts both, with this sidecar.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn start(sidecar: SidecarVersion) -> Result<Self> {
        let config = PodsConfig {
            sidecar,
            ..PodsConfig::default()
        };
        Self::start_as(config).await
    }

    /// Starts both as this says, but for pods, model and role.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn start_as(config: PodsConfig) -> Result<Self> {
        Ok(Self {
            prefill: one(config.clone(), Role::Prefill).await?,
            decode: one(config, Role::Decode).await?,
        })
    }

    /// The prefill rank.
    #[must_use]
    pub fn prefill(&self) -> &RankHandle {
        &self.prefill.ranks()[0]
    }

    /// The decode rank; its address is the sidecar's.
    #[must_use]
    pub fn decode(&self) -> &RankHandle {
        &self.decode.ranks()[0]
    }

    /// Posts to the decode rank's sidecar, naming the prefill rank.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        let prefiller = self.prefill().addr().to_string();
        self.post_with(path, body, &[(PREFILLER, &prefiller)]).await
    }

    /// Posts to the decode rank's sidecar with these headers.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post_with(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        let to = self.decode().addr();
        reply::send(to, Method::POST, path, headers, &body.to_string()).await
    }

    /// The same request as [`post`](Self::post) makes, and where to send it.
    ///
    /// # Errors
    /// Never.
    pub fn request(&self, path: &str, body: &Value) -> Result<(SocketAddr, Request<Upload>)> {
        let (to, prefiller) = (self.decode().addr(), self.prefill().addr().to_string());
        let headers = [(PREFILLER, prefiller.as_str())];
        let request = reply::request(to, Method::POST, path, &headers, &body.to_string());
        Ok((
            to,
            request.context("a request with an address in a header")?,
        ))
    }
}

async fn one(config: PodsConfig, role: Role) -> std::io::Result<SimulatedPods> {
    let config = PodsConfig {
        pods: pod_addresses::unused(1),
        ranks_per_pod: 1,
        model: MODEL.to_string(),
        role,
        ..config
    };
    SimulatedPods::start(config).await
}
