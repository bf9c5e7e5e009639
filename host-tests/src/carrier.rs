//! An Envoy whose workers tell each other events, in the ways that the module `carrier-cost` knows.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::bootstrap::Bootstrap;
use crate::connection::{Connection, Protocol};
use crate::envoy::Envoy;
use crate::reply::{self, Reply};

/// A worker that is left without a connection by so many is not there.
const CONNECTIONS_PER_WORKER: u32 = 20;
/// A pick, a first byte and an end.
const EVENTS_PER_REQUEST: f64 = 3.0;

/// Nanoseconds that single calls take.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Calls {
    /// Telling one event to all other workers.
    pub send: f64,
    /// Finding nothing new from all other workers.
    pub look: f64,
    /// Taking one event that came alone.
    pub receive: f64,
    /// Taking one of many events that came together.
    pub receive_of_many: f64,
}

/// What one worker sent and received.
#[derive(Clone, Debug, Deserialize)]
pub struct Traffic {
    /// Events sent.
    pub sent: u64,
    /// Events received from all other workers.
    pub received: u64,
    /// Events that were overwritten before they were read.
    pub lost: u64,
    /// How long each took.
    pub delays_us: Vec<f64>,
    /// What each pick spent on taking news.
    pub looks_ns: Vec<f64>,
    /// Between ticks.
    pub ticks_us: Vec<f64>,
}

/// An Envoy with a connection to each of its workers.
#[derive(Debug)]
pub struct Workers {
    /// The Envoy.
    pub envoy: Envoy,
    connections: Vec<Connection>,
}

impl Workers {
    /// Starts an Envoy with the module `carrier-cost`, which ticks every so many milliseconds, and lets its workers meet.
    ///
    /// # Errors
    /// When Envoy does not start, or a worker gets no connection.
    pub async fn start(version: &str, workers: u32, module: &Path, tick_ms: u32) -> Result<Self> {
        let bootstrap = Bootstrap::with_round_robin(&[])?
            .balanced_connections()
            .filter(0, filter(module, tick_ms));
        let envoy = Envoy::start_at_level(version, workers, &bootstrap, "critical").await?;
        let mut all = Self {
            envoy,
            connections: Vec::new(),
        };
        all.connect(workers).await?;
        all.ask_all::<()>(&format!("/meet?workers={workers}"))
            .await?;
        Ok(all)
    }

    /// Opens connections until each worker has one; numbers the workers in the order in which they got theirs.
    async fn connect(&mut self, workers: u32) -> Result<()> {
        // Kept until the end, because Envoy gives the next connection to the worker that has the fewest.
        let mut doubles = Vec::new();
        for _ in 0..workers * CONNECTIONS_PER_WORKER {
            let mut connection =
                Connection::open(self.envoy.gateway(), Protocol::Http1Length).await?;
            let known: Option<u32> = ask(&mut connection, &self.envoy, "/who").await?;
            if known.is_some() {
                doubles.push(connection);
                continue;
            }
            let number = self.connections.len();
            let path = format!("/join?worker={number}");
            ask::<()>(&mut connection, &self.envoy, &path).await?;
            self.connections.push(connection);
            if self.connections.len() == usize::try_from(workers)? {
                return Ok(());
            }
        }
        anyhow::bail!("only {} workers got a connection", self.connections.len())
    }

    /// Asks one worker.
    ///
    /// # Errors
    /// When there is no such worker or no answer of this form.
    pub async fn ask<T: DeserializeOwned>(&mut self, worker: usize, path: &str) -> Result<T> {
        let connection = self.connections.get_mut(worker).context("no such worker")?;
        ask(connection, &self.envoy, path).await
    }

    /// Asks all workers, one after the other.
    ///
    /// # Errors
    /// When one of them does not answer in this form.
    pub async fn ask_all<T: DeserializeOwned>(&mut self, path: &str) -> Result<Vec<T>> {
        let mut answers = Vec::new();
        for connection in &mut self.connections {
            answers.push(ask(connection, &self.envoy, path).await?);
        }
        Ok(answers)
    }

    /// Sends requests for a while, at random times: each is a pick, a first byte and an end, which the worker tells the
    /// others. Gives how many requests were sent to all workers together.
    ///
    /// # Errors
    /// When a worker does not answer.
    pub async fn drive(&mut self, per_second: f64, length: Duration, seed: u64) -> Result<f64> {
        let gateway = self.envoy.gateway();
        let each = EVENTS_PER_REQUEST * per_second / self.connections.len() as f64;
        let mut running = JoinSet::new();
        for (place, connection) in self.connections.drain(..).enumerate() {
            let random = ChaCha8Rng::seed_from_u64(seed ^ u64::try_from(place)?);
            running.spawn(drive(connection, gateway, each, length, random));
        }
        let mut events = 0;
        while let Some(driven) = running.join_next().await {
            let (connection, sent) = driven??;
            self.connections.push(connection);
            events += sent;
        }
        Ok(f64::from(events) / EVENTS_PER_REQUEST)
    }

    /// Makes the VM of a worker end as by a panic.
    ///
    /// # Errors
    /// When there is no such worker or its VM lives on.
    pub async fn trap(&mut self, worker: usize) -> Result<()> {
        let connection = self.connections.get_mut(worker).context("no such worker")?;
        let request = reply::request(self.envoy.gateway(), Method::GET, "/trap", &[], "")?;
        let reply = Reply::read(connection.send(request).await?).await?;
        ensure!(reply.status == 503, "status {} after a trap", reply.status);
        Ok(())
    }
}

/// Sends events on one connection at random times; gives the connection back with their number.
async fn drive(
    mut connection: Connection,
    gateway: SocketAddr,
    per_second: f64,
    length: Duration,
    mut random: ChaCha8Rng,
) -> Result<(Connection, u32)> {
    let start = Instant::now();
    let (mut due, mut sent) = (start, 0);
    loop {
        // Exponential gaps, as of clients that know nothing of each other.
        due += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / per_second);
        if due > start + length {
            return Ok((connection, sent));
        }
        sleep_until(due).await;
        let path = if sent % 3 == 0 { "/pick" } else { "/progress" };
        let request = reply::request(gateway, Method::GET, path, &[], "")?;
        let reply = Reply::read(connection.send(request).await?).await?;
        ensure!(reply.status == 200, "{path}: status {}", reply.status);
        sent += 1;
    }
}

async fn ask<T: DeserializeOwned>(
    connection: &mut Connection,
    envoy: &Envoy,
    path: &str,
) -> Result<T> {
    let request = reply::request(envoy.gateway(), Method::GET, path, &[], "")?;
    let reply = Reply::read(connection.send(request).await?).await?;
    let log = || format!("{path}: {:?}\n{}", reply, envoy.log());
    serde_json::from_slice(&reply.body).with_context(log)
}

fn filter(module: &Path, tick_ms: u32) -> serde_json::Value {
    json!({"name": "carrier", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {"name": "carrier", "failure_policy": "FAIL_CLOSED",
            "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": tick_ms.to_string()},
            "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}},
        },
    }})
}
