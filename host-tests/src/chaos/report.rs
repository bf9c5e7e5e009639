//! What became of every request of a case.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::case::{Blow, Case};
use super::stage::Stage;
use crate::caller::Call;
use crate::gateway_log::{LoggedAttempt, LoggedRequest};
use crate::outcome::{Outcome, Outcomes};
use crate::summary::Ttft;

/// What Envoy says of a stream whose filter trapped.
const TRAPPED: &str = "wasm_fail_stream";
/// How long the module may take to count nothing any more.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Gauges of the module that are zero when nothing is under way.
const GAUGES: [&str; 3] = ["requests_held", "queued_tokens", "requests_in_flight"];

/// What became of the requests of a case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// The case.
    pub case: String,
    /// Requests sent.
    pub requests: usize,
    /// How they ended.
    pub outcomes: Outcomes,
    /// Those that were not answered although no rank had begun to answer them, and none had said that it will not: each could
    /// have been sent to another rank.
    pub lost: usize,
    /// Requests that took more than one attempt.
    pub retried: usize,
    /// Every other end than a complete answer, in Envoy's words, with how often it came.
    pub explained: BTreeMap<String, usize>,
    /// What was sent to the ranks that were hit, if any were.
    pub victims: Option<VictimReport>,
    /// Time to the first byte of complete answers.
    pub first_byte_ms: Ttft,
    /// The longest of them.
    pub slowest_first_byte_ms: f64,
    /// What the module still counts when all is over, by gauge.
    pub left_counted: BTreeMap<&'static str, u64>,
}

/// What was sent to ranks from when they were hit until they were well again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VictimReport {
    /// Their number.
    pub ranks: usize,
    /// Attempts sent to them.
    pub attempts: usize,
    /// When the last was sent.
    pub last_sent_after_ms: Option<f64>,
    /// Attempts in each second.
    pub attempts_by_second: Vec<usize>,
    /// When the first was sent after they were well again.
    pub back_after_ms: Option<f64>,
}

/// All cases; what `summary.json` holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChaosSummary {
    /// Envoy's version.
    pub envoy: String,
    /// The cases.
    pub cases: Vec<CaseReport>,
}

impl CaseReport {
    /// Counts, once all requests have ended.
    ///
    /// # Errors
    /// When Envoy's log cannot be read or its admin interface does not answer.
    pub async fn of(case: Case, stage: &Stage, calls: &[Call], blow: &Blow) -> Result<Self> {
        stage.log.wait_for(calls.len()).await?;
        let logged = stage.log.requests()?;
        let by_number: HashMap<u64, &LoggedRequest> = logged
            .iter()
            .map(|request| (request.number, request))
            .collect();
        let said = |call: &Call| by_number.get(&call.number).copied();
        let first_bytes = calls
            .iter()
            .filter(|call| call.outcome == Outcome::Complete)
            .filter_map(|call| Some(call.first_byte?.as_secs_f64() * 1000.0));
        let first_bytes: Vec<f64> = first_bytes.collect();
        Ok(Self {
            case: case.name(),
            requests: calls.len(),
            outcomes: calls.iter().map(|call| call.outcome).collect(),
            lost: calls
                .iter()
                .filter(|call| is_lost(call.outcome, said(call)))
                .count(),
            retried: logged.iter().filter(|request| request.attempts > 1).count(),
            explained: explained(calls, said),
            victims: (!blow.victims.is_empty())
                .then(|| VictimReport::of(blow, &stage.log.attempts().unwrap_or_default())),
            slowest_first_byte_ms: first_bytes.iter().copied().fold(0.0, f64::max),
            first_byte_ms: Ttft::of(first_bytes),
            left_counted: left_counted(stage).await?,
        })
    }

    fn row(&self) -> String {
        let complete = self.outcomes.count(Outcome::Complete);
        let broken = self.outcomes.count(Outcome::BrokenOff);
        let other = self.requests - complete - broken;
        let victims = self.victims.as_ref().map(VictimReport::words);
        format!(
            "{:<14}{:>9}{complete:>10}{broken:>8}{other:>7}{:>6}{:>9}{:>14.0}  {}",
            self.case,
            self.requests,
            self.lost,
            self.retried,
            self.slowest_first_byte_ms,
            victims.unwrap_or_default(),
        )
    }

    /// Whether nothing happened that must not.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.lost == 0 && self.outcomes.count(Outcome::Wrong) == 0
    }
}

/// Whether the gateway failed the client although a rank could have been asked again; a trap is none of that: there the
/// gateway itself is hit.
fn is_lost(outcome: Outcome, said: Option<&LoggedRequest>) -> bool {
    match outcome {
        Outcome::Complete | Outcome::Wrong | Outcome::BrokenOff | Outcome::Refused(_) => false,
        Outcome::RankError(status) => matches!(status, 502 | 503),
        Outcome::GatewayError(_) => said.is_none_or(|said| !said.details.contains(TRAPPED)),
        Outcome::NoAnswer | Outcome::NotConnected | Outcome::TimedOut => true,
    }
}

fn explained<'a>(
    calls: &[Call],
    said: impl Fn(&Call) -> Option<&'a LoggedRequest>,
) -> BTreeMap<String, usize> {
    let mut explained = BTreeMap::new();
    let failed = calls
        .iter()
        .filter(|call| call.outcome != Outcome::Complete);
    for call in failed {
        let words = match said(call) {
            Some(said) => format!(
                "{}: {} {} after {} attempts",
                call.outcome, said.flags, said.details, said.attempts
            ),
            None => format!("{}: not in the gateway's log", call.outcome),
        };
        *explained.entry(words).or_insert(0) += 1;
    }
    explained
}

async fn left_counted(stage: &Stage) -> Result<BTreeMap<&'static str, u64>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut left = BTreeMap::new();
        for gauge in GAUGES {
            left.insert(gauge, stage.envoy.metric(gauge).await?);
        }
        if left.values().all(|left| *left == 0) || Instant::now() > end {
            return Ok(left);
        }
        sleep(LOOK_AGAIN).await;
    }
}

impl VictimReport {
    fn of(blow: &Blow, attempts: &[LoggedAttempt]) -> Self {
        let to_victims = attempts.iter().filter(|attempt| {
            attempt
                .rank
                .is_some_and(|rank| blow.victims.contains(&rank))
        });
        let times: Vec<SystemTime> = to_victims.map(|attempt| attempt.started).collect();
        let during = times
            .iter()
            .filter(|time| blow.until.is_none_or(|until| **time < until))
            .filter_map(|time| time.duration_since(blow.at).ok());
        let during: Vec<Duration> = during.collect();
        let back = blow.until.and_then(|until| {
            let after = times
                .iter()
                .filter_map(|time| time.duration_since(until).ok());
            after.min()
        });
        Self {
            ranks: blow.victims.len(),
            attempts: during.len(),
            last_sent_after_ms: during.iter().max().copied().map(milliseconds),
            attempts_by_second: by_second(&during),
            back_after_ms: back.map(milliseconds),
        }
    }
}

fn by_second(times: &[Duration]) -> Vec<usize> {
    let mut counts = Vec::new();
    for time in times {
        let second = usize::try_from(time.as_secs()).unwrap_or(0);
        if counts.len() <= second {
            counts.resize(second + 1, 0);
        }
        counts[second] += 1;
    }
    counts
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

impl ChaosSummary {
    /// A table for people, and what every failure was.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<14}{:>9}{:>10}{:>8}{:>7}{:>6}{:>9}{:>14}  {}\n",
            "case",
            "requests",
            "complete",
            "broken",
            "other",
            "lost",
            "retried",
            "slowest, ms",
            "sent to the ranks hit: attempts, last after"
        );
        for report in &self.cases {
            let _ = writeln!(table, "{}", report.row());
        }
        for report in &self.cases {
            for (words, count) in &report.explained {
                let _ = writeln!(table, "{}: {count} x {words}", report.case);
            }
            if report.left_counted.values().any(|left| *left > 0) {
                let _ = writeln!(
                    table,
                    "{}: still counted {:?}",
                    report.case, report.left_counted
                );
            }
        }
        table
    }
}

impl VictimReport {
    fn words(&self) -> String {
        let last = self
            .last_sent_after_ms
            .map_or_else(String::new, |last| format!(", {last:.0} ms"));
        let back = self
            .back_after_ms
            .map_or_else(String::new, |back| format!(", back after {back:.0} ms"));
        format!("{}{last}{back}", self.attempts)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn attempt(rank: &str, ms: u64) -> LoggedAttempt {
        LoggedAttempt {
            number: 1,
            status: 0,
            flags: String::new(),
            rank: rank.parse().ok(),
            started: UNIX_EPOCH + Duration::from_millis(ms),
        }
    }

    fn said(details: &str) -> LoggedRequest {
        LoggedRequest {
            number: 1,
            status: 503,
            flags: String::new(),
            details: details.to_string(),
            named: Vec::new(),
            rank: None,
            attempts: 1,
        }
    }

    #[test]
    fn attempts_count_from_the_blow_to_its_end() {
        let blow = Blow {
            at: UNIX_EPOCH + Duration::from_millis(1000),
            until: Some(UNIX_EPOCH + Duration::from_millis(5000)),
            victims: vec!["127.0.0.1:1".parse().unwrap()],
            calls: Vec::new(),
        };
        let attempts = [
            attempt("127.0.0.1:1", 999),
            attempt("127.0.0.1:1", 1500),
            attempt("127.0.0.1:2", 4900),
            attempt("127.0.0.1:1", 3200),
            attempt("127.0.0.1:1", 5250),
            attempt("127.0.0.1:1", 9000),
        ];
        let expected = VictimReport {
            ranks: 1,
            attempts: 2,
            last_sent_after_ms: Some(2200.0),
            attempts_by_second: vec![1, 0, 1],
            back_after_ms: Some(250.0),
        };
        assert_eq!(VictimReport::of(&blow, &attempts), expected);
    }

    #[test]
    fn only_what_another_rank_could_have_answered_is_lost() {
        let upstream = said("upstream_reset_before_response_started{connection_termination}");
        assert!(is_lost(Outcome::GatewayError(503), Some(&upstream)));
        assert!(is_lost(Outcome::GatewayError(503), None));
        assert!(!is_lost(Outcome::GatewayError(503), Some(&said(TRAPPED))));
        assert!(is_lost(Outcome::RankError(503), None));
        assert!(!is_lost(Outcome::RankError(500), None));
        assert!(!is_lost(Outcome::BrokenOff, None));
        assert!(is_lost(Outcome::TimedOut, None));
    }
}
