//! Runs seeds of the simulation, or replays one.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use vm_simulation::{Detail, Figures, Options, run};

/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 1_000;

/// Several VMs of the module in a fake Envoy that misbehaves.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// At most so many requests in a run. A replay needs the same.
    #[arg(long, default_value_t = Options::default().most_requests)]
    requests: u64,
    /// Runs at once.
    #[arg(long)]
    jobs: Option<usize>,
    /// Let no client be hostile.
    #[arg(long)]
    honest: bool,
    /// Go on after a seed that fails, and count those that break each invariant.
    #[arg(long)]
    count: bool,
    /// Leave out invariants whose name begins so: what else breaks beside a known fault.
    #[arg(long)]
    except: Vec<String>,
    /// Print events, callbacks and the module's log; twice for host calls too.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Arguments {
    fn options(&self) -> Options {
        Options {
            most_requests: self.requests,
            detail: match self.verbose {
                0 => Detail::Silent,
                1 => Detail::Callbacks,
                _ => Detail::HostCalls,
            },
            may_be_hostile: !self.honest,
            except: self.except.clone().leak(),
            ..Options::default()
        }
    }
}

/// What the jobs share.
struct Progress {
    next: AtomicU64,
    end: u64,
    start: Instant,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    figures: Figures,
    runs: u64,
    failure: Option<(u64, String)>,
    /// By invariant, how many seeds break it and the first of them.
    broken: BTreeMap<String, (u64, u64)>,
}

impl Found {
    fn note(&mut self, seed: u64, violation: String) {
        let invariant = violation.split(':').next().unwrap_or_default();
        let (seeds, first) = self
            .broken
            .entry(invariant.to_string())
            .or_insert((0, seed));
        *seeds += 1;
        *first = seed.min(*first);
        let is_first = self.failure.as_ref().is_none_or(|(other, _)| seed < *other);
        if is_first {
            self.failure = Some((seed, violation));
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (from, count) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.from, arguments.seeds),
    };
    let progress = Progress {
        next: AtomicU64::new(from),
        end: from.saturating_add(count),
        start: Instant::now(),
        found: Mutex::default(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.unwrap_or(cores).max(1);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    std::thread::scope(|scope| {
        for job in 0..jobs {
            let core = cores.get(job).copied();
            let (progress, options) = (&progress, arguments.options());
            let goes_on = arguments.count;
            scope.spawn(move || {
                // VMs inherit it. Without a core of its own a job is slower, no more.
                core.map(core_affinity::set_for_current);
                work(progress, options, goes_on);
            });
        }
    });
    report(&progress, &arguments)
}

/// Runs seeds until all are run or, unless it goes on, one fails.
fn work(progress: &Progress, options: Options, goes_on: bool) {
    loop {
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        if seed >= progress.end {
            return;
        }
        let outcome = run(seed, options);
        let mut found = progress.found.lock().expect("no job panics");
        found.figures.merge(&outcome.figures);
        found.runs += 1;
        if found.runs.is_multiple_of(PROGRESS_EVERY) {
            say(found.runs, progress.start.elapsed());
        }
        if let Some(violation) = outcome.violations.into_iter().next() {
            found.note(seed, violation);
            if !goes_on {
                progress.next.store(progress.end, Ordering::Relaxed);
            }
        }
    }
}

fn say(runs: u64, took: Duration) {
    eprintln!("vm-simulation: {runs} seeds in {:.0} s", took.as_secs_f64());
}

fn report(progress: &Progress, arguments: &Arguments) -> ExitCode {
    let found = progress.found.lock().expect("no job panics");
    say(found.runs, progress.start.elapsed());
    print!("{}", found.figures);
    for (invariant, (seeds, first)) in &found.broken {
        println!("{seeds} seeds break {invariant:?}, the first is {first}");
    }
    match &found.failure {
        None => ExitCode::SUCCESS,
        Some((seed, violation)) => {
            println!("seed {seed} failed: {violation}");
            println!(
                "replay: cargo run --profile host -p vm-simulation -- --requests {} --seed {seed} --verbose",
                arguments.requests
            );
            ExitCode::FAILURE
        }
    }
}
