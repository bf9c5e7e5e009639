//! Honest traffic through a fresh gateway, alone or beside attackers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::attack::Attack;
use super::attackers::{Attackers, Sent};
use crate::caller::Call;
use crate::chaos::load;
use crate::chaos::report::left_counted;
use crate::chaos::stage::{Stage, StageConfig};
use crate::hit_rate;
use crate::outcome::{Outcome, Outcomes};
use crate::replay::Progress;
use crate::summary::Ttft;
use crate::trace::TraceRequest;

/// Traffic before the attack begins: ranks hold prefixes by then.
const BEFORE: Duration = Duration::from_secs(3);
/// What has been sent until then is not judged: the attack has just begun.
const UNJUDGED: Duration = Duration::from_secs(1);
/// How often it is looked how many ranks are not in.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Pods of eight ranks.
const PODS: u32 = 2;

/// What honest clients and the module's metrics showed of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunReport {
    /// Honest requests.
    pub requests: usize,
    /// How they ended.
    pub outcomes: Outcomes,
    /// Those that did not get their whole answer. No rank is broken, so each could have been answered.
    pub lost: usize,
    /// Time to the first byte of those sent once the attack was under way, or as late in a run without.
    pub first_byte_ms: Ttft,
    /// How many ranks were out or on their way back, on average over looks.
    pub ranks_not_in: f64,
    /// Requests that the busiest rank answered, as a share of the honest ones.
    pub busiest_share: f64,
    /// Tokens of honest prompts that ranks found in their caches, as the answers tell.
    pub cached_share: f64,
    /// The same over all that ranks were asked, by their metrics.
    pub ranks_hit_rate: f64,
    /// Cached tokens that the module expected, of all answers that tell.
    pub predicted_cached_tokens: u64,
    /// What these answers told.
    pub delivered_cached_tokens: u64,
    /// Failures of ranks that the module counted; no rank has any.
    pub failures: BTreeMap<&'static str, u64>,
    /// What the module still counts when all is over.
    pub left_counted: BTreeMap<&'static str, u64>,
    /// What the attackers sent.
    pub sent: BTreeMap<String, Sent>,
}

/// Kinds of failures that the module counts.
const FAILURES: [&str; 5] = [
    "failures_connect",
    "failures_reset",
    "failures_server_error",
    "failures_no_first_byte",
    "caches_lost",
];

/// Runs it; without attacks it is the measure for a run with them.
///
/// # Errors
/// When something does not start, or does not say what it did.
pub async fn run(
    config: &StageConfig,
    requests: &[TraceRequest],
    attacks: &[Attack],
) -> Result<RunReport> {
    let config = StageConfig {
        whole_pods: Some(PODS),
        ..config.clone()
    };
    let stage = Stage::start(&config).await?;
    let ranks: Vec<SocketAddr> = stage.processes.iter().flat_map(|pod| pod.ranks()).collect();
    let count = u64::try_from(ranks.len())?;
    stage.envoy.wait_for_metric("ranks_reported", count).await?;
    let (start, sent_from) = (Instant::now(), SystemTime::now() + BEFORE + UNJUDGED);
    let model = stage.model().to_string();
    let progress = Arc::new(Progress::default());
    let load = load::send(stage.caller(), model, requests.to_vec(), progress);
    let load = tokio::spawn(load);
    sleep(BEFORE).await;
    let attackers = Attackers::start(
        attacks,
        stage.envoy.gateway(),
        stage.model(),
        requests,
        start,
    );
    let (calls, ranks_not_in) = watch(&stage, load).await?;
    let sent = attackers.stop().await;
    let left_counted = left_counted(&stage).await?;
    let mut report = RunReport {
        ranks_not_in,
        sent,
        left_counted,
        ranks_hit_rate: hit_rate::of_ranks(ranks.into_iter()).await?,
        ..of_calls(&calls, sent_from)
    };
    report.ask(&stage).await?;
    Ok(report)
}

/// Waits for the load, and looks now and then how many ranks are not in.
async fn watch(
    stage: &Stage,
    mut load: tokio::task::JoinHandle<Result<Vec<Call>>>,
) -> Result<(Vec<Call>, f64)> {
    let mut clock = interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut looks, mut not_in) = (0u32, 0);
    loop {
        tokio::select! {
            calls = &mut load => {
                return Ok((calls??, not_in as f64 / f64::from(looks.max(1))));
            }
            _ = clock.tick() => {
                looks += 1;
                for gauge in ["ranks_out", "ranks_coming_back"] {
                    not_in += stage.envoy.metric(gauge).await?;
                }
            }
        }
    }
}

fn of_calls(calls: &[Call], sent_from: SystemTime) -> RunReport {
    let is_complete = |call: &&Call| call.outcome == Outcome::Complete;
    let complete = || calls.iter().filter(is_complete);
    let judged = complete().filter(|call| call.sent >= sent_from);
    let first_bytes = judged.filter_map(|call| Some(call.first_byte?.as_secs_f64() * 1000.0));
    let (prompt, cached) = complete()
        .filter_map(|call| call.tokens)
        .fold((0, 0), |(prompt, cached), more| {
            (prompt + more.0, cached + more.1)
        });
    let mut by_rank: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for rank in calls.iter().filter_map(|call| call.rank) {
        *by_rank.entry(rank).or_default() += 1;
    }
    let busiest = by_rank.values().copied().max().unwrap_or(0);
    RunReport {
        requests: calls.len(),
        outcomes: calls.iter().map(|call| call.outcome).collect(),
        lost: calls.len() - complete().count(),
        first_byte_ms: Ttft::of(first_bytes.collect()),
        busiest_share: share(busiest as f64, calls.len() as f64),
        cached_share: share(cached as f64, prompt as f64),
        ..RunReport::default()
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl RunReport {
    /// Asks the module for its counters.
    async fn ask(&mut self, stage: &Stage) -> Result<()> {
        let metric = async |name: &str| {
            let value = stage.envoy.metric(name).await;
            value.with_context(|| format!("no {name}"))
        };
        self.predicted_cached_tokens = metric("predicted_cached_tokens").await?;
        self.delivered_cached_tokens = metric("delivered_cached_tokens").await?;
        for name in FAILURES {
            self.failures.insert(name, metric(name).await?);
        }
        Ok(())
    }

    /// What hostile clients sent in all.
    #[must_use]
    pub fn bad_inputs(&self) -> u64 {
        self.sent.values().map(|sent| sent.requests).sum()
    }
}
