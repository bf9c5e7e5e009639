//! What a client got for a request: every way in which it can end.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// The end of one request, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// 200, whole, and the answer to this very request.
    Complete,
    /// 200 and whole, but not the answer that was asked for.
    Wrong,
    /// 4xx, whoever it came from.
    Refused(u16),
    /// 5xx that a rank gave.
    RankError(u16),
    /// 5xx that Envoy gave by itself.
    GatewayError(u16),
    /// The answer had begun, then the connection or stream was cut.
    BrokenOff,
    /// The connection was closed or reset before an answer began.
    NoAnswer,
    /// The gateway could not be connected to.
    NotConnected,
    /// Nothing came, or nothing more, for longer than the client waits.
    TimedOut,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Wrong => "wrong content",
            Self::Refused(_) => "refused",
            Self::RankError(_) => "rank's error",
            Self::GatewayError(_) => "gateway's error",
            Self::BrokenOff => "broken off",
            Self::NoAnswer => "no answer",
            Self::NotConnected => "not connected",
            Self::TimedOut => "timed out",
        }
    }

    fn status(self) -> Option<u16> {
        match self {
            Self::Refused(status) | Self::RankError(status) | Self::GatewayError(status) => {
                Some(status)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status() {
            Some(status) => write!(formatter, "{} {status}", self.name()),
            None => formatter.write_str(self.name()),
        }
    }
}

/// Outcomes of many requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes(BTreeMap<String, usize>);

impl Outcomes {
    /// How many had this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.0.get(&outcome.to_string()).copied().unwrap_or(0)
    }
}

impl FromIterator<Outcome> for Outcomes {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut counts = BTreeMap::new();
        for outcome in outcomes {
            *counts.entry(outcome.to_string()).or_insert(0) += 1;
        }
        Self(counts)
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        formatter.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_by_kind_and_status() {
        let all = [
            Outcome::Complete,
            Outcome::GatewayError(503),
            Outcome::GatewayError(504),
            Outcome::Complete,
        ];
        let outcomes: Outcomes = all.into_iter().collect();
        assert_eq!(outcomes.count(Outcome::Complete), 2);
        assert_eq!(outcomes.count(Outcome::RankError(503)), 0);
        assert_eq!(
            outcomes.to_string(),
            "2 complete, 1 gateway's error 503, 1 gateway's error 504"
        );
    }
}
