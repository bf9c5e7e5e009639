//! Breaks ranks and gateway under traffic, case by case, and counts what became of every request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use host_tests::chaos::case::Case;
use host_tests::chaos::hostile::attack::Attack;
use host_tests::chaos::hostile::report::{HostileSummary, Pair};
use host_tests::chaos::hostile::run;
use host_tests::chaos::layout::{Disaggregation, RolesFrom};
use host_tests::chaos::load;
use host_tests::chaos::report::{CaseReport, ChaosSummary};
use host_tests::chaos::stage::{Stage, StageConfig};
use host_tests::option_value::option_value;
use host_tests::replay::Progress;
use host_tests::repository;
use host_tests::sim::SidecarVersion;
use serde::Serialize;
use tokio::time::sleep;

/// From the top of the repository.
const SUMMARY: &str = "target/chaos/summary.json";
/// The same where prefill and decode are apart; its name ends with the version of the sidecars.
const SUMMARY_APART: &str = "target/chaos/disaggregated";
/// The same beside hostile clients.
const SUMMARY_HOSTILE: &str = "target/chaos/hostile";
/// Traffic before something goes wrong: long enough that ranks hold prefixes and streams are under way.
const BEFORE: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(
    about = "Ranks that die, hang and fail, and a gateway that is reconfigured or traps, under traffic"
)]
struct Arguments {
    /// Cases to run; all unless given.
    #[arg(long = "case", value_enum)]
    cases: Vec<Case>,
    /// Seconds of traffic in each case.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Requests a second.
    #[arg(long, default_value_t = 60.0)]
    rate: f64,
    /// How many times as slow as the measured GPU the ranks are.
    #[arg(long, default_value_t = 4.0)]
    slowness: f64,
    /// Envoy worker threads.
    #[arg(long, default_value_t = 4)]
    workers: u32,
    /// Envoy version, as fetched by scripts/setup-envoy.
    #[arg(long, default_value = repository::ENVOY_VERSIONS[0])]
    envoy: String,
    /// The picker finds its ranks in the gateway's own clusters, instead of in a list.
    #[arg(long)]
    discover: bool,
    /// Prefill and decode apart: pods of ranks that prefill, and pods of ranks that decode behind sidecars. Cases hit ranks of
    /// both roles. The run also fails when a request went straight to a rank that only prefills. The picker finds its ranks in
    /// the gateway's own clusters, where they get their roles.
    #[arg(long)]
    disaggregated: bool,
    /// The sidecar before each decode rank: v0.8 has the decode rank prefill when a prefill leg fails, v0.9 passes the error
    /// on.
    #[arg(long, value_enum, default_value_t = SidecarVersion::V0_9, requires = "disaggregated")]
    sidecar: SidecarVersion,
    /// Instead of cases: honest traffic before two pods of eight ranks, without and beside hostile clients, in turns. The run
    /// fails when honest requests are lost, ranks that answer are out or blamed, counts remain, what must be refused reaches a
    /// rank, or the 99th percentile of the time to the first byte is more than 1.5 times as long, by the median of all pairs.
    #[arg(long, conflicts_with_all = ["disaggregated", "cases"])]
    hostile: bool,
    /// What hostile clients do; everything unless given.
    #[arg(long = "attack", value_enum, requires = "hostile")]
    attacks: Vec<Attack>,
    /// Pairs of a run without and a run beside hostile clients.
    #[arg(long, default_value_t = 3, requires = "hostile")]
    pairs: u32,
    /// Judges no times: for machines that are busy with something else.
    #[arg(long, requires = "hostile")]
    untimed: bool,
    /// How the gateway learns that a rank only prefills. With nothing but the names of workloads it is in the pool, where Envoy
    /// itself may pick it when the module does not.
    #[arg(long, value_enum, default_value_t, requires = "disaggregated")]
    roles: RolesFrom,
    /// A module built with the feature `trap`; without one the case `trap` is left out.
    #[arg(long)]
    trap_module: Option<PathBuf>,
    /// Where to write the figures; target/chaos/summary.json unless given, or with --disaggregated
    /// target/chaos/disaggregated-v0.9.json or -v0.8.json, with --hostile target/chaos/hostile-VERSION.json with the version of Envoy.
    #[arg(long)]
    summary: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::select! {
        done = run_all(&arguments) => done,
        _ = tokio::signal::ctrl_c() => { println!("\nstopped"); Ok(()) }
    }
}

async fn run_all(arguments: &Arguments) -> Result<()> {
    match arguments.hostile {
        true => run_hostile(arguments).await,
        false => run_cases(arguments).await,
    }
}

async fn run_hostile(arguments: &Arguments) -> Result<()> {
    let config = stage_config(arguments);
    let requests = load::requests(arguments.seconds, arguments.rate);
    let attacks = match arguments.attacks.as_slice() {
        [] => Attack::all(),
        chosen => chosen,
    };
    let mut pairs = Vec::new();
    for number in 1..=arguments.pairs {
        println!("pair {number} of {}", arguments.pairs);
        pairs.push(Pair {
            without: run::run(&config, &requests, &[]).await?,
            beside: run::run(&config, &requests, attacks).await?,
        });
    }
    let summary = HostileSummary {
        envoy: arguments.envoy.clone(),
        pairs,
    };
    print!("\n{}", summary.table());
    write_summary(&summary_path(arguments), &summary)?;
    let faults = summary.faults(!arguments.untimed);
    ensure!(
        faults.is_empty(),
        "not as it must be:\n{}",
        faults.join("\n")
    );
    Ok(())
}

async fn run_cases(arguments: &Arguments) -> Result<()> {
    let mut summary = ChaosSummary {
        envoy: arguments.envoy.clone(),
        sidecar: arguments
            .disaggregated
            .then(|| option_value(arguments.sidecar)),
        cases: Vec::new(),
    };
    for case in cases(arguments) {
        let report = run_case(arguments, case)
            .await
            .with_context(|| format!("in case {}", case.name()))?;
        println!("  {}: {}", report.case, report.outcomes);
        summary.cases.push(report);
    }
    print!("\n{}", summary.table());
    write_summary(&summary_path(arguments), &summary)?;
    let faults = summary.cases.iter().flat_map(|report| {
        let faults = report.faults().into_iter();
        faults.map(|fault| format!("{}: {fault}", report.case))
    });
    let faults: Vec<String> = faults.collect();
    ensure!(
        faults.is_empty(),
        "not as it must be:\n{}",
        faults.join("\n")
    );
    Ok(())
}

fn summary_path(arguments: &Arguments) -> PathBuf {
    match (&arguments.summary, arguments.disaggregated) {
        (Some(path), _) => path.clone(),
        _ if arguments.hostile => format!("{SUMMARY_HOSTILE}-{}.json", arguments.envoy).into(),
        (None, false) => PathBuf::from(SUMMARY),
        (None, true) => format!("{SUMMARY_APART}-{}.json", option_value(arguments.sidecar)).into(),
    }
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let can_run = |case: &Case| *case != Case::Trap || arguments.trap_module.is_some();
    match arguments.cases.as_slice() {
        [] => Case::all(arguments.disaggregated)
            .into_iter()
            .filter(can_run)
            .collect(),
        chosen => chosen.to_vec(),
    }
}

/// On a fresh Envoy and fresh ranks.
async fn run_case(arguments: &Arguments, case: Case) -> Result<CaseReport> {
    println!("{}: {} s of traffic", case.name(), arguments.seconds);
    let config = case.stage(&stage_config(arguments), arguments.trap_module.as_deref())?;
    let mut stage = Stage::start(&config).await?;
    let requests = load::requests(arguments.seconds, arguments.rate);
    let (count, progress) = (requests.len(), Arc::new(Progress::default()));
    let load = load::send(
        stage.caller(),
        stage.model().to_string(),
        requests,
        progress.clone(),
    );
    let load = tokio::spawn(load);
    let report = tokio::spawn(report_progress(progress, count));
    sleep(BEFORE).await;
    let mut blow = case.strike(&mut stage).await?;
    let mut calls = load.await??;
    report.abort();
    calls.append(&mut blow.calls);
    CaseReport::of(case, &mut stage, &calls, &blow).await
}

fn stage_config(arguments: &Arguments) -> StageConfig {
    StageConfig {
        version: arguments.envoy.clone(),
        workers: arguments.workers,
        slowness: arguments.slowness,
        discovers: arguments.discover,
        apart: arguments.disaggregated.then_some(Disaggregation {
            sidecar: arguments.sidecar,
            roles: arguments.roles,
        }),
        whole_pods: None,
        module: None,
        picker: Vec::new(),
    }
}

async fn report_progress(progress: Arc<Progress>, requests: usize) {
    loop {
        sleep(Duration::from_secs(5)).await;
        let (sent, done) = (
            progress.sent.load(Ordering::Relaxed),
            progress.done.load(Ordering::Relaxed),
        );
        println!("  {sent} of {requests} sent, {done} ended");
    }
}

fn write_summary(path: &Path, summary: &impl Serialize) -> Result<()> {
    let full = repository::root().join(path);
    std::fs::create_dir_all(full.parent().unwrap_or(&full))?;
    std::fs::write(&full, serde_json::to_string_pretty(summary)?)
        .with_context(|| format!("cannot write {}", full.display()))?;
    println!("\nalso in {}", path.display());
    Ok(())
}
