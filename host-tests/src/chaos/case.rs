//! What goes wrong.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::json;

use super::blow::{self, Blow, WHILE};
use super::stage::{Stage, StageConfig};
use crate::option_value::option_value;
use crate::rank_process::RankProcess;
use crate::sim::Role;

/// One thing that goes wrong under traffic; where prefill and decode are apart, to ranks of both roles at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// `kill -9` of one rank.
    KillRank,
    /// `kill -9` of a pod of eight ranks.
    KillPod,
    /// `kill -9` of two pods of eight ranks at once, as a group of a LeaderWorkerSet dies; where they are apart, of two that
    /// prefill.
    KillGroup,
    /// The same of two pods that decode; only where they are apart.
    KillDecodeGroup,
    /// Every rank that prefills is killed, and started again some seconds later; only where they are apart.
    KillPrefill,
    /// Every rank that decodes is killed, and started again some seconds later: nobody can answer; only where they are apart.
    KillDecode,
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
    /// Every rank that decodes leaves the pool for some seconds: nobody can answer; only where they are apart.
    EmptyPool,
    /// The listener with both filters is replaced several times.
    Reload,
    /// The module traps while streams are held.
    Trap,
}

impl Case {
    /// All that can go wrong where prefill and decode are apart, or where they are not.
    #[must_use]
    pub fn all(is_apart: bool) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|case| is_apart || !case.needs_roles()).collect()
    }

    fn needs_roles(self) -> bool {
        use Case::{EmptyPool, KillDecode, KillDecodeGroup, KillPrefill};
        [KillDecodeGroup, KillPrefill, KillDecode, EmptyPool].contains(&self)
    }

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> String {
        option_value(self)
    }

    /// The stage that this case needs; a trap needs a module that can.
    ///
    /// # Errors
    /// When there is no such module, or the case needs ranks of a role that there are not.
    pub fn stage(self, config: &StageConfig, trap_module: Option<&Path>) -> Result<StageConfig> {
        let has_its_ranks = config.apart.is_some() || !self.needs_roles();
        ensure!(has_its_ranks, "only with --disaggregated");
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
            Self::KillRank => blow::kill(stage.lone_ranks()).await,
            Self::KillPod => blow::kill(stage.pods()).await,
            Self::KillGroup => {
                let role = if stage.is_apart() {
                    Role::Prefill
                } else {
                    Role::Both
                };
                blow::kill(stage.group(role)).await
            }
            Self::KillDecodeGroup => blow::kill(stage.group(Role::Decode)).await,
            Self::KillPrefill => blow::restart(stage.all_of(Role::Prefill)).await,
            Self::KillDecode => {
                let blow = blow::restart(stage.all_of(Role::Decode)).await?;
                Ok(blow.leaving_nobody())
            }
            Self::HangRank => blow::hang(stage.lone_ranks()).await,
            Self::RestartRank => blow::restart(stage.lone_ranks()).await,
            Self::FailFast503 => blow::fail(stage.lone_ranks(), 503).await,
            Self::FailFast500 => blow::fail(stage.lone_ranks(), 500).await,
            Self::Endpoints => {
                let leaving = ranks_of(stage.pods());
                blow::leave_and_return(stage, leaving).await
            }
            Self::EmptyPool => {
                let leaving = ranks_of(stage.all_of(Role::Decode));
                let blow = blow::leave_and_return(stage, leaving).await?;
                Ok(blow.leaving_nobody())
            }
            Self::Reload => blow::reload(stage).await,
            Self::Trap => blow::trap(stage).await,
        }
    }
}

fn ranks_of(processes: Vec<&mut RankProcess>) -> Vec<SocketAddr> {
    let ranks = processes.into_iter().map(|process| process.ranks());
    ranks.flatten().collect()
}
