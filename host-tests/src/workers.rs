//! Which of Envoy's workers serves which connection.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, Protocol, get};
use crate::envoy::Envoy;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How many connections each worker has accepted, whatever became of them.
///
/// # Errors
/// When the admin interface does not answer.
pub async fn accepted(envoy: &Envoy) -> Result<Vec<u64>> {
    let page = get(envoy.admin(), "/stats?filter=worker_.*downstream_cx_total").await?;
    let mut counts = BTreeMap::new();
    for line in page.lines() {
        let (name, count) = line.split_once(": ").context("no statistic")?;
        let (_, worker) = name.split_once(".worker_").context("no worker")?;
        let (worker, _) = worker.split_once('.').context("no number of a worker")?;
        counts.insert(worker.parse::<usize>()?, count.parse()?);
    }
    Ok(counts.into_values().collect())
}

/// Opens a connection and tells which worker serves it. One at a time, or who accepted which is not known.
///
/// # Errors
/// When the gateway refuses or no worker accepts it in half a minute.
pub async fn connect(envoy: &Envoy, protocol: Protocol) -> Result<(usize, Connection)> {
    let before = accepted(envoy).await?;
    let connection = Connection::open(envoy.gateway(), protocol).await?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let now = accepted(envoy).await?;
        let mut counts = now.iter().zip(&before);
        if let Some(worker) = counts.position(|(now, before)| now > before) {
            return Ok((worker, connection));
        }
        sleep(LOOK_AGAIN).await;
    }
    bail!("no worker accepted the connection")
}

/// Opens a connection on each worker, in the order of their numbers. Needs a listener with balanced connections, and no
/// other connection open.
///
/// # Errors
/// As [`connect`], and when a worker has two.
pub async fn one_on_each(
    envoy: &Envoy,
    workers: u32,
    protocol: Protocol,
) -> Result<Vec<Connection>> {
    let mut connections = BTreeMap::new();
    for _ in 0..workers {
        let (worker, connection) = connect(envoy, protocol).await?;
        let is_first = connections.insert(worker, connection).is_none();
        ensure!(is_first, "worker {worker} has two connections");
    }
    Ok(connections.into_values().collect())
}
