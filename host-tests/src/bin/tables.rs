//! Prints rows that a benchmark wrote as tables.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use host_tests::table::table;
use serde_json::Value;

/// What belongs into each table: the part, and its columns.
const TABLES: [(&str, &[&str]); 6] = [
    (
        "calls",
        &[
            "envoy",
            "workers",
            "bytes",
            "carrier",
            "send_ns",
            "look_ns",
            "receive_ns",
            "receive_of_many_ns",
        ],
    ),
    (
        "requests",
        &[
            "envoy",
            "workers",
            "bytes",
            "carrier",
            "us_per_request",
            "added_us",
            "delay_us/p50",
            "delay_us/p99",
            "delay_us/max",
            "look_before_pick_ns/p99",
            "lost",
        ],
    ),
    (
        "dead_worker",
        &["envoy", "carrier", "events", "bytes", "grown_bytes"],
    ),
    (
        "pick",
        &[
            "runs",
            "starts",
            "goes_on",
            "blocks",
            "p50_us",
            "p99_us",
            "slowest_while_filling_us",
            "memory_mib",
        ],
    ),
    (
        "replay",
        &[
            "workers",
            "state",
            "requests",
            "errors",
            "hit_rate",
            "ttft_ms/mean",
            "ttft_ms/p99",
            "cpu_us_per_request",
            "news_delay_us/P50",
            "news_delay_us/P95",
            "news_delay_us/P99",
            "client_late_ms",
        ],
    ),
    (
        "sharing_cost",
        &[
            "workers",
            "blocks",
            "shared_us",
            "isolated_us",
            "added_us",
            "added_us_quartiles",
        ],
    ),
];

#[derive(Parser)]
#[command(about = "Prints what scripts/bench workers wrote as tables")]
struct Arguments {
    /// A list of rows of JSON.
    file: PathBuf,
}

fn main() -> Result<()> {
    let Arguments { file } = Arguments::parse();
    let place = || file.display().to_string();
    let text = std::fs::read_to_string(&file).with_context(place)?;
    let rows: Vec<Value> = serde_json::from_str(&text).with_context(place)?;
    for (part, columns) in TABLES {
        let of_part = rows.iter().filter(|row| row["part"] == part).cloned();
        println!("{part}\n{}", table(&of_part.collect::<Vec<_>>(), columns));
    }
    Ok(())
}
