//! How a replay reaches the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

type Body = Full<Bytes>;

/// A client of the gateway for many requests at once; clones share its connections.
#[derive(Clone, Debug)]
pub struct GatewayClient {
    gateway: SocketAddr,
    connections: Connections,
}

#[derive(Clone, Debug)]
enum Connections {
    AsNeeded(Box<Client<HttpConnector, Body>>),
    InTurn {
        senders: Arc<[SendRequest<Body>]>,
        next: Arc<AtomicUsize>,
    },
}

impl GatewayClient {
    /// Opens an HTTP/1.1 connection whenever all others are in use, as most clients do.
    #[must_use]
    pub fn as_needed(gateway: SocketAddr) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            gateway,
            connections: Connections::AsNeeded(Box::new(client)),
        }
    }

    /// Opens so many HTTP/2 connections and uses them in turn. A connection stays on the Envoy worker that accepted it,
    /// so with as many connections on each worker all workers get as many requests.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn in_turn(gateway: SocketAddr, connections: usize) -> Result<Self> {
        let mut senders = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(gateway).await?;
            stream.set_nodelay(true)?;
            let (sender, driver) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            senders.push(sender);
        }
        Ok(Self {
            gateway,
            connections: Connections::InTurn {
                senders: senders.into(),
                next: Arc::default(),
            },
        })
    }

    /// Posts a JSON body and waits for the head of the answer.
    ///
    /// # Errors
    /// When the connection breaks before.
    pub async fn post(&self, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let request = Request::post(format!("http://{}{path}", self.gateway))
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        match &self.connections {
            Connections::AsNeeded(client) => client.request(request).await.context("no answer"),
            Connections::InTurn { senders, next } => {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let sender = senders.get(turn % senders.len().max(1));
                let mut sender = sender.context("no connection")?.clone();
                sender.ready().await.context("the connection broke")?;
                sender.send_request(request).await.context("no answer")
            }
        }
    }
}
