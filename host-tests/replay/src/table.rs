//! The table: a row for each run, and means over seeds for people.

use std::fmt::Write as _;

use serde::Serialize;

use crate::disaggregated::report;
use crate::figures::Figures;
use crate::verdict;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The trace.
    pub trace: String,
    /// The load, as a share of saturation.
    pub load: f64,
    /// The engine.
    pub engine: String,
    /// The policy.
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// Ranks.
    pub ranks: usize,
    /// Routers.
    pub gateways: usize,
    /// Whether the routers were of one mind.
    pub gateways_share: bool,
    /// Requests.
    pub requests: usize,
    /// Their mean rate.
    pub requests_per_second: f64,
    /// What came out.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What rows of several seeds have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Case<'a> {
    /// The trace.
    pub trace: &'a str,
    /// The engine.
    pub engine: &'a str,
    /// The load.
    pub load: f64,
}

impl Row {
    /// Where it belongs.
    #[must_use]
    pub fn case(&self) -> Case<'_> {
        Case {
            trace: &self.trace,
            engine: &self.engine,
            load: self.load,
        }
    }
}

/// The cases of a table, in its order.
#[must_use]
pub fn cases(rows: &[Row]) -> Vec<Case<'_>> {
    distinct(rows.iter().map(Row::case))
}

/// The policies of a table, in its order.
#[must_use]
pub fn policies(rows: &[Row]) -> Vec<&str> {
    distinct(rows.iter().map(|row| row.policy.as_str()))
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

/// The mean of a figure over the seeds of a policy in a case; `None` without a run.
#[must_use]
pub fn mean(
    rows: &[Row],
    case: &Case<'_>,
    policy: &str,
    figure: impl Fn(&Figures) -> f64,
) -> Option<f64> {
    let values = rows
        .iter()
        .filter(|row| row.case() == *case && row.policy == policy)
        .map(|row| figure(&row.figures));
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// How much of a figure a policy has of what another has, as the geometric mean over all cases that both have: every case
/// weighs the same, whatever its size.
#[must_use]
pub fn relative(
    rows: &[Row],
    policy: &str,
    to: &str,
    figure: impl Fn(&Figures) -> f64,
) -> Option<f64> {
    let logarithms = cases(rows).into_iter().filter_map(|case| {
        let own = mean(rows, &case, policy, &figure)?;
        let other = mean(rows, &case, to, &figure)?;
        (own > 0.0 && other > 0.0).then(|| (own / other).ln())
    });
    let logarithms: Vec<f64> = logarithms.collect();
    let count = logarithms.len() as f64;
    (count > 0.0).then(|| (logarithms.iter().sum::<f64>() / count).exp())
}

/// What policies are held against in the summary: the EPP's guide where prefill and decode are apart, else round robin, or the
/// first policy where that was not run.
#[must_use]
pub fn reference(rows: &[Row]) -> Option<&str> {
    let names = policies(rows);
    let find = |wanted: &str| names.iter().copied().find(|name| *name == wanted);
    let guide = find(report::GUIDE).filter(|_| rows.iter().any(|row| row.figures.apart.is_some()));
    guide
        .or_else(|| find("round-robin"))
        .or(names.first().copied())
}

/// The table in Markdown: a summary over all cases, how ours did in each, then the means over seeds of every case.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = summary(rows);
    let verdict = verdict::markdown(rows);
    if !verdict.is_empty() {
        let _ = writeln!(text, "\n{verdict}");
    }
    for case in cases(rows) {
        let _ = writeln!(
            text,
            "\n### {}, {}, load {}\n\n\
             | policy | hit rate | TTFT mean s | p50 | p90 | p99 | TPOT p50 ms | p99 | goodput | max/mean load |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            case.trace, case.engine, case.load
        );
        for policy in policies(rows) {
            write_line(&mut text, rows, &case, policy);
        }
    }
    text
}

fn write_line(text: &mut String, rows: &[Row], case: &Case<'_>, policy: &str) {
    let value = |figure: fn(&Figures) -> f64| mean(rows, case, policy, figure).unwrap_or(0.0);
    let is_apart = rows.iter().any(|row| row.figures.apart.is_some());
    let decode = value(|f| f.apart.unwrap_or_default().decode_max_mean_load);
    let decode = if is_apart {
        format!(", {decode:.2}")
    } else {
        String::new()
    };
    let _ = writeln!(
        text,
        "| {policy} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} | {:.1} | {:.3} | {:.2}{decode} |",
        value(|f| f.hit_rate),
        value(|f| f.ttft_mean_s),
        value(|f| f.ttft_p50_s),
        value(|f| f.ttft_p90_s),
        value(|f| f.ttft_p99_s),
        value(|f| f.tpot_p50_ms),
        value(|f| f.tpot_p99_ms),
        value(|f| f.goodput),
        value(|f| f.max_mean_load),
    );
}

/// A line for each policy over all cases, in Markdown.
#[must_use]
pub fn summary(rows: &[Row]) -> String {
    let mut text = String::new();
    let Some(reference) = reference(rows) else {
        return text;
    };
    let _ = writeln!(
        text,
        "Geometric mean over all cases, as a multiple of {reference}; goodput as the mean of all runs.\n\n\
         | policy | TTFT mean | TTFT p99 | TPOT p99 | goodput |\n| --- | ---: | ---: | ---: | ---: |"
    );
    for policy in policies(rows) {
        let share = |figure: fn(&Figures) -> f64| {
            let share = relative(rows, policy, reference, figure);
            share.map_or("-".to_string(), |share| format!("{share:.3}"))
        };
        let goods = rows.iter().filter(|row| row.policy == policy);
        let goods: Vec<f64> = goods.map(|row| row.figures.goodput).collect();
        let _ = writeln!(
            text,
            "| {policy} | {} | {} | {} | {:.3} |",
            share(|f| f.ttft_mean_s),
            share(|f| f.ttft_p99_s),
            share(|f| f.tpot_p99_ms),
            goods.iter().sum::<f64>() / goods.len().max(1) as f64,
        );
    }
    text
}

#[cfg(test)]
mod tests;
