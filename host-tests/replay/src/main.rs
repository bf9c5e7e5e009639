//! Replays traces through routing policies and writes a table and charts.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use host_tests::repository;
use replay::matrix::{Matrix, Site};
use replay::profile::{self, Profile};
use replay::table::{Row, markdown};
use replay::unknowns::Unknowns;
use replay::workload::{self, Trace, read};
use replay::{charts, closed_loop, policies, public_traces, readme, tried};

/// Before the name of a trace that is made.
const MADE: &str = "made:";
/// Replays traces through routing policies over simulated ranks, writes table.md, table.json and charts.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// A trace in Mooncake's format, plain or .zst; may be repeated. Default: the public ones in ../shared/traces. made:NAME is
    /// one that is made: shared, documents, alone, bursts, sessions, reasoning, mixed; made:all is all of them
    #[arg(long)]
    trace: Vec<PathBuf>,
    /// Policies, separated by commas; default: all. ours:missWeight=5+inFlightCostMs=3 is the deployed decision with other
    /// settings
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// Loads, as shares of saturation
    #[arg(long, value_delimiter = ',', default_value = "0.5,0.7,0.9,1.05")]
    loads: Vec<f64>,
    /// Engines: dense, wide-ep
    #[arg(long, value_delimiter = ',', default_value = "dense,wide-ep")]
    engines: Vec<String>,
    /// Seeds; each takes another window of a long trace
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Ranks
    #[arg(long, default_value_t = 16)]
    ranks: usize,
    /// Ranks that share a pod
    #[arg(long, default_value_t = 8)]
    ranks_per_pod: usize,
    /// Gateways, each with a policy of its own; requests are dealt to them at random
    #[arg(long, default_value_t = 1)]
    gateways: usize,
    /// The gateways are of one mind: all know at once what each knows
    #[arg(long)]
    gateways_share: bool,
    /// Requests of a run: fewer than the shortest public trace has, so that seeds differ
    #[arg(long, default_value_t = 3000)]
    requests: usize,
    /// Milliseconds from a report being taken to its arrival
    #[arg(long, default_value_t = 5.0)]
    report_delay_ms: f64,
    /// Milliseconds between reports; default: what each policy ships with
    #[arg(long)]
    report_interval_ms: Option<f64>,
    /// Ranks report no capacity, and routers believe in so many times the true one
    #[arg(long)]
    believed_capacity: Option<f64>,
    /// How often a rank, any of them, loses its cache without a sign
    #[arg(long, default_value_t = 0.0)]
    cache_resets_per_hour: f64,
    /// The share of the requests that comes through one more router with a mind of its own
    #[arg(long, default_value_t = 0.0)]
    foreign_share: f64,
    /// Only compares the deployed decision with and without what answers tell, and with a perfect index, where routers are
    /// not told the truth; at loads 0.7 and 0.9
    #[arg(long = "loop")]
    is_loop: bool,
    /// Run the ideas of TRIED.md against the deployed decision, over the traces and over those that are made, instead
    #[arg(long)]
    tried: bool,
    /// Ranks of a wide-ep group do not step together
    #[arg(long)]
    no_lockstep: bool,
    /// Prefill and decode are apart: the ranks only prefill
    #[arg(long)]
    prefill_only: bool,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where the table and the charts go; default: target/replay
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write chart and table into the README, too
    #[arg(long)]
    readme: bool,
}

impl Options {
    fn matrix(&self) -> Result<Matrix> {
        let names = policies::names();
        let all = || names.iter().map(|name| (*name).to_string()).collect();
        let engines = self.engines.iter().map(|name| self.engine(name));
        if self.ranks == 0 || self.gateways == 0 || self.requests == 0 {
            bail!("ranks, gateways and requests are 1 or more");
        }
        if self.loads.iter().any(|load| load.is_nan() || *load <= 0.0) {
            bail!("loads are above 0");
        }
        Ok(Matrix {
            traces: self.traces()?,
            engines: engines.collect::<Result<Vec<_>>>()?,
            loads: self.loads.clone(),
            policies: if self.policies.is_empty() {
                all()
            } else {
                self.policies.clone()
            },
            seeds: self.seeds.clone(),
            requests: self.requests,
            site: self.site(),
        })
    }

    fn site(&self) -> Site {
        Site {
            ranks: self.ranks,
            ranks_per_pod: self.ranks_per_pod,
            gateways: self.gateways,
            gateways_share: self.gateways_share,
            report_delay_ms: self.report_delay_ms,
            report_interval_ms: self.report_interval_ms.map(|ms| ms.max(1.0)),
            unknowns: Unknowns {
                believed_capacity: self.believed_capacity,
                cache_resets_per_hour: self.cache_resets_per_hour,
                foreign_share: self.foreign_share,
            },
        }
    }

    fn engine(&self, name: &str) -> Result<Profile> {
        let profile = profile::named(name)
            .with_context(|| format!("no engine {name:?}; there are dense and wide-ep"))?;
        let profile = match self.no_lockstep {
            true => profile.free_running(),
            false => profile,
        };
        Ok(match self.prefill_only {
            true => profile.prefill_only(),
            false => profile,
        })
    }

    fn traces(&self) -> Result<Vec<Trace>> {
        if !self.trace.is_empty() {
            let traces = self.trace.iter().map(|path| named_traces(path));
            return Ok(traces.collect::<Result<Vec<_>>>()?.concat());
        }
        public_traces::read_all()
    }
}

/// The trace in a file, or those that are made.
fn named_traces(path: &Path) -> Result<Vec<Trace>> {
    let Some(shape) = path.to_str().and_then(|path| path.strip_prefix(MADE)) else {
        return Ok(vec![read(path)?]);
    };
    let all = workload::SHAPES.iter().map(|(name, _)| *name);
    let names: Vec<&str> = match shape {
        "all" => all.collect(),
        _ => vec![shape],
    };
    let traces = names.into_iter().map(|name| {
        workload::made(name).with_context(|| format!("no trace is made by the name {name:?}"))
    });
    traces.collect()
}

fn write(rows: &[Row], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(
        folder.join("table.json"),
        serde_json::to_string_pretty(rows)?,
    )?;
    std::fs::write(folder.join("table.md"), markdown(rows))?;
    charts::summary(rows, &folder.join("summary.svg"))?;
    for row in rows {
        let file = format!("ttft-{}-{}.svg", row.trace, row.engine);
        let is_first = |other: &&Row| other.trace == row.trace && other.engine == row.engine;
        if rows.iter().find(is_first) == Some(row) {
            charts::loads(rows, &row.trace, &row.engine, &folder.join(file))?;
        }
    }
    Ok(())
}

/// Prints how far it is, at most once in two seconds, with the time that is left at this speed.
fn progress(began: Instant) -> impl Fn(&str, usize, usize) {
    let printed = std::cell::Cell::new(began);
    move |what, done, of| {
        if done < of && printed.get().elapsed() < Duration::from_secs(2) {
            return;
        }
        printed.set(Instant::now());
        eprintln!(
            "{:5.0} s  {what} {done}/{of}",
            began.elapsed().as_secs_f64()
        );
    }
}

fn compare_ideas(options: &Options, mut matrix: Matrix) -> Result<()> {
    matrix.policies = tried::policies();
    let public = matrix.run(options.threads, progress(Instant::now()))?;
    matrix.traces = named_traces(Path::new("made:all"))?;
    let made = matrix.run(options.threads, progress(Instant::now()))?;
    println!("{}", tried::markdown(&public, &made));
    Ok(())
}

fn compare_loop(options: &Options, mut matrix: Matrix) -> Result<()> {
    // At these loads it matters where prompts are cached.
    matrix.loads = vec![0.7, 0.9];
    let rows = closed_loop::run(&matrix, options.threads, progress(Instant::now()))?;
    println!("{}", closed_loop::markdown(&rows));
    Ok(())
}

fn main() -> Result<()> {
    let options = Options::parse();
    let matrix = options.matrix()?;
    if options.tried {
        return compare_ideas(&options, matrix);
    }
    if options.is_loop {
        return compare_loop(&options, matrix);
    }
    let rows = matrix.run(options.threads, progress(Instant::now()))?;
    let default = || repository::root().join("target/replay");
    let folder = options.out.clone().unwrap_or_else(default);
    write(&rows, &folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    if options.readme {
        readme::write(&rows, &repository::root())?;
    }
    println!("{}", markdown(&rows));
    eprintln!(
        "table.md, table.json and charts are in {}",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::try_parse_from([&["replay"], arguments].concat()).unwrap()
    }

    #[test]
    fn switches_make_other_engines() {
        let engine = |arguments: &[&str]| options(arguments).engine("wide-ep").unwrap();
        assert_eq!(
            (engine(&[]).name, engine(&[]).lockstep_ranks),
            ("wide-ep", 8)
        );
        let apart = engine(&["--prefill-only", "--no-lockstep"]);
        assert_eq!(apart.name, "wide-ep-prefill-free");
        assert_eq!((apart.lockstep_ranks, apart.output_tokens(99)), (1, 1));
        assert!(options(&[]).engine("fast").is_err());
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for arguments in [
            ["--ranks", "0"],
            ["--loads", "0"],
            ["--trace", "none.jsonl"],
            ["--trace", "made:none"],
        ] {
            assert!(options(&arguments).matrix().is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_table_is_written_with_its_charts() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&[
            "--requests",
            "40",
            "--ranks",
            "2",
            "--seeds",
            "1",
            "--loads",
            "0.5",
        ]);
        let matrix = Matrix {
            traces: vec![public_traces::generated()],
            engines: vec![profile::dense()],
            loads: options.loads.clone(),
            policies: vec!["round-robin".to_string(), "ours".to_string()],
            seeds: options.seeds.clone(),
            requests: options.requests,
            site: options.site(),
        };
        let rows = matrix.run(1, |_, _, _| ()).unwrap();
        write(&rows, folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("table.json")).unwrap();
        let table: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(table.as_array().map(Vec::len), Some(2));
        for file in ["table.md", "summary.svg", "ttft-generated-dense.svg"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
    }
}
