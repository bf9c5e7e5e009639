//! Whether policies have the same order in a real Envoy as in the replay.

use std::fmt;
use std::fmt::Write as _;

/// Those that can be run in both: two of Envoy's own, and the deployed decision.
pub const POLICIES: [&str; 3] = ["round-robin", "least-request", "ours"];

/// Means this close have no order: two runs in Envoy differ by as much.
const LEVEL: f64 = 0.05;

/// Figures of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Share of prompt tokens that came from caches.
    pub hit_rate: f64,
    /// Time to first token, milliseconds.
    pub mean_ms: f64,
    /// Its median.
    pub p50_ms: f64,
    /// Its 90th percentile.
    pub p90_ms: f64,
    /// Its 99th percentile.
    pub p99_ms: f64,
}

/// Two orders by mean time to first token, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    live: Vec<&'static str>,
    replayed: Vec<&'static str>,
    swapped: Vec<(&'static str, &'static str)>,
}

impl Verdict {
    /// Whether no two policies that differ in both have another order in one than in the other.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.swapped.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.is_same() { "same" } else { "other" };
        write!(
            f,
            "{order} order by mean: in Envoy {}; in the replay {}",
            self.live.join(", "),
            self.replayed.join(", ")
        )
    }
}

/// Compares figures of [`POLICIES`].
#[must_use]
pub fn verdict(live: &[Measured], replayed: &[Measured]) -> Verdict {
    let places = || 0..POLICIES.len().min(live.len()).min(replayed.len());
    let pairs = places().flat_map(|one| places().map(move |other| (one, other)));
    let is_below = |of: &[Measured], one: usize, other: usize| {
        of[one].mean_ms < of[other].mean_ms * (1.0 - LEVEL)
    };
    let swapped = pairs
        .filter(|(one, other)| is_below(live, *one, *other) && is_below(replayed, *other, *one));
    Verdict {
        live: order(live),
        replayed: order(replayed),
        swapped: swapped
            .map(|(one, other)| (POLICIES[one], POLICIES[other]))
            .collect(),
    }
}

fn order(measured: &[Measured]) -> Vec<&'static str> {
    let mut order: Vec<(&str, &Measured)> = POLICIES.into_iter().zip(measured).collect();
    order.sort_by(|one, other| one.1.mean_ms.total_cmp(&other.1.mean_ms));
    order.into_iter().map(|(policy, _)| policy).collect()
}

/// Both as a table.
#[must_use]
pub fn markdown(live: &[Measured], replayed: &[Measured]) -> String {
    let mut text = String::from(
        "| policy | where | hit rate | TTFT mean ms | p50 | p90 | p99 |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (policy, (live, replayed)) in POLICIES.iter().zip(live.iter().zip(replayed)) {
        for (place, of) in [("Envoy", live), ("replay", replayed)] {
            let _ = writeln!(
                text,
                "| {policy} | {place} | {:.3} | {:.0} | {:.0} | {:.0} | {:.0} |",
                of.hit_rate, of.mean_ms, of.p50_ms, of.p90_ms, of.p99_ms
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(means: [f64; 3]) -> Vec<Measured> {
        let measured = |mean_ms| Measured {
            mean_ms,
            ..Measured::default()
        };
        means.map(measured).to_vec()
    }

    #[test]
    fn the_same_order_is_found_whatever_the_times() {
        let verdict = verdict(&means([700.0, 500.0, 300.0]), &means([70.0, 60.0, 20.0]));
        assert!(verdict.is_same());
        assert_eq!(verdict.live, ["ours", "least-request", "round-robin"]);
        assert!(verdict.to_string().starts_with("same order"), "{verdict}");
    }

    #[test]
    fn two_that_change_places_are_found_unless_they_are_level() {
        let live = means([700.0, 500.0, 300.0]);
        let other = verdict(&live, &means([700.0, 250.0, 300.0]));
        assert_eq!(other.swapped, [("ours", "least-request")]);
        assert!(verdict(&live, &means([700.0, 290.0, 300.0])).is_same());
    }

    #[test]
    fn the_table_has_a_line_for_each_place() {
        let text = markdown(&means([1.0, 2.0, 3.0]), &means([4.0, 5.0, 6.0]));
        assert_eq!(text.lines().count(), 8);
        assert!(text.contains("| ours | replay | 0.000 | 6 |"), "{text}");
    }
}
