//! What was done to ranks and gateway, and how.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::load::question;
use super::stage::Stage;
use crate::caller::Call;
use crate::rank_process::RankProcess;
use crate::sim::Fault;
use crate::trace::{BLOCK_TOKENS, TraceRequest};

/// How long a rank hangs, is away or is out of the pool: long enough for a gateway that does not notice to show it.
pub(super) const WHILE: Duration = Duration::from_secs(4);
/// Between two of several changes: each is in force for a moment before the next.
const BETWEEN: Duration = Duration::from_secs(1);
const RELOADS: u32 = 4;
const TRAPS: u64 = 2;
/// More than workers, so that each is likely to hold some when it traps.
const HELD_UPLOADS: u64 = 12;
/// Ends the VM of a module that was built with the feature `trap`.
pub const TRAP_HEADER: &str = "x-rank-router-trap";
/// Numbers of requests that are no part of the load.
const HELD_NUMBERS: u64 = 1_000_000;
const TRAP_NUMBERS: u64 = 2_000_000;

/// What was done.
#[derive(Debug)]
pub struct Blow {
    /// When.
    pub at: SystemTime,
    /// When it was over, if it was.
    pub until: Option<SystemTime>,
    /// The ranks that it hit.
    pub victims: Vec<SocketAddr>,
    /// Requests beside the load.
    pub calls: Vec<Call>,
    /// Whether it left no rank that could have answered.
    pub leaves_nobody: bool,
}

impl Blow {
    fn on(victims: Vec<SocketAddr>) -> Self {
        Self {
            at: SystemTime::now(),
            until: None,
            victims,
            calls: Vec::new(),
            leaves_nobody: false,
        }
    }

    fn on_ranks_of<'a>(processes: impl IntoIterator<Item = &'a RankProcess>) -> Result<Self> {
        let ranks = processes.into_iter().flat_map(RankProcess::ranks);
        let blow = Self::on(ranks.collect());
        ensure!(!blow.victims.is_empty(), "there is no rank to hit");
        Ok(blow)
    }

    fn over(self) -> Self {
        Self {
            until: Some(SystemTime::now()),
            ..self
        }
    }

    /// The same, when no rank was left that could have answered.
    pub(super) fn leaving_nobody(self) -> Self {
        Self {
            leaves_nobody: true,
            ..self
        }
    }

    /// Whether a request was under way at some time when no rank could have answered it.
    #[must_use]
    pub fn excuses(&self, call: &Call) -> bool {
        let is_before_its_end = self.until.is_none_or(|until| call.sent < until);
        self.leaves_nobody && is_before_its_end && call.sent + call.took > self.at
    }
}

/// Kills them at once, for good.
pub(super) async fn kill(mut processes: Vec<&mut RankProcess>) -> Result<Blow> {
    for process in &mut processes {
        process.legs().await?;
    }
    let blow = Blow::on_ranks_of(processes.iter().map(|process| &**process))?;
    // Signals first, then waiting: all die at once.
    for process in &mut processes {
        process.start_kill()?;
    }
    for process in processes {
        process.kill().await?;
    }
    Ok(blow)
}

/// Stops them for a while.
pub(super) async fn hang(processes: Vec<&mut RankProcess>) -> Result<Blow> {
    let blow = Blow::on_ranks_of(processes.iter().map(|process| &**process))?;
    for process in &processes {
        process.stop()?;
    }
    sleep(WHILE).await;
    for process in &processes {
        process.go_on()?;
    }
    Ok(blow.over())
}

/// Kills them at once and starts them again on the same addresses after a while.
pub(super) async fn restart(mut processes: Vec<&mut RankProcess>) -> Result<Blow> {
    let blow = kill(processes.iter_mut().map(|process| &mut **process).collect()).await?;
    sleep(WHILE).await;
    for process in processes {
        process.restart().await?;
    }
    Ok(blow.over())
}

/// Has them answer with an error at once.
pub(super) async fn fail(processes: Vec<&mut RankProcess>, status: u16) -> Result<Blow> {
    let blow = Blow::on_ranks_of(processes.iter().map(|process| &**process))?;
    for process in processes {
        for rank in process.ranks() {
            process.set_fault(rank, Fault::Failing { status }).await?;
        }
    }
    Ok(blow)
}

/// Takes ranks out of the clusters that Envoy is told of, and puts them back after a while.
pub(super) async fn leave_and_return(stage: &Stage, leaving: Vec<SocketAddr>) -> Result<Blow> {
    ensure!(!leaving.is_empty(), "there is no rank that could leave");
    let blow = Blow::on(leaving);
    stage.update_endpoints(&blow.victims).await?;
    sleep(WHILE).await;
    stage.update_endpoints(&[]).await?;
    Ok(blow.over())
}

/// Replaces the listener several times.
pub(super) async fn reload(stage: &mut Stage) -> Result<Blow> {
    let blow = Blow::on(Vec::new());
    let updates = stage
        .envoy
        .stat("listener_manager.lds.update_success")
        .await?;
    for reload in 1..=RELOADS {
        let other = Value::from(10 + reload);
        let bootstrap = stage
            .bootstrap
            .clone()
            .picker_field("inFlightCostMs", other);
        stage.files.write_listener(&bootstrap)?;
        stage
            .envoy
            .wait_for_stat(
                "listener_manager.lds.update_success",
                updates + u64::from(reload),
            )
            .await?;
        sleep(BETWEEN).await;
    }
    Ok(blow.over())
}

/// Has the module trap twice while streams are held.
pub(super) async fn trap(stage: &mut Stage) -> Result<Blow> {
    let caller = stage.caller();
    let question = question(1, &request(), stage.model())?;
    let mut held = JoinSet::new();
    for number in HELD_NUMBERS..HELD_NUMBERS + HELD_UPLOADS {
        // A client of its own: a connection of its own, on whichever worker.
        let (caller, question) = (stage.caller(), question.clone());
        held.spawn(async move { caller.call_slowly(number, &question, 2 * BETWEEN).await });
    }
    stage
        .envoy
        .wait_for_stat_at_least("wasmcustom.rank_router.requests_held", HELD_UPLOADS / 2)
        .await?;
    let mut blow = Blow::on(Vec::new());
    for number in TRAP_NUMBERS..TRAP_NUMBERS + TRAPS {
        blow.calls
            .push(caller.call(number, &question, &[(TRAP_HEADER, "1")]).await);
        sleep(BETWEEN).await;
    }
    blow.calls.extend(held.join_all().await);
    Ok(blow.over())
}

fn request() -> TraceRequest {
    TraceRequest {
        at: Duration::ZERO,
        input_tokens: 2 * BLOCK_TOKENS,
        output_tokens: 20,
        blocks: vec![0, u64::MAX],
    }
}
