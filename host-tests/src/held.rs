//! Requests that hanging ranks have and do not answer yet: a load that stands still while a test looks at it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use hyper::{Method, Request};
use serde_json::json;
use tokio::task::JoinSet;

use crate::bootstrap::Bootstrap;
use crate::connection::{Protocol, Upload};
use crate::reply::Reply;
use crate::scene::{ECHO, Scene};
use crate::sim::Fault;
use crate::upload;

/// Requests under way, each on a connection of its own, so that all workers have some; dropping it closes them.
#[derive(Debug, Default)]
pub struct Held(JoinSet<Result<Reply>>);

impl Held {
    /// Sends a request and waits until it counts, beside `others` that do already.
    ///
    /// # Errors
    /// When the gateway refuses it, or it does not count in a minute.
    pub async fn send(
        &mut self,
        scene: &Scene,
        request: Request<Upload>,
        protocol: Protocol,
        others: usize,
    ) -> Result<()> {
        let mut connection = scene.connect(protocol).await?;
        self.0
            .spawn(async move { Reply::read(connection.send(request).await?).await });
        let in_flight = u64::try_from(others)? + 1;
        let envoy = &scene.envoy;
        envoy.wait_for_metric("requests_in_flight", in_flight).await
    }

    /// The rank of each, once all have been answered.
    ///
    /// # Errors
    /// When one has no answer of a rank.
    pub async fn ranks(mut self) -> Result<BTreeMap<SocketAddr, usize>> {
        let mut ranks = BTreeMap::new();
        while let Some(reply) = self.0.join_next().await {
            let reply = reply??;
            let rank = reply.rank();
            let rank = rank.ok_or_else(|| anyhow::anyhow!("no rank answered: {reply:?}"))?;
            *ranks.entry(rank).or_insert(0) += 1;
        }
        Ok(ranks)
    }
}

/// A gateway for such a look: each worker has as many connections as the others, and ranks report only once, so that what is
/// counted is this gateway's own.
#[must_use]
pub fn balanced(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap
        .balanced_connections()
        .picker_field("scrapeIntervalMs", json!(60_000))
}

/// Every rank as often.
#[must_use]
pub fn evenly(scene: &Scene, times: usize) -> BTreeMap<SocketAddr, usize> {
    let ranks = scene.addresses().into_iter();
    ranks.map(|rank| (rank, times)).collect()
}

/// A request that has no prompt, and that a hanging rank does not answer.
///
/// # Errors
/// Never, as long as the gateway's address can be written.
pub fn without_prompt(scene: &Scene) -> Result<Request<Upload>> {
    scene.request(Method::GET, "/v1/models", &[ECHO], upload::whole(""), None)
}

/// Sends so many requests without a prompt one after another, beside `others` that are under way, lets every rank hang
/// meanwhile, and gives how many each rank got. All ranks answer again when this returns.
///
/// # Errors
/// When one does not reach a rank.
pub async fn spread(
    scene: &Scene,
    requests: usize,
    others: usize,
) -> Result<BTreeMap<SocketAddr, usize>> {
    scene.set_all(Fault::Hanging).await;
    let mut held = Held::default();
    for number in 0..requests {
        let request = without_prompt(scene)?;
        held.send(scene, request, Protocol::Http1Length, others + number)
            .await?;
    }
    scene.set_all(Fault::None).await;
    held.ranks().await
}
