//! The metrics page of a simulated rank.
//!
//! The page of a real vLLM after its start is the template: every family, help text, label and bucket stands there, and
//! what this rank counts is filled in. What it does not count keeps the value of an idle server.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::PodsConfig;
use super::engine::BLOCK_TOKENS;
use super::http_metrics::HttpMetrics;
use super::rank_stats::RankStats;

const TEMPLATE: &str = include_str!("../../data/vllm-0.25.1/metrics_idle.txt");
/// The model that the template was recorded with.
const RECORDED_MODEL: &str = "sim/qwen-1b";

/// Upper bounds of each histogram's buckets.
static BOUNDS: LazyLock<HashMap<&'static str, Vec<f64>>> = LazyLock::new(|| {
    let mut bounds: HashMap<&str, Vec<f64>> = HashMap::new();
    for line in TEMPLATE.lines() {
        if let (Some((name, _)), Some(bound)) = (line.split_once("_bucket{"), label(line, "le")) {
            bounds
                .entry(name)
                .or_default()
                .push(bound.parse().unwrap_or(f64::INFINITY));
        }
    }
    bounds
});

/// A histogram with cumulative buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    pub(super) buckets: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    pub(super) fn observe(&mut self, bounds: &[f64], value: f64) {
        self.buckets.resize(bounds.len(), 0);
        for (bucket, bound) in self.buckets.iter_mut().zip(bounds) {
            *bucket += u64::from(value <= *bound);
        }
        self.sum += value;
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.last().copied().unwrap_or(0)
    }
}

/// What a rank counts beside its engine.
#[derive(Debug)]
pub(super) struct Metrics {
    started: f64,
    histograms: HashMap<&'static str, Histogram>,
    finished: BTreeMap<&'static str, u64>,
    pub(super) http: HttpMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs_f64();
        Self {
            started,
            histograms: HashMap::new(),
            finished: BTreeMap::new(),
            http: HttpMetrics::default(),
        }
    }
}

impl Metrics {
    /// Adds a value to a histogram of the template.
    pub(super) fn observe(&mut self, histogram: &'static str, value: f64) {
        let bounds = BOUNDS.get(histogram).map(Vec::as_slice).unwrap_or_default();
        self.histograms
            .entry(histogram)
            .or_default()
            .observe(bounds, value);
    }

    /// Counts a request that ended, by vLLM's reason.
    pub(super) fn finished(&mut self, reason: &'static str) {
        *self.finished.entry(reason).or_default() += 1;
    }

    /// The page.
    pub(super) fn page(&self, stats: &RankStats, engine: usize, config: &PodsConfig) -> String {
        let mut page = String::with_capacity(TEMPLATE.len() * 2);
        for line in TEMPLATE.lines() {
            if line.starts_with('#') {
                let _ = writeln!(page, "{line}");
                let family = line
                    .strip_prefix("# TYPE ")
                    .and_then(|rest| rest.split(' ').next());
                page.push_str(
                    &family
                        .map(|family| self.http.samples(family, self.started))
                        .unwrap_or_default(),
                );
                continue;
            }
            let Some((series, recorded)) = line.rsplit_once(' ') else {
                continue;
            };
            let value = self
                .value(series, stats)
                .unwrap_or_else(|| recorded.to_string());
            let _ = writeln!(page, "{} {value}", configured(series, engine, config));
        }
        page
    }

    fn value(&self, series: &str, stats: &RankStats) -> Option<String> {
        let name = series.split('{').next()?;
        if name.ends_with("_created") || name == "process_start_time_seconds" {
            return Some(number(self.started));
        }
        self.histogram_value(name, series)
            .or_else(|| self.engine_value(name, series, stats))
            .map(number)
    }

    fn histogram_value(&self, name: &str, series: &str) -> Option<f64> {
        let (family, part) = name.rsplit_once('_')?;
        let histogram = self.histograms.get(family)?;
        match part {
            "count" => Some(histogram.count() as f64),
            "sum" => Some(histogram.sum),
            "bucket" => {
                let bound: f64 = label(series, "le")?.parse().unwrap_or(f64::INFINITY);
                let place = BOUNDS
                    .get(family)?
                    .iter()
                    .position(|known| *known == bound)?;
                histogram.buckets.get(place).map(|count| *count as f64)
            }
            _ => None,
        }
    }

    fn engine_value(&self, name: &str, series: &str, stats: &RankStats) -> Option<f64> {
        let counts = &stats.counts;
        let cached = counts
            .prompt_tokens
            .saturating_sub(counts.computed_prompt_tokens);
        let whole = match name.strip_prefix("vllm:")? {
            "num_requests_running" => stats.running as u64,
            "num_requests_waiting" => stats.waiting as u64,
            "num_requests_waiting_by_reason" => match label(series, "reason")? {
                "capacity" => (stats.waiting - stats.transferring) as u64,
                "deferred" => stats.transferring as u64,
                _ => return None,
            },
            "kv_cache_usage_perc" => return Some(stats.cache_usage),
            "prefix_cache_queries_total" => counts.queries,
            "prefix_cache_hits_total" => counts.hits,
            "external_prefix_cache_queries_total" | "external_prefix_cache_hits_total" => {
                counts.received_prompt_tokens
            }
            "prompt_tokens_cached_total" => cached,
            "num_preemptions_total" => counts.preemptions,
            "prompt_tokens_total" => counts.prompt_tokens,
            "generation_tokens_total" => counts.generation_tokens,
            "prompt_tokens_by_source_total" => match label(series, "source")? {
                "local_compute" => counts.computed_prompt_tokens,
                "local_cache_hit" => cached.saturating_sub(counts.received_prompt_tokens),
                "external_kv_transfer" => counts.received_prompt_tokens,
                _ => 0,
            },
            "request_success_total" => self
                .finished
                .get(label(series, "finished_reason")?)
                .copied()
                .unwrap_or(0),
            _ => return None,
        };
        Some(whole as f64)
    }
}

/// A value as Prometheus's Python client writes it: from a million on with an exponent.
pub(super) fn number(value: f64) -> String {
    let plain = format!("{value:?}");
    match plain.split_once('.') {
        Some((whole, part)) if value > 0.0 && whole.len() > 6 => {
            let (first, rest) = whole.split_at(1);
            let mantissa = format!("{first}.{rest}{part}");
            let exponent = whole.len() - 1;
            format!("{}e+0{exponent}", mantissa.trim_end_matches(['0', '.']))
        }
        _ => plain,
    }
}

/// The value of a label of a series.
fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = series.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// A series of the template with this rank's model, number and cache.
fn configured(series: &str, engine: usize, config: &PodsConfig) -> String {
    let series = series.replace(RECORDED_MODEL, &config.model);
    let series = series.replace("engine=\"0\"", &format!("engine=\"{engine}\""));
    if !series.starts_with("vllm:cache_config_info") {
        return series;
    }
    let blocks = config.limits().num_gpu_blocks;
    let set = |series: String, name: &str, value: String| match label(&series, name) {
        Some(old) => series.replace(&format!("{name}=\"{old}\""), &format!("{name}=\"{value}\"")),
        None => series,
    };
    let series = set(series, "num_gpu_blocks", blocks.to_string());
    set(
        series,
        "kv_cache_size_tokens",
        (blocks as u64 * BLOCK_TOKENS).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_recorded() {
        for (value, written) in [
            (0.0, "0.0"),
            (0.0009359250000500197, "0.0009359250000500197"),
            (156_658.0, "156658.0"),
            (1_000_000.0, "1e+06"),
            (9_667_272_704.0, "9.667272704e+09"),
            (1_795_578_310.37, "1.79557831037e+09"),
        ] {
            assert_eq!(number(value), written);
        }
    }
}
