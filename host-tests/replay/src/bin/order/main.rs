//! The same slices of traces in a real Envoy before simulated ranks, and in the replay: do policies have the same order?
//!
//! Both places have the same requests at the same times and ranks of the same speed, cache and chunks. The engine is as much
//! faster or slower than its profile as lets a slice take a few seconds; what the gateway does takes what it takes. Left
//! different: ranks match in blocks of 16 tokens and take room chunk by chunk, not by 512 and at once; the module hashes
//! blocks of 256 bytes, not of 2,048; wide-EP ranks do not wait for each other in either.

mod live;
mod replayed;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Parser;
use host_tests::repository;
use host_tests::sim::PodsConfig;
use replay::order::{CRITERIA, Measured, POLICIES, Slice, compressed, markdown, verdict};
use replay::profile::{self, Profile};
use replay::public_traces;
use replay::workload::{Trace, read};

use crate::live::{LiveRun, Site, calls};
use crate::replayed::Ranks;

/// The load at which a slice takes the seconds that were asked for.
const USUAL_LOAD: f64 = 0.8;
/// With a client or a machine that is slower, figures are not of the ranks.
const LATE: Duration = Duration::from_millis(50);
const BUSY: f64 = 0.6;

#[derive(Parser)]
#[command(
    about = "Compares the order of policies in a real Envoy with that in the replay; fails where it differs"
)]
struct Arguments {
    /// A trace in Mooncake's format; may be repeated. Default: the public ones in ../shared/traces, or a generated one
    #[arg(long)]
    trace: Vec<PathBuf>,
    /// Engines: dense, wide-ep (without its lockstep)
    #[arg(long, value_delimiter = ',', default_value = "dense")]
    engines: Vec<String>,
    /// Loads, as shares of saturation
    #[arg(long, value_delimiter = ',', default_value = "0.7,0.9")]
    loads: Vec<f64>,
    /// Each takes another window of the trace; the medians count
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Requests of a window, at most
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// Tokens of its prompts, at most
    #[arg(long, default_value_t = 30_000_000)]
    prompt_tokens: u64,
    /// Longer answers are cut to so many tokens, in both places
    #[arg(long, default_value_t = 32)]
    answer_tokens: u64,
    /// Seconds that a window takes in Envoy
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Pods of eight ranks
    #[arg(long, default_value_t = 2)]
    pods: u32,
    /// Envoy worker threads
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Envoy version, as fetched by scripts/setup-envoy
    #[arg(long, default_value = repository::ENVOY_VERSIONS[0])]
    envoy: String,
    /// Only load 0.9 and two windows
    #[arg(long)]
    quick: bool,
}

/// All runs of one policy with one trace, engine and load, by seed.
#[derive(Default)]
struct Runs {
    live: Vec<Measured>,
    replayed: Vec<Measured>,
    as_picked: Vec<Measured>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.loads = vec![0.9];
        arguments.seeds.truncate(2);
    }
    let mut others = Vec::new();
    for trace in traces(&arguments)? {
        for engine in &arguments.engines {
            others.extend(compare(&arguments, &trace, engine).await?);
        }
    }
    if others.is_empty() {
        println!("same order");
        return Ok(());
    }
    println!("other order: {}", others.join("; "));
    std::process::exit(1)
}

fn traces(arguments: &Arguments) -> Result<Vec<Trace>> {
    match arguments.trace.as_slice() {
        [] => public_traces::read_all(),
        paths => paths.iter().map(|path| read(path)).collect(),
    }
}

/// Prints a table for each load; gives where orders differ.
async fn compare(arguments: &Arguments, trace: &Trace, engine: &str) -> Result<Vec<String>> {
    let named = profile::named(engine).with_context(|| format!("no engine {engine:?}"))?;
    let named = named.free_running();
    let slice = slice(arguments, trace, &named, 1);
    let (ranks, seconds) = (ranks(arguments), arguments.seconds);
    let profile = compressed(named, &slice, ranks, USUAL_LOAD, seconds)?;
    let speed = named.costs.step_ms / profile.costs.step_ms;
    let mut others = Vec::new();
    for load in &arguments.loads {
        let title = format!("{}, {}, load {load}", trace.name, profile.name);
        println!(
            "\n{title}: {} requests, engine {speed:.2} times as fast\n",
            slice.len()
        );
        let runs = at_load(arguments, trace, profile, *load).await?;
        let of = |runs: fn(&Runs) -> &[Measured]| move |one: &Runs| Measured::medians(runs(one));
        let live: Vec<Measured> = runs.iter().map(of(|one| &one.live)).collect();
        let replayed: Vec<Measured> = runs.iter().map(of(|one| &one.replayed)).collect();
        let as_picked: Vec<Measured> = runs.iter().map(of(|one| &one.as_picked)).collect();
        println!("{}", markdown(&live, &replayed, &as_picked));
        let lost = CRITERIA
            .iter()
            .filter(|by| !verdict(&live, &replayed, by).is_same());
        others.extend(lost.map(|by| format!("{title}, by {}", by.name)));
    }
    Ok(others)
}

fn slice(arguments: &Arguments, trace: &Trace, profile: &Profile, seed: u64) -> Slice {
    let (requests, tokens) = (arguments.requests, arguments.prompt_tokens);
    Slice::new(
        trace,
        profile,
        seed,
        requests,
        tokens,
        arguments.answer_tokens,
    )
}

fn ranks(arguments: &Arguments) -> usize {
    arguments.pods as usize * usize::from(PodsConfig::default().ranks_per_pod)
}

/// The runs of each policy; policies take turns in Envoy.
async fn at_load(
    arguments: &Arguments,
    trace: &Trace,
    profile: Profile,
    load: f64,
) -> Result<[Runs; POLICIES.len()]> {
    let mut runs = POLICIES.map(|_| Runs::default());
    let model = PodsConfig::default().model;
    let (site, ranks) = (site(arguments), simulated(arguments, profile));
    for seed in &arguments.seeds {
        let slice = slice(arguments, trace, &profile, *seed);
        let per_second = slice.saturation(profile, ranks.count)? * load;
        let requests = slice.at(per_second);
        let bodies: Vec<Bytes> = slice.bodies(&model).into_iter().map(Bytes::from).collect();
        let calls = calls(&bodies, requests.iter().map(|request| request.at_ms));
        for (policy, runs) in POLICIES.iter().zip(&mut runs) {
            let live = site.run(policy, &profile, &calls).await?;
            report(policy, *seed, per_second, &live);
            runs.replayed.push(ranks.run(policy, &requests, *seed)?);
            runs.as_picked.push(ranks.run_picks(live.picks, &requests)?);
            runs.live.push(live.measured);
        }
    }
    Ok(runs)
}

fn site(arguments: &Arguments) -> Site {
    Site {
        envoy: arguments.envoy.clone(),
        workers: arguments.workers,
        pods: arguments.pods,
        ranks_per_pod: PodsConfig::default().ranks_per_pod,
    }
}

fn simulated(arguments: &Arguments, profile: Profile) -> Ranks {
    Ranks {
        profile,
        count: ranks(arguments),
        per_pod: PodsConfig::default().ranks_per_pod.into(),
        workers: arguments.workers as usize,
    }
}

fn report(policy: &str, seed: u64, per_second: f64, live: &LiveRun) {
    let is_doubtful = live.worst_lag > LATE || live.cpu_share > BUSY;
    eprintln!(
        "  seed {seed}, {policy}: {per_second:.0} requests a second, mean {:.0} ms, client late by {} ms at most, {:.0} % of \
         all CPUs busy{}",
        live.measured.ttft_ms.mean,
        live.worst_lag.as_millis(),
        live.cpu_share * 100.0,
        if is_doubtful {
            ": the machine is too slow for this"
        } else {
            ""
        }
    );
}
