//! Prints how much of the true prefix sharing of the traces the router's block hashes see, and what budgets cost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use host_tests::oracle::{
    DECIDE_AFTER_BYTES, FarApart, Figures, Placement, Request, Sample, TraceFigures, Way, compare,
    far_apart, ragged, read, sample,
};
use host_tests::{repository, trace};
use serde::Serialize;

/// The public traces, and where each is from.
const TRACES: [(&str, &str); 3] = [
    (
        "conversation_trace.jsonl",
        "https://github.com/kvcache-ai/Mooncake, FAST25-release/traces",
    ),
    (
        "synthetic_trace.jsonl",
        "https://github.com/kvcache-ai/Mooncake, FAST25-release/traces",
    ),
    (
        "weka_v6_global_b512_open.jsonl.zst",
        "https://github.com/callanjfox/kv-cache-tester, its sessions as lines of Mooncake's format",
    ),
];

/// What the router shall see of the exactly matched tokens.
const WANTED_SHARE: f64 = 0.98;

const LONG_TOKENS: usize = 1_000_000;
const DIFFERENT_TOKEN: usize = 900_000;

/// Compares the router's block hashes with the block numbers of traces.
#[derive(Parser)]
struct Arguments {
    /// Folder of the traces, from the top of the repository.
    #[arg(long, default_value = "../shared/traces")]
    traces: PathBuf,
    /// Most prompt tokens looked at of each trace, in millions; of a longer one a sample of whole sessions.
    #[arg(long, default_value_t = 3000)]
    million_tokens: u64,
    /// Where to write the figures, from the top of the repository.
    #[arg(long, default_value = "target/bench/prefix.json")]
    json: PathBuf,
}

#[derive(Serialize)]
struct Report {
    traces: Vec<TraceFigures>,
    million_tokens_apart_at_900000: Vec<FarApart>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let most_tokens = arguments.million_tokens.saturating_mul(1_000_000);
    let mut figures = Vec::new();
    for (name, requests) in traces(&repository::root().join(&arguments.traces))? {
        figures.push(measure(name, sample(requests, most_tokens)));
    }
    print_explanation();
    let long = far_apart(&Way::all(), LONG_TOKENS, DIFFERENT_TOKEN);
    print_long(&long);
    let report = Report {
        traces: figures,
        million_tokens_apart_at_900000: long,
    };
    write(&arguments.json, &report)
}

/// The traces that are there, or a generated one.
fn traces(folder: &Path) -> Result<Vec<(&'static str, Vec<Request>)>> {
    let mut traces = Vec::new();
    for (name, source) in TRACES {
        let path = folder.join(name);
        if path.exists() {
            traces.push((name, read(&path)?));
        } else {
            println!("{} is missing; it is from {source}", path.display());
        }
    }
    if traces.is_empty() {
        println!("taking a generated hour of the shape of the conversation trace instead");
        let requests = trace::generated(Duration::from_secs(3600), 1);
        traces.push(("generated", requests.iter().map(Request::from).collect()));
    }
    Ok(traces)
}

/// Both placements at once, each in a thread.
fn measure(name: &str, sample: Sample) -> TraceFigures {
    let start = Instant::now();
    let requests = &sample.requests;
    let (even, ragged): (Figures, Figures) = std::thread::scope(|scope| {
        let even = scope.spawn(|| compare(requests.iter().cloned()));
        let ragged = compare(requests.iter().map(ragged));
        (
            even.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            ragged,
        )
    });
    let figures = TraceFigures {
        trace: name.to_string(),
        sessions: sample.sessions,
        of_sessions: sample.of_sessions,
        even: Placement::from(even),
        ragged: Placement::from(ragged),
    };
    print!("\n{}", figures.table());
    print_verdicts(&figures);
    println!("took {:.0} s", start.elapsed().as_secs_f64());
    figures
}

/// Whether the router sees enough, of whole bodies and with its defaults, wherever prompts part.
fn print_verdicts(figures: &TraceFigures) {
    let rated = figures.even.ways.iter().zip(&figures.ragged.ways);
    for (way, (even, ragged)) in Way::all().into_iter().zip(rated) {
        if !matches!(way, Way::Whole | Way::DecidedAt(DECIDE_AFTER_BYTES)) {
            continue;
        }
        let share = even.of_exact.min(ragged.of_exact);
        let verdict = if share >= WANTED_SHARE {
            "reached"
        } else {
            "NOT REACHED"
        };
        println!(
            "{WANTED_SHARE} of exact, {}: {verdict} ({share:.4})",
            way.name()
        );
    }
}

fn print_explanation() {
    println!(
        "
exact: leading tokens that an earlier prompt had, by the trace's block numbers; one cache that forgets nothing.
even: each block of a trace is 512 tokens, so prompts part nearly where the router's blocks end, which flatters it.
ragged: each is 256 to 768 tokens by its number; as much is shared, and prompts part anywhere.
surplus: the router counts 4 tokens around each message; the trace does not. Not in \"of exact\"."
    );
}

fn print_long(long: &[FarApart]) {
    println!("\nTwo prompts of {LONG_TOKENS} tokens that differ in token {DIFFERENT_TOKEN} alone");
    println!(
        "{:<46}{:>12}{:>14}{:>9}",
        "", "told apart", "equal tokens", "blocks"
    );
    for seen in long {
        let told_apart = if seen.told_apart { "yes" } else { "NO" };
        println!(
            "{:<46}{told_apart:>12}{:>14}{:>9}",
            seen.way, seen.equal_tokens, seen.blocks
        );
    }
}

fn write(path: &Path, report: &Report) -> Result<()> {
    let full = repository::root().join(path);
    std::fs::create_dir_all(full.parent().unwrap_or(&full))?;
    std::fs::write(&full, serde_json::to_string_pretty(report)?)
        .with_context(|| format!("cannot write {}", full.display()))?;
    println!("\nalso in {}", path.display());
    Ok(())
}
