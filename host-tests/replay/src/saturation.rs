//! The rate at which ranks can serve a window of a trace at most: what loads are shares of.

use anyhow::Result;

use crate::baselines::Oracle;
use crate::gateways::Gateways;
use crate::profile::Profile;
use crate::reports::ReportTiming;
use crate::simulation::{Feed, Outcome, run};
use crate::workload::{TraceRequest, scaled};

/// Requests that the ranks always have, for each rank: enough that none ever idles.
const IN_FLIGHT_PER_RANK: usize = 16;

/// Requests a second under the oracle when the next request comes whenever one ends. Of the run the middle four fifths
/// count: the ranks are cold before and run empty behind.
///
/// The oracle's rate, because it depends on no policy that is compared.
///
/// # Errors
/// When the run fails.
pub fn per_second(window: &[TraceRequest], profile: Profile, ranks: usize) -> Result<f64> {
    let gateways = Gateways::new(vec![Oracle::boxed(ranks, 0)], ranks, 0);
    let timing = ReportTiming {
        interval_ms: 60_000.0,
        delay_ms: 0.0,
    };
    let requests = scaled(window, 1.0);
    let feed = Feed::Closed(IN_FLIGHT_PER_RANK * ranks);
    let outcome = run(&requests, profile, ranks, gateways, timing, feed)?;
    Ok(middle_rate(&outcome))
}

/// Requests a second of the middle four fifths of a run.
pub(crate) fn middle_rate(outcome: &Outcome) -> f64 {
    let mut ends: Vec<f64> = outcome.records.iter().map(|r| r.ended_ms).collect();
    ends.sort_by(f64::total_cmp);
    let (from, to) = (ends.len() / 10, ends.len() * 9 / 10);
    match (ends.get(from), ends.get(to)) {
        (Some(begin_ms), Some(end_ms)) if end_ms > begin_ms => {
            (to - from) as f64 / (end_ms - begin_ms) * 1000.0
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::dense;

    #[test]
    fn cold_beginning_and_empty_end_do_not_count() {
        let ended = |ended_ms| crate::simulation::Record {
            ended_ms,
            ..Default::default()
        };
        let mut records: Vec<_> = (0..100)
            .map(|n| ended(5000.0 + 100.0 * f64::from(n)))
            .collect();
        records[0].ended_ms = 1.0;
        records[99].ended_ms = 1e9;
        let outcome = Outcome {
            records,
            computed_tokens: Vec::new(),
            preemptions: 0,
        };
        assert!((middle_rate(&outcome) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn two_ranks_serve_twice_what_one_does_and_a_rank_its_measured_rate() {
        let request = |number: u64| TraceRequest::new(0.0, 8191, 1, &[number * 99]);
        let window: Vec<TraceRequest> = (0..400).map(request).collect();
        let one = per_second(&window, dense(), 1).unwrap();
        let two = per_second(&window, dense(), 2).unwrap();
        // A step of 8,191 tokens takes 2.4 + 39.3 + 12.7 ms; one token more starts the next prompt.
        let expected = 1000.0 / 54.5;
        assert!((one / expected - 1.0).abs() < 0.02, "{one}, not {expected}");
        assert!((two / one - 2.0).abs() < 0.04, "{two}, not twice {one}");
    }
}
