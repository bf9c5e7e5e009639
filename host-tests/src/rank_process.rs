//! Simulated ranks as processes of their own: they can be killed, stopped and started again as real ones.

use std::iter::Sum;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::option_value::option_value;
use crate::reply::send;
use crate::repository;
use crate::sim::{Fault, Role, SidecarVersion};

/// What the program says when it is up, in front of the address of its switches.
const SWITCHES: &str = "switches on http://";

/// Which ranks a process has: a whole pod, or one rank of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RankProcessConfig {
    /// Address of the pod.
    pub pod: Ipv4Addr,
    /// Port of its first rank in this process.
    pub base_port: u16,
    /// Ranks, on consecutive ports.
    pub ranks: u16,
    /// How many times as slow as the measured GPU.
    pub slowness: f64,
    /// What its ranks are for; decode ranks stand behind a sidecar.
    pub role: Role,
    /// The sidecar before each decode rank.
    pub sidecar: SidecarVersion,
}

/// What ranks say of the prefill legs that they had a part in, and of requests that should have come as a leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegReport {
    /// Of prefill ranks: requests for an answer, which no sidecar sent. There must never be one.
    pub direct_requests: u64,
    /// Of prefill ranks: legs that came. Of decode ranks: legs that their sidecars sent.
    pub prefill_legs: u64,
    /// Of decode ranks: prompts that came without a prefill rank.
    pub decode_only: u64,
    /// Of decode ranks: legs that got an error or no answer.
    pub legs_failed: u64,
    /// Those of them whose prompt the decode rank then prefilled itself.
    pub legs_fallen_back: u64,
}

/// A running process of ranks; it is killed when this is dropped, also by a panic.
#[derive(Debug)]
pub struct RankProcess {
    config: RankProcessConfig,
    process: Child,
    switches: SocketAddr,
    // Of the processes before this one, and of this one when it was last asked.
    earlier: LegReport,
    noted: LegReport,
    // Held open: a process that may still write to it must not die of that.
    _output: BufReader<ChildStdout>,
}

impl RankProcessConfig {
    /// Its ranks.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let pod = self.pod;
        let ports = self.base_port..self.base_port.saturating_add(self.ranks);
        ports.map(move |port| SocketAddr::from((pod, port)))
    }
}

impl RankProcess {
    /// Starts it and waits until its ranks listen.
    ///
    /// # Errors
    /// When the program was not built or an address is taken.
    pub async fn start(config: RankProcessConfig) -> Result<Self> {
        let (process, switches, output) = spawn(&config).await?;
        Ok(Self {
            config,
            process,
            switches,
            earlier: LegReport::default(),
            noted: LegReport::default(),
            _output: output,
        })
    }

    /// Its ranks.
    #[must_use]
    pub fn ranks(&self) -> Vec<SocketAddr> {
        self.config.addresses().collect()
    }

    /// What they are for.
    #[must_use]
    pub fn role(&self) -> Role {
        self.config.role
    }

    /// What its ranks say of prefill legs, since the first start. A process that is gone says what it said when it was last
    /// asked: ask before it is killed.
    ///
    /// # Errors
    /// When the process is there and does not answer.
    pub async fn legs(&mut self) -> Result<LegReport> {
        if self.process.id().is_some() {
            let reply = send(self.switches, Method::GET, "/ranks", &[], "").await?;
            let ranks: Vec<LegReport> = serde_json::from_slice(&reply.body)?;
            self.noted = ranks.into_iter().sum();
        }
        Ok([self.earlier, self.noted].into_iter().sum())
    }

    /// Kills it as `kill -9` does, without waiting.
    ///
    /// # Errors
    /// When it is gone.
    pub fn start_kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Kills it as `kill -9` does and waits until it is gone, with its sockets.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await.context("cannot kill the ranks")
    }

    /// Stops it: its sockets stay open, and nothing comes out of them.
    ///
    /// # Errors
    /// When it is gone.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Starts it again on the same addresses, with cold caches, after killing what is left of it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        let earlier = [self.earlier, self.noted].into_iter().sum();
        *self = Self::start(self.config.clone()).await?;
        self.earlier = earlier;
        Ok(())
    }

    /// Throws the switch of one of its ranks.
    ///
    /// # Errors
    /// When the process does not answer or has no such rank.
    pub async fn set_fault(&self, rank: SocketAddr, fault: Fault) -> Result<()> {
        let path = format!("/ranks/{rank}/fault");
        let body = serde_json::to_string(&fault)?;
        let reply = send(self.switches, Method::PUT, &path, &[], &body).await?;
        ensure!(reply.status == 200, "{rank}: {:?}", reply.body);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw).context("the ranks are gone")?;
        kill_process(id, signal).context("cannot signal the ranks")
    }
}

impl Sum for LegReport {
    fn sum<I: Iterator<Item = Self>>(reports: I) -> Self {
        reports.fold(Self::default(), |sum, report| Self {
            direct_requests: sum.direct_requests + report.direct_requests,
            prefill_legs: sum.prefill_legs + report.prefill_legs,
            decode_only: sum.decode_only + report.decode_only,
            legs_failed: sum.legs_failed + report.legs_failed,
            legs_fallen_back: sum.legs_fallen_back + report.legs_fallen_back,
        })
    }
}

async fn spawn(config: &RankProcessConfig) -> Result<(Child, SocketAddr, BufReader<ChildStdout>)> {
    let mut command = Command::new(repository::program("simulated-ranks")?);
    command
        .args(["--pods", &config.pod.to_string()])
        .args(["--base-port", &config.base_port.to_string()])
        .args(["--ranks-per-pod", &config.ranks.to_string()])
        .args(["--slowness", &config.slowness.to_string()])
        .args(["--role", &option_value(config.role)])
        .args(["--sidecar-version", &option_value(config.sidecar)])
        .args(["--control", &format!("{}:0", config.pod)])
        .arg("--with-parent")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut process = command.spawn().context("cannot start simulated ranks")?;
    let stdout = process.stdout.take().context("no output of the ranks")?;
    let mut output = BufReader::new(stdout);
    let mut line = String::new();
    output.read_line(&mut line).await?;
    let Some((_, switches)) = line.trim_end_matches("/ranks\n").split_once(SWITCHES) else {
        bail!("the ranks of {} did not start: {line}", config.pod);
    };
    let switches = switches.parse().context("no address of the switches")?;
    Ok((process, switches, output))
}
