//! A gateway with a pool for each of two models, whose routes match the header that carries the model's name.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::bootstrap::Bootstrap;
use crate::connection::{Connection, Protocol, Upload};
use crate::envoy::Envoy;
use crate::pod_addresses;
use crate::reply::Reply;
use crate::scene::ECHO;
use crate::sim::{PodsConfig, RankHandle, SimulatedPods};
use crate::upload;

/// What the request asks for where a test does not care.
pub const PATH: &str = "/v1/completions";

/// An Envoy with two pools of one pod each. Requests without a model go to the large one.
#[derive(Debug)]
pub struct TwoModels {
    /// The gateway.
    pub envoy: Envoy,
    /// The ranks of models `large-*`, and of requests without a model.
    pub large: SimulatedPods,
    /// The ranks of the model `small-1`.
    pub small: SimulatedPods,
}

impl TwoModels {
    /// Starts it with `large` and `small` as further fields of the two pools.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(version: &str, large: &Value, small: &Value) -> Result<Self> {
        let mut fields = [
            json!({"pool": "large", "clusters": ["pool"], "models": ["large-*"]}),
            json!({"pool": "small", "clusters": ["small"], "models": ["small-*"]}),
        ];
        for (own, further) in fields.iter_mut().zip([large, small]) {
            for (field, value) in further.as_object().into_iter().flatten() {
                own[field] = value.clone();
            }
        }
        let (large, small) = (pods().await?, pods().await?);
        let bootstrap = Bootstrap::with_rank_router(&addresses(&large))?
            .cluster_of_model("small", "small-1", &addresses(&small))?
            .pools(&json!(fields))
            // The module has to remove what clients forge where Envoy does not.
            .without_early_header_mutation();
        let envoy = Envoy::start(version, 1, &bootstrap).await?;
        envoy.wait_for_metric("ranks_listed", 4).await?;
        Ok(Self {
            envoy,
            large,
            small,
        })
    }

    /// Sends a request that the rank answers with what reached it.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn send(
        &self,
        protocol: Protocol,
        (method, path): (Method, &str),
        headers: &[(&str, &str)],
        body: Upload,
        length: Option<usize>,
    ) -> Result<Reply> {
        let gateway = self.envoy.gateway();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{gateway}{path}"))
            .header(HOST, gateway.to_string())
            .header(CONTENT_TYPE, "application/json");
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        for (name, value) in headers.iter().chain([&ECHO]) {
            request = request.header(*name, *value);
        }
        let mut connection = Connection::open(gateway, protocol).await?;
        Reply::read(connection.send(request.body(body)?).await?).await
    }

    /// Posts a body at once.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn ask(
        &self,
        protocol: Protocol,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        let length = (protocol != Protocol::Http1Chunked).then_some(body.len());
        let upload = upload::whole(body.to_string());
        self.send(protocol, (Method::POST, PATH), headers, upload, length)
            .await
    }

    /// Gets the list of models, a request without a body.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn list_models(&self, headers: &[(&str, &str)]) -> Result<Reply> {
        let nothing = upload::whole(Bytes::new());
        let what = (Method::GET, "/v1/models");
        self.send(Protocol::Http1Length, what, headers, nothing, None)
            .await
    }

    /// Posts `head`, waits until the gateway has picked by it, and posts `tail`.
    ///
    /// # Errors
    /// When nothing is picked or there is no whole answer.
    pub async fn ask_in_two(&self, protocol: Protocol, head: &str, tail: &str) -> Result<Reply> {
        let before = self.envoy.metric("bodies_cut_idle").await?;
        let (word, upload, bytes) = in_two(head, tail);
        let length = (protocol != Protocol::Http1Chunked).then_some(bytes);
        let picked = async {
            self.envoy
                .wait_for_metric("bodies_cut_idle", before + 1)
                .await?;
            word.send(()).ok();
            anyhow::Ok(())
        };
        let sent = self.send(protocol, (Method::POST, PATH), &[], upload, length);
        let (reply, ()) = tokio::try_join!(sent, picked)?;
        Ok(reply)
    }
}

/// A body whose halves are these texts, the shorter one filled with spaces.
fn in_two(head: &str, tail: &str) -> (oneshot::Sender<()>, Upload, usize) {
    let half = head.len().max(tail.len());
    let body = format!("{head:half$}{tail:half$}");
    let bytes = body.len();
    let (word, upload) = upload::on_word(body.into());
    (word, upload, bytes)
}

async fn pods() -> Result<SimulatedPods> {
    let config = PodsConfig {
        pods: pod_addresses::unused(1),
        ranks_per_pod: 2,
        ..PodsConfig::default()
    };
    Ok(SimulatedPods::start(config).await?)
}

/// Where the ranks of a pod are.
#[must_use]
pub fn addresses(pods: &SimulatedPods) -> Vec<SocketAddr> {
    pods.ranks().iter().map(RankHandle::addr).collect()
}

/// What the engines of these ranks were asked for so far.
#[must_use]
pub fn prompt_tokens(pods: &SimulatedPods) -> u64 {
    let ranks = pods.ranks().iter();
    ranks.map(|rank| rank.stats().counts.prompt_tokens).sum()
}
