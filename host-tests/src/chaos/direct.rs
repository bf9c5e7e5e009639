//! Where prefill and decode are apart: whether a rank that only prefills was ever a destination.
//!
//! Three accounts that know nothing of each other: what these ranks say they got, what Envoy says it sent, and what the module
//! said to Envoy. A rank that dies tells no more, a request that reaches nobody is only in Envoy's, and a name that Envoy does not
//! follow only in the module's.

use std::net::SocketAddr;

use serde::Serialize;

use crate::gateway_log::{LoggedAttempt, LoggedRequest};
use crate::rank_process::LegReport;

/// What came to ranks that prefill, as it should and as it must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DirectReport {
    /// Requests for an answer that these ranks say they got, and that no sidecar sent.
    pub reached: u64,
    /// Attempts that Envoy says it made at one of them.
    pub sent: usize,
    /// Requests for which the module named one of them as a destination.
    pub named: usize,
    /// Prefill legs that these ranks say they got.
    pub legs: u64,
    /// Legs that sidecars say got an error or no answer.
    pub legs_failed: u64,
    /// Prompts that decode ranks prefilled because the leg had failed.
    pub legs_fallen_back: u64,
    /// Prompts that came to decode ranks without a rank to prefill.
    pub decode_only: u64,
}

impl DirectReport {
    /// From what the ranks of both roles say, the addresses of those that prefill, and Envoy's log.
    #[must_use]
    pub fn of(
        [prefill, decode]: [LegReport; 2],
        prefill_ranks: &[SocketAddr],
        requests: &[LoggedRequest],
        attempts: &[LoggedAttempt],
    ) -> Self {
        let prefills = |rank: &SocketAddr| prefill_ranks.contains(rank);
        let sent = attempts
            .iter()
            .filter(|attempt| attempt.rank.as_ref().is_some_and(prefills));
        let named = requests
            .iter()
            .filter(|request| request.named.iter().any(prefills));
        Self {
            reached: prefill.direct_requests,
            sent: sent.count(),
            named: named.count(),
            legs: prefill.prefill_legs,
            legs_failed: decode.legs_failed,
            legs_fallen_back: decode.legs_fallen_back,
            decode_only: decode.decode_only,
        }
    }

    /// Whether one was a destination, by whichever account.
    #[must_use]
    pub fn has_direct(&self) -> bool {
        self.reached > 0 || self.sent > 0 || self.named > 0
    }

    /// The three accounts, for a table.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{}/{}/{}", self.reached, self.sent, self.named)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const PREFILL: &str = "127.0.0.1:8000";
    const DECODE: &str = "127.0.0.2:8000";

    fn attempt(rank: &str, prefiller: &str) -> LoggedAttempt {
        LoggedAttempt {
            number: 1,
            status: 200,
            flags: String::new(),
            rank: rank.parse().ok(),
            prefiller: prefiller.parse().ok(),
            started: UNIX_EPOCH,
        }
    }

    fn request(named: &[&str]) -> LoggedRequest {
        LoggedRequest {
            number: 1,
            status: 200,
            flags: String::new(),
            details: String::new(),
            named: named.iter().filter_map(|rank| rank.parse().ok()).collect(),
            rank: None,
            attempts: 1,
        }
    }

    fn report(direct: u64, requests: &[LoggedRequest], attempts: &[LoggedAttempt]) -> DirectReport {
        let prefill = LegReport {
            direct_requests: direct,
            prefill_legs: 1,
            ..LegReport::default()
        };
        let ranks = [PREFILL.parse().unwrap()];
        DirectReport::of([prefill, LegReport::default()], &ranks, requests, attempts)
    }

    #[test]
    fn a_leg_of_a_decode_rank_is_not_direct() {
        let report = report(0, &[request(&[DECODE])], &[attempt(DECODE, PREFILL)]);
        assert!(!report.has_direct(), "{report:?}");
        assert_eq!(report.legs, 1);
    }

    #[test]
    fn each_account_alone_shows_a_direct_request() {
        let by_ranks = report(1, &[request(&[DECODE])], &[attempt(DECODE, PREFILL)]);
        let by_envoy = report(0, &[request(&[DECODE])], &[attempt(PREFILL, "-")]);
        let by_module = report(0, &[request(&[DECODE, PREFILL])], &[attempt(DECODE, "-")]);
        for (report, words) in [
            (by_ranks, "1/0/0"),
            (by_envoy, "0/1/0"),
            (by_module, "0/0/1"),
        ] {
            assert!(report.has_direct(), "{report:?}");
            assert_eq!(report.words(), words);
        }
    }
}
