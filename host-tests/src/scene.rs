//! A gateway before simulated ranks: where a test in a real Envoy begins.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use serde_json::{Value, json};

use crate::bootstrap::Bootstrap;
use crate::connection::{Connection, Protocol, Upload};
use crate::envoy::Envoy;
use crate::reply::Reply;
use crate::sim::{Fault, PodsConfig, RankHandle, SimulatedPods};
use crate::{pod_addresses, upload};

/// Asks a simulated rank to answer with what reached it, instead of as a model.
pub const ECHO: (&str, &str) = ("x-simulated-echo", "digest");

/// On a busy machine a body may stand still for longer than the default, and would then be decided on before its end:
/// tests that are not about that set the timer this far away, and those that are set it themselves.
const FAR_AWAY_MS: u64 = 10_000;

/// An Envoy with the module and the ranks behind it.
#[derive(Debug)]
pub struct Scene {
    /// The gateway.
    pub envoy: Envoy,
    /// The ranks.
    pub pods: SimulatedPods,
}

impl Scene {
    /// Starts two pods of `ranks_per_pod` ranks and an Envoy of this version in front; `adapt` changes what
    /// `manifests/envoy/rank-router.yaml` says.
    ///
    /// # Errors
    /// When something does not start; the error says what.
    pub async fn start(
        version: &str,
        workers: u32,
        ranks_per_pod: u16,
        adapt: impl FnOnce(Bootstrap) -> Bootstrap,
    ) -> Result<Self> {
        let config = PodsConfig {
            pods: pod_addresses::unused(2),
            ranks_per_pod,
            ..PodsConfig::default()
        };
        let pods = SimulatedPods::start(config)
            .await
            .context("cannot start the simulated ranks")?;
        let addresses: Vec<SocketAddr> = pods.ranks().iter().map(|rank| rank.addr()).collect();
        let bootstrap = Bootstrap::with_rank_router(&addresses)?
            .picker_field("decideAfterIdleMs", json!(FAR_AWAY_MS));
        let bootstrap = adapt(bootstrap);
        Ok(Self {
            envoy: Envoy::start(version, workers, &bootstrap).await?,
            pods,
        })
    }

    /// Starts four pods, as the gateway of Istio has them: the first two decode, the others prefill; and an Envoy in front, of which
    /// `bootstrap` gives the configuration. Gives the addresses of the pods, too.
    ///
    /// # Errors
    /// When something does not start; the error says what.
    pub async fn of_four_pods(
        version: &str,
        workers: u32,
        ranks_per_pod: u16,
        bootstrap: impl FnOnce([Ipv4Addr; 4]) -> Result<Bootstrap>,
    ) -> Result<(Self, [Ipv4Addr; 4])> {
        let addresses: [Ipv4Addr; 4] = pod_addresses::unused(4)
            .try_into()
            .ok()
            .context("four pods")?;
        let config = PodsConfig {
            pods: addresses.to_vec(),
            ranks_per_pod,
            ..PodsConfig::default()
        };
        let pods = SimulatedPods::start(config).await?;
        let envoy = Envoy::start(version, workers, &bootstrap(addresses)?).await?;
        Ok((Self { envoy, pods }, addresses))
    }

    /// The ranks' addresses, pod by pod.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.pods.ranks().iter().map(RankHandle::addr).collect()
    }

    /// The rank at an address.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn rank(&self, address: SocketAddr) -> Result<&RankHandle> {
        let mut ranks = self.pods.ranks().iter();
        ranks
            .find(|rank| rank.addr() == address)
            .with_context(|| format!("no rank {address}"))
    }

    /// Breaks or mends every rank.
    pub async fn set_all(&self, fault: Fault) {
        for rank in self.pods.ranks() {
            rank.set_fault(fault).await;
        }
    }

    /// Opens a connection to the gateway.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn connect(&self, protocol: Protocol) -> Result<Connection> {
        Connection::open(self.envoy.gateway(), protocol).await
    }

    /// Sends a JSON body on a connection of its own and waits for the whole answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Result<Reply> {
        let body = body.to_string();
        let length = body.len();
        let request = self.request(
            Method::POST,
            path,
            headers,
            upload::whole(body),
            Some(length),
        )?;
        self.exchange(Protocol::Http1Length, request).await
    }

    /// Makes a request to the gateway.
    ///
    /// # Errors
    /// When a header is malformed.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Upload,
        length: Option<usize>,
    ) -> Result<Request<Upload>> {
        let gateway = self.envoy.gateway();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{gateway}{path}"));
        request = request
            .header(HOST, gateway.to_string())
            .header(CONTENT_TYPE, "application/json");
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(body)?)
    }

    /// Sends a request on a connection of its own and waits for the whole answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn exchange(&self, protocol: Protocol, request: Request<Upload>) -> Result<Reply> {
        let mut connection = self.connect(protocol).await?;
        Reply::read(connection.send(request).await?).await
    }
}

/// Defines async tests that each run in every Envoy version: `each_envoy! { async fn name(version: &str) { ... } }`.
#[macro_export]
macro_rules! each_envoy {
    ($($(#[doc = $doc:expr])* async fn $name:ident($version:ident: &str) -> Result<()> $body:block)*) => {
        $(
            mod $name {
                use super::*;

                async fn run($version: &str) -> Result<()> $body

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn in_envoy_1_37() -> Result<()> {
                    run($crate::repository::ENVOY_VERSIONS[0]).await
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn in_envoy_1_40() -> Result<()> {
                    run($crate::repository::ENVOY_VERSIONS[1]).await
                }
            }
        )*
    };
}
