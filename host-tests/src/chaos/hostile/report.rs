//! Runs beside attackers, compared with runs without.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::attack::Attack;
use super::attackers::Sent;
use super::run::RunReport;
use crate::distribution::median;

/// How many times as long the 99th percentile of the time to the first byte may be beside attackers.
pub const MOST_RATIO: f64 = 1.5;
/// How many ranks may be out or on their way back on average: an error that a client provokes may put one out for a moment.
const MOST_NOT_IN: f64 = 1.0;
/// What no rank did, and requests of hostile clients must not make it seem to have done.
const NEVER: [&str; 4] = [
    "failures_connect",
    "failures_reset",
    "failures_no_first_byte",
    "caches_lost",
];

/// A run without and a run beside attackers, of the same requests.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Without.
    pub without: RunReport,
    /// Beside.
    pub beside: RunReport,
}

/// All pairs; what the summary holds.
#[derive(Clone, Debug, Serialize)]
pub struct HostileSummary {
    /// Envoy's version.
    pub envoy: String,
    /// The pairs.
    pub pairs: Vec<Pair>,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.beside.first_byte_ms.p99 / self.without.first_byte_ms.p99.max(f64::MIN_POSITIVE)
    }
}

impl HostileSummary {
    /// The ratio of the 99th percentiles: the median of all pairs, because a shared machine is slow now and then.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        median(self.pairs.iter().map(Pair::ratio).collect())
    }

    /// Requests of hostile clients, in all pairs.
    #[must_use]
    pub fn bad_inputs(&self) -> u64 {
        let beside = self.pairs.iter().map(|pair| pair.beside.bad_inputs());
        beside.sum()
    }

    /// What happened that must not, in words. Without `judges_times` nothing that depends on the machine's speed.
    #[must_use]
    pub fn faults(&self, judges_times: bool) -> Vec<String> {
        let beside = || self.pairs.iter().map(|pair| &pair.beside);
        let mut faults = Vec::new();
        let lost: usize = beside().map(|run| run.lost).sum();
        if lost > 0 {
            faults.push(format!("{lost} honest requests were lost"));
        }
        let not_in = median(beside().map(|run| run.ranks_not_in).collect());
        if not_in > MOST_NOT_IN {
            faults.push(format!(
                "{not_in:.1} ranks that answer were not in on average"
            ));
        }
        for name in NEVER {
            let count: u64 = beside().filter_map(|run| run.failures.get(name)).sum();
            if count > 0 {
                faults.push(format!("{name} is {count}, and no rank did that"));
            }
        }
        for run in beside() {
            if run.left_counted.values().any(|left| *left > 0) {
                faults.push(format!("still counted: {:?}", run.left_counted));
            }
        }
        faults.extend(self.passed());
        if judges_times && self.ratio() > MOST_RATIO {
            faults.push(format!(
                "the 99th percentile of the time to the first byte was {:.2} times as long",
                self.ratio()
            ));
        }
        faults
    }

    /// Requests that reached a rank and must not.
    fn passed(&self) -> Option<String> {
        let names = Attack::all().iter().filter(|attack| attack.must_not_pass());
        let names: Vec<String> = names.map(|attack| attack.name()).collect();
        let sent = self.pairs.iter().flat_map(|pair| &pair.beside.sent);
        let passed = sent.filter(|(name, _)| names.contains(name));
        let passed: u64 = passed.map(|(_, sent)| sent.reached_ranks).sum();
        (passed > 0).then(|| format!("{passed} bodies reached a rank that say what they must not"))
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<40}{:>12}{:>12}\n",
            "medians of all pairs", "without", "beside"
        );
        let mut row = |name: &str, digits: usize, figure: &dyn Fn(&RunReport) -> f64| {
            let of = |run: fn(&Pair) -> &RunReport| {
                median(self.pairs.iter().map(|pair| figure(run(pair))).collect())
            };
            let (without, beside) = (of(|pair| &pair.without), of(|pair| &pair.beside));
            let _ = writeln!(table, "{name:<40}{without:>12.digits$}{beside:>12.digits$}");
        };
        row("honest requests", 0, &|run| run.requests as f64);
        row("lost", 0, &|run| run.lost as f64);
        row("TTFT p50, ms", 0, &|run| run.first_byte_ms.p50);
        row("TTFT p99, ms", 0, &|run| run.first_byte_ms.p99);
        row("ranks not in on average", 1, &|run| run.ranks_not_in);
        row("share of the busiest rank", 3, &|run| run.busiest_share);
        row("cached share of honest prompts", 3, &|run| run.cached_share);
        row("hit rate of all, by ranks' metrics", 3, &|run| {
            run.ranks_hit_rate
        });
        row("cached tokens believed", 0, &|run| {
            run.predicted_cached_tokens as f64
        });
        row("cached tokens delivered", 0, &|run| {
            run.delivered_cached_tokens as f64
        });
        for name in self
            .pairs
            .iter()
            .flat_map(|pair| pair.beside.failures.keys())
            .take(5)
        {
            row(name, 0, &|run| {
                run.failures.get(name).copied().unwrap_or(0) as f64
            });
        }
        row("still counted at the end", 0, &|run| {
            run.left_counted.values().sum::<u64>() as f64
        });
        row("bad inputs", 0, &|run| run.bad_inputs() as f64);
        let _ = writeln!(
            table,
            "ratio of TTFT p99, median of {}: {:.2}",
            self.pairs.len(),
            self.ratio()
        );
        let _ = write!(table, "{}", self.sent_table());
        table
    }

    fn sent_table(&self) -> String {
        let mut all: BTreeMap<&str, Sent> = BTreeMap::new();
        for (name, sent) in self.pairs.iter().flat_map(|pair| &pair.beside.sent) {
            let sum = all.entry(name).or_default();
            sum.requests += sent.requests;
            sum.reached_ranks += sent.reached_ranks;
            for (status, count) in &sent.statuses {
                *sum.statuses.entry(*status).or_default() += count;
            }
        }
        let lines = all.into_iter().map(|(name, sent)| {
            format!(
                "{name}: {} sent, {} answered by ranks, by status {:?}\n",
                sent.requests, sent.reached_ranks, sent.statuses
            )
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Ttft;

    fn run(p99: f64) -> RunReport {
        RunReport {
            first_byte_ms: Ttft {
                p99,
                ..Ttft::default()
            },
            ..RunReport::default()
        }
    }

    fn summary(beside: RunReport) -> HostileSummary {
        let pair = |beside: &RunReport| Pair {
            without: run(100.0),
            beside: beside.clone(),
        };
        HostileSummary {
            envoy: String::new(),
            pairs: vec![pair(&beside), pair(&beside), pair(&run(9_000.0))],
        }
    }

    #[test]
    fn one_slow_pair_of_three_is_no_fault_and_two_are() {
        assert!(summary(run(149.0)).faults(true).is_empty());
        assert_eq!(summary(run(151.0)).faults(true).len(), 1);
        assert!(summary(run(151.0)).faults(false).is_empty());
    }

    #[test]
    fn each_thing_that_must_not_be_is_a_fault() {
        let forbidden = Sent {
            reached_ranks: 1,
            ..Sent::default()
        };
        let wrong = [
            RunReport {
                lost: 1,
                ..run(100.0)
            },
            RunReport {
                ranks_not_in: 1.5,
                ..run(100.0)
            },
            RunReport {
                failures: [("failures_no_first_byte", 1)].into(),
                ..run(100.0)
            },
            RunReport {
                left_counted: [("queued_tokens", 1)].into(),
                ..run(100.0)
            },
            RunReport {
                sent: [(Attack::Forbidden.name(), forbidden)].into(),
                ..run(100.0)
            },
        ];
        for beside in wrong {
            assert!(
                !summary(beside.clone()).faults(false).is_empty(),
                "{beside:?}"
            );
        }
    }
}
