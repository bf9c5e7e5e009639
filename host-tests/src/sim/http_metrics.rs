//! What the HTTP server in front of an engine counts: families that have series only once a handler was called.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::metrics::{Histogram, number};

/// Bounds of the histogram by handler.
const BOUNDS: [f64; 4] = [0.1, 0.5, 1.0, f64::INFINITY];

const DURATION: &str = "http_request_duration_seconds";

/// One answered request.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    /// The route.
    pub(super) handler: &'static str,
    pub(super) method: &'static str,
    pub(super) status: u16,
    /// As the content-length header says, or 0.
    pub(super) request_bytes: u64,
    /// As the content-length header says, or 0.
    pub(super) response_bytes: u64,
    pub(super) seconds: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    count: u64,
    request_bytes: u64,
    response_bytes: u64,
}

/// Requests by handler.
#[derive(Debug, Default)]
pub(super) struct HttpMetrics {
    requests: BTreeMap<(&'static str, &'static str, u16), u64>,
    sizes: BTreeMap<&'static str, Sizes>,
    durations: BTreeMap<(&'static str, &'static str), Histogram>,
}

impl HttpMetrics {
    pub(super) fn note(&mut self, answered: &Answered) {
        let Answered {
            handler,
            method,
            status,
            request_bytes,
            response_bytes,
            seconds,
        } = *answered;
        *self
            .requests
            .entry((handler, method, status / 100))
            .or_default() += 1;
        let sizes = self.sizes.entry(handler).or_default();
        sizes.count += 1;
        sizes.request_bytes += request_bytes;
        sizes.response_bytes += response_bytes;
        self.durations
            .entry((handler, method))
            .or_default()
            .observe(&BOUNDS, seconds);
    }

    /// Series of a family of the template; empty for families of others. `_created` families follow their family.
    pub(super) fn samples(&self, family: &str, started: f64) -> String {
        match family {
            "http_requests_total" => self.totals(started),
            "http_request_size_bytes" => {
                self.sizes_of(family, started, |sizes| sizes.request_bytes)
            }
            "http_response_size_bytes" => {
                self.sizes_of(family, started, |sizes| sizes.response_bytes)
            }
            DURATION => self.durations(started),
            _ => String::new(),
        }
    }

    fn totals(&self, started: f64) -> String {
        let mut text = String::new();
        for ((handler, method, class), count) in &self.requests {
            let labels = format!("handler=\"{handler}\",method=\"{method}\",status=\"{class}xx\"");
            let _ = writeln!(
                text,
                "http_requests_total{{{labels}}} {}",
                number(*count as f64)
            );
        }
        let labels = self.requests.keys().map(|(handler, method, class)| {
            format!("handler=\"{handler}\",method=\"{method}\",status=\"{class}xx\"")
        });
        text + &created(
            "http_requests",
            "Total number of requests by method, status and handler.",
            started,
            labels,
        )
    }

    fn sizes_of(&self, family: &str, started: f64, bytes: impl Fn(&Sizes) -> u64) -> String {
        let mut text = String::new();
        for (handler, sizes) in &self.sizes {
            let _ = writeln!(
                text,
                "{family}_count{{handler=\"{handler}\"}} {}",
                number(sizes.count as f64)
            );
            let _ = writeln!(
                text,
                "{family}_sum{{handler=\"{handler}\"}} {}",
                number(bytes(sizes) as f64)
            );
        }
        let direction = if family.contains("request") {
            "incoming requests"
        } else {
            "outgoing responses"
        };
        let help = format!(
            "Content length of {direction} by handler. Only value of header is respected. Otherwise ignored. \
             No percentile calculated. "
        );
        let labels = self
            .sizes
            .keys()
            .map(|handler| format!("handler=\"{handler}\""));
        text + &created(family, &help, started, labels)
    }

    fn durations(&self, started: f64) -> String {
        const HELP: &str = "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. ";
        let mut text = String::new();
        for ((handler, method), histogram) in &self.durations {
            let labels = |le: &str| format!("handler=\"{handler}\",{le}method=\"{method}\"");
            for (bound, count) in BOUNDS.iter().zip(&histogram.buckets) {
                let bound = if bound.is_finite() {
                    format!("{bound:?}")
                } else {
                    "+Inf".to_string()
                };
                let _ = writeln!(
                    text,
                    "{DURATION}_bucket{{{}}} {}",
                    labels(&format!("le=\"{bound}\",")),
                    number(*count as f64)
                );
            }
            let _ = writeln!(
                text,
                "{DURATION}_count{{{}}} {}",
                labels(""),
                number(histogram.count() as f64)
            );
            let _ = writeln!(
                text,
                "{DURATION}_sum{{{}}} {}",
                labels(""),
                number(histogram.sum)
            );
        }
        let labels = self
            .durations
            .keys()
            .map(|(handler, method)| format!("handler=\"{handler}\",method=\"{method}\""));
        text + &created(DURATION, HELP, started, labels)
    }
}

/// The family that tells when each series began; nothing as long as there is none.
fn created(family: &str, help: &str, started: f64, labels: impl Iterator<Item = String>) -> String {
    let series: String = labels
        .map(|labels| format!("{family}_created{{{labels}}} {}\n", number(started)))
        .collect();
    if series.is_empty() {
        return series;
    }
    format!("# HELP {family}_created {help}\n# TYPE {family}_created gauge\n{series}")
}
