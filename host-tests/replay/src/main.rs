//! Replays traces through routing policies and writes a table and charts.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use host_tests::repository;
use replay::disaggregated::matrix::PairMatrix;
use replay::disaggregated::ratio::Ratio;
use replay::disaggregated::transfer::Transfer;
use replay::disaggregated::{self, report};
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
    /// Prefill and decode are apart, with ranks for both: prefill ranks:decode ranks, as 16:16; several, separated by commas.
    /// Loads are then shares of what both together can serve
    #[arg(long, value_delimiter = ',')]
    disaggregated: Vec<Ratio>,
    /// Milliseconds before a transfer of keys and values to a decode rank begins to move bytes
    #[arg(long, default_value_t = Transfer::NIXL.latency_ms)]
    transfer_latency_ms: f64,
    /// Gigabytes that it moves in a second after that
    #[arg(long, default_value_t = Transfer::NIXL.bytes_per_ms / 1e6)]
    transfer_gb_per_second: f64,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where the table and the charts go; default: target/replay, or target/replay/disaggregated
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

    fn pair_matrix(&self) -> Result<PairMatrix> {
        let names = disaggregated::policies::names();
        let mut all = self.matrix()?;
        if self.policies.is_empty() {
            all.policies = names.into_iter().map(str::to_string).collect();
        }
        if all.site.unknowns != Unknowns::default() || self.prefill_only {
            bail!(
                "where prefill and decode are apart, nothing is hidden from routers and all ranks are there"
            );
        }
        let speed = self.transfer_gb_per_second;
        if speed.is_nan()
            || speed <= 0.0
            || self.transfer_latency_ms.is_nan()
            || self.transfer_latency_ms < 0.0
        {
            bail!("a transfer has a speed above 0 and a latency of 0 or more");
        }
        Ok(PairMatrix {
            all,
            ratios: self.disaggregated.clone(),
            transfer: Transfer {
                latency_ms: self.transfer_latency_ms,
                bytes_per_ms: speed * 1e6,
            },
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

    fn folder(&self, default: &str) -> PathBuf {
        let default = || repository::root().join(default);
        self.out.clone().unwrap_or_else(default)
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

/// Writes the rows and the table that was made of them, and charts of them.
fn write(rows: &[Row], table: &str, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(
        folder.join("table.json"),
        serde_json::to_string_pretty(rows)?,
    )?;
    std::fs::write(folder.join("table.md"), table)?;
    charts::summary(rows, &folder.join("summary.svg"))?;
    for row in rows {
        let engine = row.engine.replace([' ', ':'], "-");
        let file = format!("ttft-{}-{engine}.svg", row.trace);
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

/// Writes and prints what came out.
fn show(rows: &[Row], table: &str, folder: &Path) -> Result<()> {
    write(rows, table, folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    println!("{table}");
    eprintln!(
        "table.md, table.json and charts are in {}",
        folder.display()
    );
    Ok(())
}

fn compare_apart(options: &Options) -> Result<()> {
    let matrix = options.pair_matrix()?;
    let rows = matrix.run(options.threads, progress(Instant::now()))?;
    if options.readme {
        readme::write_apart(&rows, &repository::root())?;
    }
    let folder = options.folder("target/replay/disaggregated");
    show(&rows, &report::markdown(&rows), &folder)
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !options.disaggregated.is_empty() {
        return compare_apart(&options);
    }
    let matrix = options.matrix()?;
    if options.tried {
        return compare_ideas(&options, matrix);
    }
    if options.is_loop {
        return compare_loop(&options, matrix);
    }
    let rows = matrix.run(options.threads, progress(Instant::now()))?;
    if options.readme {
        readme::write(&rows, &repository::root())?;
    }
    show(&rows, &markdown(&rows), &options.folder("target/replay"))
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
    fn ranks_of_both_kinds_have_policies_of_their_own() {
        let matrix = options(&["--disaggregated", "16:16,8:16", "--trace", "made:alone"])
            .pair_matrix()
            .unwrap();
        assert_eq!(matrix.all.policies, disaggregated::policies::names());
        let ratios: Vec<String> = matrix.ratios.iter().map(Ratio::to_string).collect();
        assert_eq!(ratios, ["16:16", "8:16"]);
        assert_eq!(matrix.transfer, Transfer::NIXL);
    }

    #[test]
    fn what_cannot_be_run_apart_is_refused() {
        let apart = ["--disaggregated", "2:1", "--trace", "made:alone"];
        for arguments in [
            &["--foreign-share", "0.5"][..],
            &["--prefill-only"],
            &["--transfer-gb-per-second", "0"],
            &["--transfer-latency-ms=-1"],
        ] {
            let options = options(&[&apart, arguments].concat());
            assert!(options.pair_matrix().is_err(), "{arguments:?}");
        }
        assert!(Options::try_parse_from(["replay", "--disaggregated", "2"]).is_err());
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
        write(&rows, &markdown(&rows), folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("table.json")).unwrap();
        let table: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(table.as_array().map(Vec::len), Some(2));
        for file in ["table.md", "summary.svg", "ttft-generated-dense.svg"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
    }
}
