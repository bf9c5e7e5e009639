//! What it is worth to correct the index by what answers tell: hit rates with a perfect index, with the correction and
//! without, where routers are not told the truth.

use std::fmt::Write as _;

use anyhow::Result;

use crate::matrix::Matrix;
use crate::ours::NAMES;
use crate::table::{Row, relative};
use crate::unknowns::Unknowns;

/// Resets an hour over all ranks: one in some ten seconds of a run of some minutes.
const RESETS_PER_HOUR: f64 = 360.0;

/// What is compared, with names for the table.
#[must_use]
pub fn conditions() -> Vec<(&'static str, Unknowns)> {
    let told = Unknowns::default();
    let believed = |factor| Unknowns {
        believed_capacity: Some(factor),
        ..told
    };
    let resets = Unknowns {
        cache_resets_per_hour: RESETS_PER_HOUR,
        ..told
    };
    let foreign = Unknowns {
        foreign_share: 0.3,
        ..told
    };
    vec![
        ("all is as told", told),
        ("a quarter of the capacity believed", believed(0.25)),
        ("four times the capacity believed", believed(4.0)),
        ("a cache emptied each 10 s", resets),
        ("30 % through another gateway", foreign),
    ]
}

/// Runs all and gives the rows of each condition.
///
/// # Errors
/// The first that a run gave.
pub fn run(
    matrix: &Matrix,
    threads: usize,
    progress: impl Fn(&str, usize, usize),
) -> Result<Vec<(&'static str, Vec<Row>)>> {
    let mut matrix = matrix.clone();
    matrix.policies = NAMES.map(str::to_string).to_vec();
    let saturations = matrix.saturations(threads, &progress)?;
    let mut all = Vec::new();
    for (name, unknowns) in conditions() {
        matrix.site.unknowns = unknowns;
        all.push((name, matrix.run_at(&saturations, threads, &progress)?));
    }
    Ok(all)
}

/// A line for each condition: mean hit rates over all runs, and what part of the perfect index's is reached.
#[must_use]
pub fn markdown(conditions: &[(&str, Vec<Row>)]) -> String {
    let mut text = String::from(
        "| condition | perfect | perfect of its own | corrected | not corrected | corrected of perfect | not corrected | \
         TTFT of perfect | not corrected |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let [corrected, open, perfect, perfect_own] = NAMES;
    for (name, rows) in conditions {
        let rate = |policy| hit_rate(rows, policy);
        let of_perfect = |policy| rate(policy) / rate(perfect);
        let ttft = |policy| relative(rows, policy, perfect, |f| f.ttft_mean_s).unwrap_or(0.0);
        let _ = writeln!(
            text,
            "| {name} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.2} | {:.2} |",
            rate(perfect),
            rate(perfect_own),
            rate(corrected),
            rate(open),
            of_perfect(corrected),
            of_perfect(open),
            ttft(corrected),
            ttft(open),
        );
    }
    text
}

fn hit_rate(rows: &[Row], policy: &str) -> f64 {
    let own = rows.iter().filter(|row| row.policy == policy);
    let rates: Vec<f64> = own.map(|row| row.figures.hit_rate).collect();
    rates.iter().sum::<f64>() / rates.len().max(1) as f64
}

#[cfg(test)]
mod tests;
