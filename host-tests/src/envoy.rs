//! A real Envoy as a child process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::bootstrap::Bootstrap;
use crate::connection::get;
use crate::repository;

/// How long Envoy may take to start, or a figure to come true: long, for slow and busy machines.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the filters of an old configuration serve the connections that they have: longer than any answer of a test,
/// and soon over. Istio gives them 45 s.
const DRAIN_SECONDS: &str = "5";
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running Envoy; it ends when this is dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Child,
    admin: SocketAddr,
    gateway: SocketAddr,
    files: TempDir,
}

impl Envoy {
    /// Starts an Envoy and waits until its workers listen.
    ///
    /// # Errors
    /// When the binary is missing or Envoy ends instead of starting; then its log is in the error.
    pub async fn start(version: &str, workers: u32, bootstrap: &Bootstrap) -> Result<Self> {
        Self::start_at_level(version, workers, bootstrap, "debug").await
    }

    /// As [`start`](Self::start), with the module's log at another level: a line for each pick costs more than the pick.
    ///
    /// # Errors
    /// As there.
    pub async fn start_at_level(
        version: &str,
        workers: u32,
        bootstrap: &Bootstrap,
        level: &str,
    ) -> Result<Self> {
        let files = tempfile::tempdir()?;
        std::fs::write(files.path().join("envoy.json"), bootstrap.to_json())?;
        let mut process = spawn(version, workers, level, files.path())?;
        let started = Self::wait_until_ready(&mut process, files.path()).await;
        let (admin, gateway) = started.with_context(|| log_of(files.path()))?;
        Ok(Self {
            process,
            admin,
            gateway,
            files,
        })
    }

    /// Where requests go.
    #[must_use]
    pub fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// Envoy's admin interface.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// What Envoy logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        log_of(self.files.path())
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// A metric of the module, such as `picks_prefix_hit`.
    ///
    /// # Errors
    /// When the admin interface does not answer or knows no such metric.
    pub async fn metric(&self, name: &str) -> Result<u64> {
        self.stat(&format!("wasmcustom.rank_router.{name}")).await
    }

    /// A counter or gauge of Envoy.
    ///
    /// # Errors
    /// When the admin interface does not answer or knows no such name.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let page = get(self.admin, "/stats").await?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.with_context(|| format!("no statistic {name}"))?
            .parse()
            .with_context(|| format!("{name} is no number"))
    }

    /// Waits until a metric of the module has this value.
    ///
    /// # Errors
    /// When it does not come in a minute; the error says what it was instead.
    pub async fn wait_for_metric(&self, name: &str, value: u64) -> Result<()> {
        self.wait_for_stat(&format!("wasmcustom.rank_router.{name}"), value)
            .await
    }

    /// Waits until the module has found so many ranks and read the metrics of each.
    ///
    /// # Errors
    /// As for a metric.
    pub async fn wait_for_ranks(&self, ranks: usize) -> Result<()> {
        let ranks = u64::try_from(ranks)?;
        self.wait_for_metric("ranks_listed", ranks).await?;
        self.wait_for_metric("ranks_reported", ranks).await
    }

    /// Waits until a counter or gauge of Envoy has this value.
    ///
    /// # Errors
    /// As for a metric.
    pub async fn wait_for_stat(&self, name: &str, value: u64) -> Result<()> {
        self.wait_until(name, &format!("{value}"), |now| now == value)
            .await
    }

    /// Waits until a counter or gauge of Envoy has this value or more.
    ///
    /// # Errors
    /// As for a metric.
    pub async fn wait_for_stat_at_least(&self, name: &str, value: u64) -> Result<()> {
        self.wait_until(name, &format!("at least {value}"), |now| now >= value)
            .await
    }

    async fn wait_until(
        &self,
        name: &str,
        wanted: &str,
        is_wanted: impl Fn(u64) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.stat(name).await?;
            if is_wanted(now) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "{name} is {now} and not {wanted}; log of Envoy:\n{}",
                    self.log()
                );
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until no request is held, queued or in flight on any rank.
    ///
    /// # Errors
    /// When that does not come in a minute.
    pub async fn wait_until_nothing_is_counted(&self) -> Result<()> {
        for name in ["requests_held", "queued_tokens", "requests_in_flight"] {
            self.wait_for_metric(name, 0).await?;
        }
        Ok(())
    }

    /// Ends Envoy and waits for it.
    pub async fn stop(mut self) {
        let _ = self.process.kill().await;
    }

    async fn wait_until_ready(
        process: &mut Child,
        files: &Path,
    ) -> Result<(SocketAddr, SocketAddr)> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = process.try_wait()? {
                bail!("Envoy ended with {status}");
            }
            if let Some(addresses) = addresses(files).await {
                return Ok(addresses);
            }
            sleep(LOOK_AGAIN).await;
        }
        bail!("Envoy was not ready after {PATIENCE:?}")
    }
}

fn spawn(version: &str, workers: u32, level: &str, files: &Path) -> Result<Child> {
    let log = std::fs::File::create(files.join("envoy.log"))?;
    let mut command = Command::new(repository::envoy(version)?);
    command
        .arg("-c")
        .arg(files.join("envoy.json"))
        .arg("--admin-address-path")
        .arg(files.join("admin"))
        .args([
            "--concurrency",
            &workers.to_string(),
            "--disable-hot-restart",
        ])
        // Logs appear soon, and what a new configuration replaces goes soon.
        .args(["--file-flush-interval-msec", "50"])
        // As in Istio, each answer of theirs asks the client to connect anew.
        .args([
            "--drain-time-s",
            DRAIN_SECONDS,
            "--drain-strategy",
            "immediate",
        ])
        .args([
            "--log-level",
            "warning",
            "--component-log-level",
            &format!("wasm:{level}"),
        ])
        .current_dir(repository::root())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    command.spawn().context("cannot start Envoy")
}

/// The admin interface and the listener, once Envoy serves.
async fn addresses(files: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let admin = std::fs::read_to_string(files.join("admin"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let ready = get(admin, "/ready").await.ok()?;
    let listeners: Value =
        serde_json::from_str(&get(admin, "/listeners?format=json").await.ok()?).ok()?;
    let bound = listeners.pointer("/listener_statuses/0/local_address/socket_address")?;
    let ip = bound["address"].as_str()?.parse().ok()?;
    let port = u16::try_from(bound["port_value"].as_u64()?).ok()?;
    (ready.trim() == "LIVE").then_some((admin, SocketAddr::new(ip, port)))
}

fn log_of(files: &Path) -> String {
    std::fs::read_to_string(files.join("envoy.log")).unwrap_or_default()
}
