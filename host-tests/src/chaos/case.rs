//! What goes wrong.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::load::question;
use super::stage::{Stage, StageConfig};
use crate::caller::Call;
use crate::rank_process::RankProcess;
use crate::sim::Fault;
use crate::trace::{BLOCK_TOKENS, TraceRequest};

/// How long a rank hangs, is away or is out of the pool: long enough for a gateway that does not notice to show it.
const WHILE: Duration = Duration::from_secs(4);
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

/// One thing that goes wrong under traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// `kill -9` of one rank.
    KillRank,
    /// `kill -9` of a pod of eight ranks.
    KillPod,
    /// `kill -9` of two pods of eight ranks at once, as a group of a LeaderWorkerSet dies.
    KillGroup,
    /// A rank is stopped by a signal for some seconds and then goes on.
    HangRank,
    /// A rank is killed and started again on the same address some seconds later.
    RestartRank,
    /// A rank answers 503 at once.
    FailFast503,
    /// A rank answers 500 at once.
    FailFast500,
    /// A pod leaves the pool for some seconds and comes back, by the endpoints that Envoy is told.
    Endpoints,
    /// The listener with both filters is replaced several times.
    Reload,
    /// The module traps while streams are held.
    Trap,
}

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
}

impl Case {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// The stage that this case needs; a trap needs a module that can.
    ///
    /// # Errors
    /// When there is no such module.
    pub fn stage(self, config: &StageConfig, trap_module: Option<&Path>) -> Result<StageConfig> {
        let mut config = config.clone();
        if self == Self::Trap {
            let module = trap_module.context("no module that traps: see --trap-module")?;
            config.module = Some(module.to_path_buf());
            // What is held stays held until the trap.
            config
                .picker
                .push(("decideAfterIdleMs", json!(WHILE.as_millis())));
        }
        Ok(config)
    }

    /// Does it, to the busiest ranks that it can be done to, and returns when it is over.
    ///
    /// # Errors
    /// When it could not be done.
    pub async fn strike(self, stage: &mut Stage) -> Result<Blow> {
        stage.sort_by_traffic()?;
        match self {
            Self::KillRank => kill(vec![stage.lone_rank()?]).await,
            Self::KillPod => kill(stage.pods().take(1).collect()).await,
            Self::KillGroup => kill(stage.pods().take(2).collect()).await,
            Self::HangRank => hang(stage.lone_rank()?).await,
            Self::RestartRank => restart(stage.lone_rank()?).await,
            Self::FailFast503 => fail(stage.lone_rank()?, 503).await,
            Self::FailFast500 => fail(stage.lone_rank()?, 500).await,
            Self::Endpoints => leave_and_return(stage).await,
            Self::Reload => reload(stage).await,
            Self::Trap => trap(stage).await,
        }
    }
}

impl Blow {
    fn on(victims: Vec<SocketAddr>) -> Self {
        Self {
            at: SystemTime::now(),
            until: None,
            victims,
            calls: Vec::new(),
        }
    }

    fn over(self) -> Self {
        Self {
            until: Some(SystemTime::now()),
            ..self
        }
    }
}

async fn kill(mut processes: Vec<&mut RankProcess>) -> Result<Blow> {
    let blow = Blow::on(
        processes
            .iter()
            .flat_map(|process| process.ranks())
            .collect(),
    );
    // Signals first, then waiting: all die at once.
    for process in &mut processes {
        process.start_kill()?;
    }
    for process in processes {
        process.kill().await?;
    }
    Ok(blow)
}

async fn hang(process: &RankProcess) -> Result<Blow> {
    let blow = Blow::on(process.ranks());
    process.stop()?;
    sleep(WHILE).await;
    process.go_on()?;
    Ok(blow.over())
}

async fn restart(process: &mut RankProcess) -> Result<Blow> {
    let blow = Blow::on(process.ranks());
    process.kill().await?;
    sleep(WHILE).await;
    process.restart().await?;
    Ok(blow.over())
}

async fn fail(process: &RankProcess, status: u16) -> Result<Blow> {
    let blow = Blow::on(process.ranks());
    for rank in process.ranks() {
        process.set_fault(rank, Fault::Failing { status }).await?;
    }
    Ok(blow)
}

async fn leave_and_return(stage: &mut Stage) -> Result<Blow> {
    let leaving = stage.pods().next().context("no pod")?.ranks();
    let updates = stage.envoy.stat("cluster.pool.update_success").await?;
    let blow = Blow::on(leaving.clone());
    stage.write_endpoints(&leaving)?;
    stage
        .envoy
        .wait_for_stat("cluster.pool.update_success", updates + 1)
        .await?;
    sleep(WHILE).await;
    stage.write_endpoints(&[])?;
    Ok(blow.over())
}

async fn reload(stage: &mut Stage) -> Result<Blow> {
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

async fn trap(stage: &mut Stage) -> Result<Blow> {
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
