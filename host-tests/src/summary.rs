//! Figures of a replay, side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::distribution::percentile;
use crate::replay::Replayed;

/// Time to first token over all answers, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ttft {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// What one policy did with a trace.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Requests sent.
    pub requests: usize,
    /// Requests that were not answered whole.
    pub errors: usize,
    /// Prompt tokens that the ranks found in their caches, as a share of all they were asked for, by their metrics.
    pub hit_rate: f64,
    /// Time to first token.
    pub ttft_ms: Ttft,
    /// Requests answered by each rank.
    #[serde(skip)]
    pub by_rank: BTreeMap<String, usize>,
    /// How late the client was at worst.
    #[serde(skip)]
    pub worst_lag: Duration,
}

/// Both policies; what `summary.json` holds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The module.
    pub ours: Figures,
    /// Envoy's own round robin.
    pub round_robin: Figures,
}

impl Ttft {
    /// Sums up times in milliseconds; zeros when there are none.
    #[must_use]
    pub fn of(mut times_ms: Vec<f64>) -> Self {
        times_ms.sort_by(f64::total_cmp);
        if times_ms.is_empty() {
            return Self::default();
        }
        Self {
            mean: times_ms.iter().sum::<f64>() / times_ms.len() as f64,
            p50: percentile(&times_ms, 50),
            p90: percentile(&times_ms, 90),
            p99: percentile(&times_ms, 99),
        }
    }
}

impl Figures {
    /// Sums up a replay; `hit_rate` comes from the ranks.
    #[must_use]
    pub fn of(replayed: &Replayed, hit_rate: f64) -> Self {
        let mut by_rank = BTreeMap::new();
        for answer in &replayed.answers {
            *by_rank.entry(answer.rank.clone()).or_insert(0) += 1;
        }
        let times = replayed
            .answers
            .iter()
            .map(|answer| answer.ttft.as_secs_f64() * 1000.0);
        Self {
            requests: replayed.answers.len() + replayed.errors.len(),
            errors: replayed.errors.len(),
            hit_rate,
            ttft_ms: Ttft::of(times.collect()),
            by_rank,
            worst_lag: replayed.worst_lag,
        }
    }
}

impl Summary {
    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!("{:<28}{:>14}{:>14}\n", "", "rank-router", "round robin");
        let mut row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
            let _ = writeln!(
                table,
                "{name:<28}{:>14}{:>14}",
                cell(&self.ours),
                cell(&self.round_robin)
            );
        };
        row("requests", &|f| f.requests.to_string());
        row("errors", &|f| f.errors.to_string());
        row("hit rate (ranks' metrics)", &|f| {
            format!("{:.3}", f.hit_rate)
        });
        row("TTFT mean, ms", &|f| format!("{:.0}", f.ttft_ms.mean));
        row("TTFT p50, ms", &|f| format!("{:.0}", f.ttft_ms.p50));
        row("TTFT p90, ms", &|f| format!("{:.0}", f.ttft_ms.p90));
        row("TTFT p99, ms", &|f| format!("{:.0}", f.ttft_ms.p99));
        row("client at worst late by, ms", &|f| {
            f.worst_lag.as_millis().to_string()
        });
        let ranks = self
            .ours
            .by_rank
            .keys()
            .chain(self.round_robin.by_rank.keys());
        for rank in ranks.collect::<std::collections::BTreeSet<_>>() {
            row(&format!("requests on {rank}"), &|f| {
                f.by_rank.get(rank).copied().unwrap_or(0).to_string()
            });
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let times: Vec<f64> = (1..=200).map(f64::from).rev().collect();
        let ttft = Ttft::of(times);
        assert_eq!(
            (ttft.mean, ttft.p50, ttft.p90, ttft.p99),
            (100.5, 100.0, 180.0, 198.0)
        );
        assert_eq!(Ttft::of(vec![]), Ttft::default());
    }

    #[test]
    fn the_summary_has_the_fields_that_scripts_read() {
        let figures = Figures::of(&Replayed::default(), 0.25);
        let summary = Summary {
            ours: figures.clone(),
            round_robin: figures,
        };
        let expected = r#"{"requests":0,"errors":0,"hit_rate":0.25,"ttft_ms":{"mean":0.0,"p50":0.0,"p90":0.0,"p99":0.0}}"#;
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(
            json,
            format!("{{\"ours\":{expected},\"round_robin\":{expected}}}")
        );
    }
}
