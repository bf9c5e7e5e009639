//! What became of every request of a case.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::blow::Blow;
use super::case::Case;
use super::direct::DirectReport;
use super::stage::Stage;
use crate::caller::Call;
use crate::gateway_log::{LoggedAttempt, LoggedRequest};
use crate::outcome::{Outcome, Outcomes};
use crate::sim::Role;
use crate::summary::Ttft;

/// What Envoy says of a stream whose filter trapped.
const TRAPPED: &str = "wasm_fail_stream";
/// What Envoy sends again, by `manifests/envoy/rank-router.yaml`.
const SENT_AGAIN: &[u16] = &[502, 503];
/// The same by `disaggregated.yaml`: also the error of a rank that was to prefill.
const SENT_AGAIN_APART: &[u16] = &[500, 502, 503];
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
    /// have been sent to another rank. While no rank is left that could answer, none is lost.
    pub lost: usize,
    /// What came to ranks that only prefill, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill: Option<DirectReport>,
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
    /// Version of the sidecars before decode ranks, where prefill and decode are apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<String>,
    /// The cases.
    pub cases: Vec<CaseReport>,
}

impl CaseReport {
    /// Counts, once all requests have ended.
    ///
    /// # Errors
    /// When Envoy's log cannot be read or its admin interface does not answer.
    pub async fn of(case: Case, stage: &mut Stage, calls: &[Call], blow: &Blow) -> Result<Self> {
        stage.log.wait_for(calls.len()).await?;
        let (logged, attempts) = (stage.log.requests()?, stage.log.attempts()?);
        let prefill = direct(stage, &logged, &attempts).await?;
        let sent_again = match prefill {
            Some(_) => SENT_AGAIN_APART,
            None => SENT_AGAIN,
        };
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
                .filter(|call| !blow.excuses(call))
                .filter(|call| is_lost(call.outcome, said(call), sent_again))
                .count(),
            prefill,
            retried: logged.iter().filter(|request| request.attempts > 1).count(),
            explained: explained(calls, said),
            victims: (!blow.victims.is_empty()).then(|| VictimReport::of(blow, &attempts)),
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
            "{:<18}{:>9}{complete:>10}{broken:>8}{other:>7}{:>6}{:>9}{:>14.0}{}  {}",
            self.case,
            self.requests,
            self.lost,
            self.retried,
            self.slowest_first_byte_ms,
            self.prefill.map_or_else(String::new, prefill_columns),
            victims.unwrap_or_default(),
        )
    }

    /// What happened that must not, in words; nothing in a case that went well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let wrong = self.outcomes.count(Outcome::Wrong);
        if self.lost > 0 || wrong > 0 {
            faults.push(format!(
                "{} requests were lost and {wrong} answered wrongly",
                self.lost
            ));
        }
        if let Some(prefill) = self.prefill {
            if prefill.has_direct() {
                faults.push(format!(
                    "ranks that prefill were destinations of requests: {} reached them, {} were sent, {} named",
                    prefill.reached, prefill.sent, prefill.named
                ));
            }
            // Else nothing was at stake.
            if prefill.legs == 0 {
                faults.push("no prompt was prefilled apart".to_string());
            }
        }
        faults
    }
}

fn prefill_columns(prefill: DirectReport) -> String {
    format!(
        "{:>7}{:>8}{:>10}",
        prefill.legs,
        prefill.legs_failed,
        prefill.words()
    )
}

/// Whether the gateway failed the client although a rank could have been asked again; a trap is none of that: there the
/// gateway itself is hit.
fn is_lost(outcome: Outcome, said: Option<&LoggedRequest>, sent_again: &[u16]) -> bool {
    match outcome {
        Outcome::Complete | Outcome::Wrong | Outcome::BrokenOff | Outcome::Refused(_) => false,
        Outcome::RankError(status) => sent_again.contains(&status),
        Outcome::GatewayError(_) => said.is_none_or(|said| !said.details.contains(TRAPPED)),
        Outcome::NoAnswer | Outcome::NotConnected | Outcome::TimedOut => true,
    }
}

async fn direct(
    stage: &mut Stage,
    requests: &[LoggedRequest],
    attempts: &[LoggedAttempt],
) -> Result<Option<DirectReport>> {
    if !stage.is_apart() {
        return Ok(None);
    }
    let prefill = stage.all_of(Role::Prefill).into_iter();
    let ranks: Vec<SocketAddr> = prefill.flat_map(|process| process.ranks()).collect();
    let legs = [
        stage.legs(Role::Prefill).await?,
        stage.legs(Role::Decode).await?,
    ];
    Ok(Some(DirectReport::of(legs, &ranks, requests, attempts)))
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

pub(super) async fn left_counted(stage: &Stage) -> Result<BTreeMap<&'static str, u64>> {
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
        let to_victims = attempts
            .iter()
            .filter(|attempt| attempt.is_for(&blow.victims));
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
    /// A table for people, and what every failure was. `direct` are the requests that went straight to ranks that only prefill:
    /// what these say, what Envoy sent, what the module named.
    #[must_use]
    pub fn table(&self) -> String {
        let of_prefill = match self.sidecar {
            Some(_) => format!("{:>7}{:>8}{:>10}", "legs", "failed", "direct"),
            None => String::new(),
        };
        let mut table = format!(
            "{:<18}{:>9}{:>10}{:>8}{:>7}{:>6}{:>9}{:>14}{of_prefill}  {}\n",
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
            prefiller: None,
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
            leaves_nobody: false,
        };
        let leg = LoggedAttempt {
            prefiller: "127.0.0.1:1".parse().ok(),
            ..attempt("127.0.0.1:2", 1500)
        };
        let attempts = [
            attempt("127.0.0.1:1", 999),
            leg,
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
        let trapped = said(TRAPPED);
        let is_lost = |outcome, said| is_lost(outcome, said, SENT_AGAIN);
        assert!(is_lost(Outcome::GatewayError(503), Some(&upstream)));
        assert!(is_lost(Outcome::GatewayError(503), None));
        assert!(!is_lost(Outcome::GatewayError(503), Some(&trapped)));
        assert!(is_lost(Outcome::RankError(503), None));
        assert!(!is_lost(Outcome::RankError(500), None));
        assert!(!is_lost(Outcome::BrokenOff, None));
        assert!(is_lost(Outcome::TimedOut, None));
        let of_prefill = super::is_lost(Outcome::RankError(500), None, SENT_AGAIN_APART);
        assert!(of_prefill, "it may be the error of a prefill");
    }

    #[test]
    fn only_while_nobody_can_answer_a_request_is_excused() {
        let second = |number| UNIX_EPOCH + Duration::from_secs(number);
        let call = |sent| Call {
            number: 1,
            sent: second(sent),
            first_byte: None,
            took: Duration::from_secs(2),
            rank: None,
            tokens: None,
            outcome: Outcome::NoAnswer,
        };
        let blow = |leaves_nobody| Blow {
            at: second(10),
            until: Some(second(20)),
            victims: Vec::new(),
            calls: Vec::new(),
            leaves_nobody,
        };
        for (sent, is_excused) in [(7, false), (9, true), (19, true), (20, false)] {
            assert_eq!(blow(true).excuses(&call(sent)), is_excused, "{sent}");
            assert!(!blow(false).excuses(&call(sent)));
        }
    }

    #[test]
    fn a_case_goes_ill_by_a_lost_request_a_direct_one_or_without_a_leg() {
        let well = DirectReport {
            legs: 1,
            ..DirectReport::default()
        };
        let report = |lost, prefill| CaseReport {
            case: "kill-rank".to_string(),
            requests: 1,
            outcomes: [Outcome::Complete].into_iter().collect(),
            lost,
            prefill: Some(prefill),
            retried: 0,
            explained: BTreeMap::new(),
            victims: None,
            first_byte_ms: Ttft::default(),
            slowest_first_byte_ms: 0.0,
            left_counted: BTreeMap::new(),
        };
        assert!(report(0, well).faults().is_empty());
        assert_eq!(report(1, well).faults().len(), 1);
        let direct = DirectReport { sent: 1, ..well };
        assert_eq!(report(0, direct).faults().len(), 1);
        assert_eq!(report(0, DirectReport::default()).faults().len(), 1);
    }
}
