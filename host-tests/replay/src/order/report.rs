//! Both places side by side.

use std::fmt::Write as _;

use super::{CRITERIA, Criterion, Measured, POLICIES, verdict};

/// A mean that is further from the replay's than this is taken apart.
const FAR: f64 = 0.15;

/// The figures of [`POLICIES`] in Envoy, in the replay, and in the replay with the picks that were made in Envoy; the orders;
/// and what accounts for large differences.
#[must_use]
pub fn markdown(live: &[Measured], replayed: &[Measured], as_picked: &[Measured]) -> String {
    let mut text = String::from(
        "| policy | where | hit rate | TTFT mean ms | p50 | p90 | p99 |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let places = live.iter().zip(replayed).zip(as_picked);
    for (policy, ((live, replayed), as_picked)) in POLICIES.iter().zip(places) {
        text += &line(policy, "Envoy", live);
        text += &line(policy, "replay", replayed);
        text += &ratios(policy, live, replayed);
        text += &line(policy, "replay of Envoy's picks", as_picked);
    }
    text.push('\n');
    for criterion in &CRITERIA {
        text += &orders(criterion, live, replayed);
    }
    let places = live.iter().zip(replayed).zip(as_picked);
    for (policy, ((live, replayed), as_picked)) in POLICIES.iter().zip(places) {
        text += &account(policy, live, replayed, as_picked);
    }
    text
}

fn line(policy: &str, place: &str, of: &Measured) -> String {
    let ttft = of.ttft_ms;
    format!(
        "| {policy} | {place} | {:.3} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
        of.hit_rate, ttft.mean, ttft.p50, ttft.p90, ttft.p99
    )
}

fn ratios(policy: &str, live: &Measured, replayed: &Measured) -> String {
    let (one, other) = (live.ttft_ms, replayed.ttft_ms);
    format!(
        "| {policy} | Envoy / replay | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |\n",
        live.hit_rate / replayed.hit_rate,
        one.mean / other.mean,
        one.p50 / other.p50,
        one.p90 / other.p90,
        one.p99 / other.p99
    )
}

fn orders(criterion: &Criterion, live: &[Measured], replayed: &[Measured]) -> String {
    let verdict = verdict(live, replayed, criterion);
    let is_same = if verdict.is_same() { "same" } else { "other" };
    let mut text = format!(
        "{is_same} order by {} (≈ is level): in Envoy {}; in the replay {}",
        criterion.name,
        ranking(live, &verdict.live, criterion),
        ranking(replayed, &verdict.replayed, criterion)
    );
    for (one, other) in &verdict.lost {
        let _ = write!(text, "; in Envoy {one} is not before {other}");
    }
    text + "\n"
}

/// An order, with a mark between those that are level.
fn ranking(measured: &[Measured], order: &[&str], criterion: &Criterion) -> String {
    let figure = |policy: &str| {
        let of = POLICIES.iter().zip(measured);
        let mut of = of.filter(|(name, _)| **name == policy);
        of.next()
            .map_or(0.0, |(_, measured)| (criterion.of)(measured))
    };
    let mut text = order.first().copied().unwrap_or_default().to_string();
    for pair in order.windows(2) {
        let is_apart = figure(pair[0]) < figure(pair[1]) * (1.0 - criterion.level);
        text += if is_apart { ", " } else { " ≈ " };
        text += pair[1];
    }
    text
}

/// Two factors that make up the ratio of the means.
fn account(policy: &str, live: &Measured, replayed: &Measured, as_picked: &Measured) -> String {
    let [live, replayed, as_picked] = [live, replayed, as_picked].map(|of| of.ttft_ms.mean);
    if (live / replayed - 1.0).abs() <= FAR {
        return String::new();
    }
    format!(
        "{policy}: the mean in Envoy is {:.2} of the replay's: {:.2} by other picks, {:.2} by gateway, client and ranks in \
         real time\n",
        live / replayed,
        as_picked / replayed,
        live / as_picked
    )
}

#[cfg(test)]
mod tests {
    use host_tests::summary::Ttft;

    use super::*;

    fn measured(times: [f64; 3]) -> Vec<Measured> {
        let of = |mean| Measured {
            hit_rate: 0.5,
            ttft_ms: Ttft {
                mean,
                p50: mean,
                p90: mean,
                p99: mean,
            },
        };
        times.map(of).to_vec()
    }

    #[test]
    fn the_table_has_each_place_with_its_ratio_and_both_orders() {
        let live = measured([330.0, 290.0, 101.0]);
        let text = markdown(&live, &measured([300.0, 290.0, 100.0]), &live);
        for expected in [
            "| round-robin | Envoy | 0.500 | 330 | 330 | 330 | 330 |",
            "| round-robin | replay | 0.500 | 300 | 300 | 300 | 300 |",
            "| round-robin | Envoy / replay | 1.00 | 1.10 | 1.10 | 1.10 | 1.10 |",
            "same order by mean (≈ is level): in Envoy ours, least-request, round-robin; in the replay ours, least-request ≈ round-robin",
            "same order by p99 (≈ is level):",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("by other picks"), "{text}");
    }

    #[test]
    fn a_pair_that_lost_its_order_is_named() {
        let text = markdown(
            &measured([300.0, 100.0, 200.0]),
            &measured([300.0, 200.0, 100.0]),
            &measured([300.0, 100.0, 200.0]),
        );
        let expected = "in Envoy ours is not before least-request";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_large_difference_is_taken_apart() {
        let text = markdown(
            &measured([300.0, 200.0, 150.0]),
            &measured([300.0, 200.0, 100.0]),
            &measured([300.0, 200.0, 120.0]),
        );
        let expected =
            "ours: the mean in Envoy is 1.50 of the replay's: 1.20 by other picks, 1.25 by gateway";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("least-request: the mean"), "{text}");
    }
}
