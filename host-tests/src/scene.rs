//! A gateway before simulated ranks: where a test in a real Envoy begins.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::bootstrap::Bootstrap;
use crate::connection::{Connection, Protocol, Upload};
use crate::envoy::Envoy;
use crate::sim::{PodsConfig, SimulatedPods};
use crate::{pod_addresses, upload};

/// Asks a simulated rank to answer with what reached it, instead of as a model.
pub const ECHO: (&str, &str) = ("x-simulated-echo", "digest");

/// An Envoy with the module and the ranks behind it.
#[derive(Debug)]
pub struct Scene {
    /// The gateway.
    pub envoy: Envoy,
    /// The ranks.
    pub pods: SimulatedPods,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// What reached a rank, as it tells when it is asked with [`ECHO`].
#[derive(Clone, Debug, Deserialize)]
pub struct Digest {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// XXH3 of the body, hexadecimal.
    pub body_xxh3: String,
    /// Headers in their order.
    pub headers: Vec<(String, String)>,
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
        let bootstrap = adapt(Bootstrap::with_rank_router(&addresses)?);
        Ok(Self {
            envoy: Envoy::start(version, workers, &bootstrap).await?,
            pods,
        })
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

impl Reply {
    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn read(response: Response<hyper::body::Incoming>) -> Result<Self> {
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .context("the answer broke off")?
            .to_bytes();
        Ok(Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    /// The rank that answered.
    #[must_use]
    pub fn rank(&self) -> Option<SocketAddr> {
        self.headers
            .get("x-simulated-rank")?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// What reached the rank.
    ///
    /// # Errors
    /// When the request did not ask for it.
    pub fn digest(&self) -> Result<Digest> {
        serde_json::from_value(self.json()?).context("no digest")
    }
}

impl Digest {
    /// Every value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The ranks that the picker named, best first.
    #[must_use]
    pub fn named_ranks(&self) -> Vec<SocketAddr> {
        let lists = self.header(routing::DESTINATION_HEADER);
        lists
            .iter()
            .flat_map(|list| list.split(','))
            .filter_map(|rank| rank.parse().ok())
            .collect()
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
