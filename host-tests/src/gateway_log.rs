//! What Envoy says became of each request, and of each attempt to get it answered.
//!
//! Only Envoy knows of attempts that failed, and to which rank they went and when.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// A client's own number of its request.
pub const NUMBER_HEADER: &str = "x-request-number";
pub(crate) const REQUESTS_FILE: &str = "requests.log";
pub(crate) const ATTEMPTS_FILE: &str = "attempts.log";

/// Envoy writes its logs every ten seconds unless told otherwise; tests tell it otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Envoy's flag of a request for which the cluster had no endpoint.
const NO_ENDPOINT: &str = "UH";

/// A request, as Envoy logged it at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The client's number.
    pub number: u64,
    /// What the client got; 0 when it left before.
    pub status: u16,
    /// Envoy's response flags, such as `UF,URX`; `-` for none.
    pub flags: String,
    /// Envoy's own words for how the answer came about, such as `via_upstream`.
    pub details: String,
    /// The ranks that the picker named, best first; none for a request that it did not pick for.
    pub named: Vec<SocketAddr>,
    /// The rank of the last attempt.
    pub rank: Option<SocketAddr>,
    /// Attempts made.
    pub attempts: u64,
}

/// One attempt, as Envoy logged it at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedAttempt {
    /// The client's number of the request.
    pub number: u64,
    /// What the rank answered; 0 when it did not.
    pub status: u16,
    /// Envoy's response flags.
    pub flags: String,
    /// The rank; none when there was none to try.
    pub rank: Option<SocketAddr>,
    /// The rank that was to prefill for it, where that is apart.
    pub prefiller: Option<SocketAddr>,
    /// When it began.
    pub started: SystemTime,
}

impl LoggedRequest {
    /// Attempts of which Envoy writes a line: it counts one for which the cluster had no endpoint, and writes none.
    fn attempts_logged(&self) -> u64 {
        let has_none = self.flags.split(',').any(|flag| flag == NO_ENDPOINT);
        self.attempts.saturating_sub(u64::from(has_none))
    }
}

impl LoggedAttempt {
    /// Whether one of these ranks was to answer, or to prefill for the one that was.
    #[must_use]
    pub fn is_for(&self, ranks: &[SocketAddr]) -> bool {
        let mut parts = [self.rank, self.prefiller].into_iter().flatten();
        parts.any(|rank| ranks.contains(&rank))
    }
}

/// The logs of one Envoy; they go away when this is dropped.
#[derive(Debug)]
pub struct GatewayLog(TempDir);

impl GatewayLog {
    /// An empty folder, for [`Bootstrap::logs`](crate::bootstrap::Bootstrap::logs).
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// Where Envoy writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The requests logged so far, in the order of their ends.
    ///
    /// # Errors
    /// When a line is not what the bootstrap asked for.
    pub fn requests(&self) -> Result<Vec<LoggedRequest>> {
        read(&self.folder().join(REQUESTS_FILE), RequestLine::into_logged)
    }

    /// The attempts logged so far, in the order of their ends.
    ///
    /// # Errors
    /// As there.
    pub fn attempts(&self) -> Result<Vec<LoggedAttempt>> {
        read(&self.folder().join(ATTEMPTS_FILE), AttemptLine::into_logged)
    }

    /// Waits until the requests logged are as wanted.
    ///
    /// # Errors
    /// When they are not in half a minute.
    pub async fn wait_until(&self, is_wanted: impl Fn(&[LoggedRequest]) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let requests = self.requests()?;
            if is_wanted(&requests) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{} requests are logged and not as wanted", requests.len());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until so many requests are logged, and all attempts that they tell of.
    ///
    /// # Errors
    /// When they do not come in half a minute.
    pub async fn wait_for(&self, requests: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let (logged, attempts) = (self.requests()?, self.attempts()?.len() as u64);
            let made: u64 = logged.iter().map(LoggedRequest::attempts_logged).sum();
            if logged.len() >= requests && attempts >= made {
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "{} of {requests} requests and {attempts} of {made} attempts are logged",
                    logged.len()
                );
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Envoy leaves out the value of a field that is not known, or writes null.
#[derive(Deserialize)]
struct RequestLine {
    number: Option<String>,
    status: Option<u16>,
    flags: Option<String>,
    details: Option<String>,
    named: Option<String>,
    rank: Option<String>,
    attempts: Option<u64>,
}

#[derive(Deserialize)]
struct AttemptLine {
    number: Option<String>,
    status: Option<u16>,
    flags: Option<String>,
    rank: Option<String>,
    prefiller: Option<String>,
    started: String,
}

impl RequestLine {
    /// Nothing for a request of somebody else, who does not number.
    fn into_logged(self) -> Result<Option<LoggedRequest>> {
        let Some(number) = number(self.number.as_deref()) else {
            return Ok(None);
        };
        Ok(Some(LoggedRequest {
            number,
            status: self.status.unwrap_or(0),
            flags: self.flags.unwrap_or_default(),
            details: self.details.unwrap_or_default(),
            named: self
                .named
                .iter()
                .flat_map(|named| named.split(','))
                .filter_map(|rank| rank.parse().ok())
                .collect(),
            rank: self.rank.and_then(|rank| rank.parse().ok()),
            attempts: self.attempts.unwrap_or(0),
        }))
    }
}

impl AttemptLine {
    fn into_logged(self) -> Result<Option<LoggedAttempt>> {
        let Some(number) = number(self.number.as_deref()) else {
            return Ok(None);
        };
        let seconds: f64 = self.started.parse().context("no time of start")?;
        Ok(Some(LoggedAttempt {
            number,
            status: self.status.unwrap_or(0),
            flags: self.flags.unwrap_or_default(),
            rank: self.rank.and_then(|rank| rank.parse().ok()),
            prefiller: self.prefiller.and_then(|rank| rank.parse().ok()),
            started: UNIX_EPOCH + Duration::from_secs_f64(seconds),
        }))
    }
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}

/// Reads the whole lines of a file; the last may still be in the writing.
fn read<Line: DeserializeOwned, T>(
    path: &Path,
    logged: impl Fn(Line) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().map(|line| {
        let value: Value = serde_json::from_str(line)?;
        logged(serde_json::from_value(value)?).with_context(|| format!("in {line}"))
    });
    lines.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(requests: &str, attempts: &str) -> GatewayLog {
        let log = GatewayLog::new().unwrap();
        std::fs::write(log.folder().join(REQUESTS_FILE), requests).unwrap();
        std::fs::write(log.folder().join(ATTEMPTS_FILE), attempts).unwrap();
        log
    }

    #[test]
    fn a_line_in_the_writing_and_requests_without_a_number_are_left_out() {
        let line = r#"{"number":"7","status":503,"flags":"UF","details":"x","rank":"127.0.0.1:8000","attempts":3}"#;
        let log = log(
            &format!("{line}\n{{\"number\":null,\"status\":200}}\n{{\"num"),
            "{\"number\":\"7\",\"rank\":null,\"prefiller\":\"127.0.0.1:8001\",\"started\":\"12.250000\"}\n",
        );
        let requests = log.requests().unwrap();
        assert_eq!(requests.len(), 1);
        assert_eq!((requests[0].number, requests[0].attempts), (7, 3));
        assert_eq!(requests[0].rank, "127.0.0.1:8000".parse().ok());
        let attempts = log.attempts().unwrap();
        assert_eq!(
            attempts[0].started,
            UNIX_EPOCH + Duration::from_millis(12_250)
        );
        assert_eq!((attempts[0].rank, attempts[0].status), (None, 0));
        assert_eq!(attempts[0].prefiller, "127.0.0.1:8001".parse().ok());
    }

    #[tokio::test]
    async fn no_line_is_awaited_of_an_attempt_without_an_endpoint() {
        let line = r#"{"number":"7","status":503,"flags":"UF,UH","details":"x","attempts":2}"#;
        let attempt = "{\"number\":\"7\",\"rank\":null,\"started\":\"12.250000\"}\n";
        let log = log(&format!("{line}\n"), attempt);
        assert!(log.wait_for(1).await.is_ok());
    }

    #[test]
    fn a_log_that_is_not_what_was_asked_for_is_an_error() {
        assert!(log("text\n", "").requests().is_err());
        assert!(
            log("", "{\"number\":\"7\",\"started\":\"yesterday\"}\n")
                .attempts()
                .is_err()
        );
        assert_eq!(log("", "").requests().unwrap(), []);
    }
}
