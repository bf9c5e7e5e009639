//! Whether policies have the same order in a real Envoy as in the replay.

mod given;
mod report;
mod slice;

pub use given::Given;
pub use report::markdown;
pub use slice::{Slice, compressed};

use host_tests::distribution::median;
use host_tests::summary::Ttft;

/// Those that can be run in both: two of Envoy's own, and the deployed decision.
pub const POLICIES: [&str; 3] = ["round-robin", "least-request", "ours"];

/// Figures of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Share of prompt tokens that came from caches.
    pub hit_rate: f64,
    /// Time to first token.
    pub ttft_ms: Ttft,
}

impl Measured {
    /// The median of each figure of several runs.
    #[must_use]
    pub fn medians(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        Self {
            hit_rate: of(|run| run.hit_rate),
            ttft_ms: Ttft {
                mean: of(|run| run.ttft_ms.mean),
                p50: of(|run| run.ttft_ms.p50),
                p90: of(|run| run.ttft_ms.p90),
                p99: of(|run| run.ttft_ms.p99),
            },
        }
    }
}

/// A figure by which policies have an order.
#[derive(Clone, Copy, Debug)]
pub struct Criterion {
    /// What it is called.
    pub name: &'static str,
    /// Reads it.
    pub of: fn(&Measured) -> f64,
    /// Policies that differ by a smaller share have no order: two runs in Envoy differ by as much.
    pub level: f64,
}

/// The figures that users feel: what is usual, and what is bad. Of a run's few hundred requests a handful make the 99th
/// percentile, so it is less sure.
pub const CRITERIA: [Criterion; 2] = [
    Criterion {
        name: "mean",
        of: |measured| measured.ttft_ms.mean,
        level: 0.05,
    },
    Criterion {
        name: "p99",
        of: |measured| measured.ttft_ms.p99,
        level: 0.1,
    },
];

/// Policies that differ by a larger share in the replay must differ in Envoy, too.
const CLEAR: f64 = 0.25;

/// Two orders, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// In Envoy; those that are level in the order of their figures.
    pub live: Vec<&'static str>,
    /// In the replay.
    pub replayed: Vec<&'static str>,
    /// Pairs that are in this order in the replay and not in Envoy.
    pub lost: Vec<(&'static str, &'static str)>,
}

impl Verdict {
    /// Whether every pair has the same order in both.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.lost.is_empty()
    }
}

/// Compares figures of [`POLICIES`]. A pair has another order when both places put one before the other and do not agree,
/// or when it is far apart in the replay and not apart in Envoy.
#[must_use]
pub fn verdict(live: &[Measured], replayed: &[Measured], criterion: &Criterion) -> Verdict {
    let count = POLICIES.len().min(live.len()).min(replayed.len());
    let pairs = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
    let is_below = |measured: &[Measured], one: usize, other: usize, level: f64| {
        (criterion.of)(&measured[one]) < (criterion.of)(&measured[other]) * (1.0 - level)
    };
    let is_lost = |(one, other): &(usize, usize)| {
        let is_apart = is_below(replayed, *one, *other, criterion.level);
        let is_turned = is_apart && is_below(live, *other, *one, criterion.level);
        let is_clear = is_below(replayed, *one, *other, CLEAR);
        is_turned || (is_clear && !is_below(live, *one, *other, criterion.level))
    };
    let lost = pairs.filter(is_lost);
    Verdict {
        live: order(live, criterion),
        replayed: order(replayed, criterion),
        lost: lost
            .map(|(one, other)| (POLICIES[one], POLICIES[other]))
            .collect(),
    }
}

fn order(measured: &[Measured], criterion: &Criterion) -> Vec<&'static str> {
    let mut order: Vec<(&str, &Measured)> = POLICIES.into_iter().zip(measured).collect();
    order.sort_by(|one, other| (criterion.of)(one.1).total_cmp(&(criterion.of)(other.1)));
    order.into_iter().map(|(policy, _)| policy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(means: [f64; 3]) -> Vec<Measured> {
        let measured = |mean| Measured {
            ttft_ms: Ttft {
                mean,
                ..Ttft::default()
            },
            ..Measured::default()
        };
        means.map(measured).to_vec()
    }

    fn by_mean(live: [f64; 3], replayed: [f64; 3]) -> Verdict {
        verdict(&means(live), &means(replayed), &CRITERIA[0])
    }

    #[test]
    fn the_same_order_is_found_whatever_the_times() {
        let verdict = by_mean([700.0, 500.0, 300.0], [70.0, 60.0, 20.0]);
        assert!(verdict.is_same());
        assert_eq!(verdict.live, ["ours", "least-request", "round-robin"]);
        assert_eq!(verdict.replayed, verdict.live);
    }

    #[test]
    fn two_that_change_places_are_found_unless_they_are_level() {
        let live = [700.0, 500.0, 300.0];
        let other = by_mean(live, [700.0, 250.0, 300.0]);
        assert_eq!(other.lost, [("least-request", "ours")]);
        assert!(by_mean(live, [700.0, 290.0, 300.0]).is_same());
    }

    #[test]
    fn two_that_are_far_apart_in_the_replay_must_be_apart_in_envoy() {
        let replayed = [700.0, 500.0, 300.0];
        let level = by_mean([700.0, 500.0, 490.0], replayed);
        assert_eq!(level.lost, [("ours", "least-request")]);
        assert!(by_mean([700.0, 690.0, 300.0], [700.0, 600.0, 300.0]).is_same());
    }

    #[test]
    fn one_run_that_is_out_of_line_changes_no_median() {
        let runs = means([3.0, 900.0, 2.0]);
        assert_eq!(Measured::medians(&runs).ttft_ms.mean, 3.0);
    }

    #[test]
    fn each_figure_has_an_order_of_its_own() {
        let mut live = means([3.0, 2.0, 1.0]);
        for (measured, p99) in live.iter_mut().zip([10.0, 20.0, 30.0]) {
            measured.ttft_ms.p99 = p99;
        }
        let [mean, p99] = CRITERIA.map(|criterion| order(&live, &criterion));
        assert_eq!(mean, ["ours", "least-request", "round-robin"]);
        assert_eq!(p99, POLICIES);
    }
}
