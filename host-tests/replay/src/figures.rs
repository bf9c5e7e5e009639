//! What a run is judged by.

use serde::Serialize;

use crate::profile::Profile;
use crate::simulation::{Outcome, Record};

/// Time to the first token that a user accepts whatever the prompt.
const FIRST_TOKEN_LIMIT_MS: f64 = 2000.0;

/// The figures of one run, over all its requests, the first on cold caches included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Share of the prompts' tokens that were found in a cache.
    pub hit_rate: f64,
    /// Mean time to the first token, seconds, front end included.
    pub ttft_mean_s: f64,
    /// Its median.
    pub ttft_p50_s: f64,
    /// Its 90th percentile.
    pub ttft_p90_s: f64,
    /// Its 99th percentile.
    pub ttft_p99_s: f64,
    /// Median time of each further token of an answer, milliseconds; 0 where no answer has two.
    pub tpot_p50_ms: f64,
    /// Its 99th percentile.
    pub tpot_p99_ms: f64,
    /// Share of the requests that met the engine's limits: on the dense engine a first token within 2 s and 1 s for each
    /// 10,000 tokens of the prompt, and 50 ms for each further token; on the wide-EP one 2 s, 4 s and 300 ms.
    pub goodput: f64,
    /// Tokens computed by the rank that computed most, as a multiple of the mean.
    pub max_mean_load: f64,
    /// Sequences thrown back for want of room, for each request.
    pub preemptions: f64,
    /// Where prefill and decode are apart; then the load above is that of the prefill ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart: Option<Apart>,
}

/// What there is to say of decode ranks beside prefill ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Apart {
    /// Tokens computed by the decode rank that computed most, of prompts and answers, as a multiple of the mean.
    pub decode_max_mean_load: f64,
    /// Share of the requests that had no prefill rank.
    pub decode_only: f64,
}

impl Figures {
    /// The figures of a run with that engine.
    #[must_use]
    pub fn of(outcome: &Outcome, profile: &Profile) -> Self {
        let records = &outcome.records;
        let first = sorted(records.iter().map(|r| first_token_ms(r) / 1000.0));
        let per_token = sorted(records.iter().filter_map(token_ms));
        let prompts: u64 = records.iter().map(|r| r.usage.prompt_tokens).sum();
        let cached: u64 = records.iter().map(|r| r.usage.cached_tokens).sum();
        let good = records.iter().filter(|r| is_good(r, profile)).count();
        Self {
            hit_rate: ratio(cached as f64, prompts as f64),
            ttft_mean_s: ratio(first.iter().sum(), first.len() as f64),
            ttft_p50_s: percentile(&first, 0.5),
            ttft_p90_s: percentile(&first, 0.9),
            ttft_p99_s: percentile(&first, 0.99),
            tpot_p50_ms: percentile(&per_token, 0.5),
            tpot_p99_ms: percentile(&per_token, 0.99),
            goodput: ratio(good as f64, records.len() as f64),
            max_mean_load: max_to_mean(&outcome.computed_tokens),
            preemptions: ratio(outcome.preemptions as f64, records.len() as f64),
            apart: None,
        }
    }
}

fn first_token_ms(record: &Record) -> f64 {
    record.first_token_ms - record.arrived_ms
}

/// Mean time of each token behind the first.
fn token_ms(record: &Record) -> Option<f64> {
    let further = record.usage.output_tokens.checked_sub(1)?;
    let ms = record.ended_ms - record.first_token_ms;
    (further > 0).then(|| ms / further as f64)
}

fn is_good(record: &Record, profile: &Profile) -> bool {
    let prompt_tokens = record.usage.prompt_tokens as f64;
    let limit_ms = FIRST_TOKEN_LIMIT_MS + profile.first_token_limit_ms_per_token * prompt_tokens;
    let is_fluent = token_ms(record).is_none_or(|ms| ms <= profile.token_limit_ms);
    first_token_ms(record) <= limit_ms && is_fluent
}

/// The greatest as a multiple of the mean; 0 where all are 0.
pub(crate) fn max_to_mean(loads: &[u64]) -> f64 {
    let total: u64 = loads.iter().sum();
    let most = loads.iter().max().copied().unwrap_or(0);
    ratio(most as f64 * loads.len() as f64, total as f64)
}

fn ratio(of: f64, all: f64) -> f64 {
    if all > 0.0 { of / all } else { 0.0 }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The smallest value that so large a share of all does not exceed.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(place.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Usage;
    use crate::profile::dense;

    fn record(first_ms: f64, end_ms: f64, usage: (u64, u64, u64)) -> Record {
        Record {
            arrived_ms: 1000.0,
            first_token_ms: 1000.0 + first_ms,
            ended_ms: 1000.0 + end_ms,
            rank: 0,
            usage: Usage {
                prompt_tokens: usage.0,
                cached_tokens: usage.1,
                output_tokens: usage.2,
            },
        }
    }

    fn figures(records: Vec<Record>, computed_tokens: Vec<u64>) -> Figures {
        let outcome = Outcome {
            records,
            computed_tokens,
            preemptions: 1,
        };
        Figures::of(&outcome, &dense())
    }

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        // Limits: 2,100 ms and 3,000 ms for the first token, 50 ms for the others.
        let records = vec![
            record(100.0, 500.0, (1000, 512, 11)),
            record(300.0, 1300.0, (10_000, 0, 11)),
            record(2200.0, 2200.0, (1000, 0, 1)),
            record(2900.0, 2900.0, (10_000, 0, 1)),
        ];
        let given = figures(records, vec![10, 30]);
        assert!((given.hit_rate - 512.0 / 22_000.0).abs() < 1e-12);
        assert!((given.ttft_mean_s - 1.375).abs() < 1e-9);
        assert!((given.ttft_p50_s - 0.3).abs() < 1e-9);
        assert!((given.ttft_p90_s - 2.9).abs() < 1e-9);
        assert!((given.tpot_p50_ms - 40.0).abs() < 1e-9);
        assert!((given.tpot_p99_ms - 100.0).abs() < 1e-9);
        assert!((given.goodput - 0.5).abs() < 1e-12, "the second stutters");
        assert!((given.max_mean_load - 1.5).abs() < 1e-12);
        assert!((given.preemptions - 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_run_without_requests_is_all_zero() {
        assert_eq!(
            figures(Vec::new(), vec![0]),
            Figures {
                ..Figures::default()
            }
        );
    }
}
