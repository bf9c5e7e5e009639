//! Measures in a real Envoy how its workers can tell each other events; prints rows of JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use host_tests::carrier::{Calls, Traffic, Workers};
use host_tests::distribution::{Distribution, median, rounded};
use host_tests::{process_usage, repository};
use serde_json::{Value, json};
use tokio::time::sleep;

/// The first is the baseline.
const CARRIERS: [&str; 4] = ["nothing", "mailboxes", "ring", "keys"];
/// A pick's event: a request without a prompt, a usual prompt of 190 blocks, the longest that fits a segment of 8 KiB.
const SIZES: [usize; 3] = [64, 1536, 8000];
/// Longer than a worker usually takes to look for news, so that its CPU time is in the turn.
const SETTLE: Duration = Duration::from_millis(50);
/// What is sent to a dead worker: bytes, events.
const FLOOD: (usize, u64) = (1536, 20_000);
/// Ticks do not matter to a dead worker.
const RARE_TICK_MS: u32 = 100;
const CALL_ROUNDS: usize = 31;

#[derive(Parser)]
#[command(about = "What it costs the workers of one Envoy to tell each other events")]
struct Arguments {
    /// The module carrier-cost.
    #[arg(long)]
    module: PathBuf,
    /// Envoy versions, as fetched by scripts/setup-envoy.
    #[arg(long, value_delimiter = ',', default_values = repository::ENVOY_VERSIONS)]
    envoy: Vec<String>,
    /// Worker threads.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4])]
    workers: Vec<u32>,
    /// Requests a second that come to all workers together.
    #[arg(long, value_delimiter = ',', default_values_t = [500.0])]
    rates: Vec<f64>,
    /// Milliseconds between the ticks at which workers look for news.
    #[arg(long, default_value_t = 4)]
    tick_ms: u32,
    /// Milliseconds that each carrier runs in each round.
    #[arg(long, default_value_t = 400)]
    turn_ms: u64,
    /// Rounds, in each of which every carrier has its turn.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
}

/// What was measured of one carrier over the rounds.
#[derive(Debug, Default)]
struct Turns {
    total_us: Vec<f64>,
    delays_us: Vec<f64>,
    looks_ns: Vec<f64>,
    ticks_us: Vec<f64>,
    lost: u64,
}

/// How requests come in one turn.
#[derive(Clone, Copy, Debug)]
struct Pace {
    pick_bytes: usize,
    per_second: f64,
    length: Duration,
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for envoy in &arguments.envoy {
        for &workers in &arguments.workers {
            let row = |row: Value| print_row(row, envoy, workers);
            let mut all =
                Workers::start(envoy, workers, &arguments.module, arguments.tick_ms).await?;
            for bytes in SIZES {
                calls(&mut all, bytes, row).await?;
            }
            for bytes in SIZES {
                for &rate in &arguments.rates {
                    requests(&mut all, &arguments, bytes, rate, row).await?;
                }
            }
        }
        for carrier in &CARRIERS[1..] {
            let row = dead_worker(envoy, &arguments.module, carrier).await?;
            print_row(row, envoy, 2);
        }
    }
    Ok(())
}

fn print_row(mut row: Value, envoy: &str, workers: u32) {
    row["envoy"] = json!(envoy);
    row["workers"] = json!(workers);
    println!("{row}");
}

/// Nanoseconds of single calls, medians over rounds on the first worker.
async fn calls(all: &mut Workers, bytes: usize, row: impl Fn(Value)) -> Result<()> {
    let mut rounds = [const { Vec::new() }; CARRIERS.len()];
    for _ in 0..CALL_ROUNDS {
        for (carrier, rounds) in CARRIERS.iter().zip(&mut rounds).skip(1) {
            let path = format!("/cost?carrier={carrier}&bytes={bytes}");
            rounds.push(all.ask::<Calls>(0, &path).await?);
            // The others empty their mailboxes.
            sleep(Duration::from_millis(2)).await;
        }
    }
    for (carrier, rounds) in CARRIERS.iter().zip(&rounds).skip(1) {
        let middle = |part: fn(&Calls) -> f64| median(rounds.iter().map(part).collect());
        row(json!({
            "part": "calls", "carrier": carrier, "bytes": bytes, "send_ns": middle(|it| it.send),
            "look_ns": middle(|it| it.look), "receive_ns": middle(|it| it.receive),
            "receive_of_many_ns": middle(|it| it.receive_of_many),
        }));
    }
    Ok(())
}

/// CPU time of all of Envoy for a request, and what of it is more than when workers tell nothing: medians over rounds
/// in which each carrier had its turn.
async fn requests(
    all: &mut Workers,
    arguments: &Arguments,
    pick_bytes: usize,
    per_second: f64,
    row: impl Fn(Value),
) -> Result<()> {
    let mut turns = CARRIERS.map(|_| Turns::default());
    for round in 0..arguments.rounds {
        let pace = Pace {
            pick_bytes,
            per_second,
            length: Duration::from_millis(arguments.turn_ms),
            seed: round.into(),
        };
        // Another one begins each round: what comes after a pause is dearer.
        for place in (0..CARRIERS.len())
            .cycle()
            .skip(usize::try_from(round)?)
            .take(CARRIERS.len())
        {
            let us = turn(all, CARRIERS[place], pace, &mut turns[place]).await?;
            turns[place].total_us.push(us);
        }
    }
    let baseline_us = turns[0].total_us.clone();
    for (carrier, turns) in CARRIERS.iter().zip(turns) {
        let pairs = turns.total_us.iter().zip(&baseline_us);
        let added_us = median(pairs.map(|(us, baseline)| us - baseline).collect());
        row(json!({
            "part": "requests", "carrier": carrier, "bytes": pick_bytes, "requests_per_s": per_second,
            "us_per_request": rounded(median(turns.total_us), 1), "added_us": rounded(added_us, 1),
            "lost": turns.lost, "delay_us": Distribution::of(turns.delays_us),
            "look_before_pick_ns": Distribution::of(turns.looks_ns), "tick_us": Distribution::of(turns.ticks_us),
        }));
    }
    Ok(())
}

/// Lets requests come for a while; gives microseconds of CPU time for each.
async fn turn(all: &mut Workers, carrier: &str, pace: Pace, turns: &mut Turns) -> Result<f64> {
    let listen = format!("/listen?carrier={carrier}&bytes={}", pace.pick_bytes);
    all.ask_all::<()>(&listen).await?;
    let process = all.envoy.process_id().context("Envoy has ended")?;
    let before = process_usage::cpu_time(process)?;
    let requests = all.drive(pace.per_second, pace.length, pace.seed).await?;
    sleep(SETTLE).await;
    let spent = process_usage::cpu_time(process)? - before;
    let traffic: Vec<Traffic> = all.ask_all("/figures").await?;
    if carrier != CARRIERS[0] {
        ensure_all_came(&traffic, carrier)?;
    }
    for one in traffic {
        turns.lost += one.lost;
        turns.delays_us.extend(one.delays_us);
        turns.looks_ns.extend(one.looks_ns);
        turns.ticks_us.extend(one.ticks_us);
    }
    Ok(spent.as_secs_f64() * 1e6 / requests)
}

fn ensure_all_came(traffic: &[Traffic], carrier: &str) -> Result<()> {
    let sent: u64 = traffic.iter().map(|it| it.sent).sum();
    for one in traffic {
        let (came, due) = (one.received + one.lost, sent - one.sent);
        ensure!(
            came == due,
            "{carrier}: {came} of {due} events came to a worker"
        );
    }
    Ok(())
}

/// How much memory Envoy takes when events are sent to a worker whose VM has ended.
async fn dead_worker(envoy: &str, module: &Path, carrier: &str) -> Result<Value> {
    let mut all = Workers::start(envoy, 2, module, RARE_TICK_MS).await?;
    let process = all.envoy.process_id().context("Envoy has ended")?;
    let (bytes, events) = FLOOD;
    let flood = |events: u64| format!("/flood?carrier={carrier}&bytes={bytes}&events={events}");
    all.trap(1).await?;
    // Once around the ring, so that what is allocated once is there before the first look.
    all.ask::<()>(0, &flood(events / 10)).await?;
    let before = process_usage::resident_bytes(process)?;
    all.ask::<()>(0, &flood(events)).await?;
    let grown = process_usage::resident_bytes(process)?.saturating_sub(before);
    Ok(json!({
        "part": "dead_worker", "carrier": carrier, "bytes": bytes, "events": events, "grown_bytes": grown,
    }))
}
