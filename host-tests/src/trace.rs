//! Requests of a recorded hour of chat, or of one of the same shape.
//!
//! A trace says when a request came, how long it and its answer were, and which blocks of 512 tokens it was made of;
//! equal block numbers mean an equal prompt up to there. It has no text: [`crate::prompt_text`] makes some.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Tokens of a block of a trace.
pub const BLOCK_TOKENS: u32 = 512;

/// Arrivals of the public conversation trace are rounded down to this step.
const STEP_MS: u64 = 3000;

/// The longest prompts of the conversation trace have 247 blocks.
const MAX_BLOCKS: usize = 240;
/// And its longest answers so many tokens.
const MAX_OUTPUT_TOKENS: f64 = 2000.0;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// When it came, from the start of the trace.
    pub at: Duration,
    /// Length of the prompt.
    pub input_tokens: u32,
    /// Length of the answer.
    pub output_tokens: u32,
    /// The blocks of the prompt; the last may be partial.
    pub blocks: Vec<u64>,
}

#[derive(Deserialize)]
struct Line {
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

/// Reads a trace in the format of Mooncake's: a JSON object a line.
///
/// # Errors
/// When the file cannot be read or a line is not such an object; the error names the line.
pub fn read(path: &Path) -> Result<Vec<TraceRequest>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(number, line)| {
        let place = || {
            format!(
                "{}, line {}: no request of a trace",
                path.display(),
                number + 1
            )
        };
        serde_json::from_str::<Line>(line)
            .map(TraceRequest::from)
            .with_context(place)
    });
    let mut requests = parsed.collect::<Result<Vec<_>>>()?;
    spread_steps(&mut requests);
    Ok(requests)
}

impl From<Line> for TraceRequest {
    fn from(line: Line) -> Self {
        Self {
            at: Duration::from_millis(line.timestamp),
            input_tokens: line.input_length,
            output_tokens: line.output_length,
            blocks: line.hash_ids,
        }
    }
}

/// Spreads requests that came at the same rounded time evenly over the step, in their order.
fn spread_steps(requests: &mut [TraceRequest]) {
    for step in requests.chunk_by_mut(|one, next| one.at == next.at) {
        let gap = Duration::from_millis(STEP_MS) / u32::try_from(step.len()).unwrap_or(u32::MAX);
        for (place, request) in (0u32..).zip(step) {
            request.at += gap * place;
        }
    }
}

/// The requests of `length` of a trace from `start` on, with times from the start of the slice.
#[must_use]
pub fn slice(requests: &[TraceRequest], start: Duration, length: Duration) -> Vec<TraceRequest> {
    let inside = requests
        .iter()
        .filter(|request| request.at >= start && request.at < start + length);
    inside
        .cloned()
        .map(|request| TraceRequest {
            at: request.at - start,
            ..request
        })
        .collect()
}

/// The share of blocks that repeat those of an earlier request from the first on: with one cache that forgets nothing
/// this would be the hit rate, and none can be higher.
#[must_use]
pub fn repeated_share(requests: &[TraceRequest]) -> f64 {
    let mut seen = std::collections::HashSet::<u64>::new();
    let (mut repeated, mut blocks) = (0, 0);
    for request in requests {
        repeated += request
            .blocks
            .iter()
            .take_while(|block| seen.contains(*block))
            .count();
        blocks += request.blocks.len();
        seen.extend(&request.blocks);
    }
    if blocks == 0 {
        0.0
    } else {
        repeated as f64 / blocks as f64
    }
}

/// Makes a trace of the shape of the public conversation trace: 3.3 requests a second, every prompt with the same
/// first block, 39 % of them the next turn of an earlier conversation, log-normal lengths (means of about 12,000
/// tokens in and 340 out).
#[must_use]
pub fn generated(length: Duration, seed: u64) -> Vec<TraceRequest> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut requests: Vec<TraceRequest> = Vec::new();
    let mut next_block = 1;
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / 3.34);
        if at >= length {
            return requests;
        }
        let earlier = (!requests.is_empty() && random.random_bool(0.39))
            .then(|| recent(&requests, &mut random));
        let (mut blocks, new_blocks) = match earlier {
            Some(request) => (
                whole_blocks(request),
                1 + log_normal(&mut random, 0.9, 1.1) as u64,
            ),
            None => (vec![0], log_normal(&mut random, 2.5, 1.2) as u64),
        };
        blocks.extend(next_block..next_block + new_blocks);
        blocks.truncate(MAX_BLOCKS);
        next_block += new_blocks;
        requests.push(request(at, blocks, &mut random));
    }
}

fn request(at: Duration, blocks: Vec<u64>, random: &mut ChaCha8Rng) -> TraceRequest {
    let count = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
    TraceRequest {
        at,
        input_tokens: count * BLOCK_TOKENS - random.random_range(0..BLOCK_TOKENS),
        output_tokens: log_normal(random, 5.4, 1.0).min(MAX_OUTPUT_TOKENS) as u32,
        blocks,
    }
}

/// A conversation goes on soon or not at all.
fn recent<'a>(requests: &'a [TraceRequest], random: &mut ChaCha8Rng) -> &'a TraceRequest {
    let oldest = requests.len().saturating_sub(500);
    &requests[random.random_range(oldest..requests.len())]
}

/// The last block of a turn was partial, so the next turn has another in its place.
fn whole_blocks(request: &TraceRequest) -> Vec<u64> {
    let whole = request.input_tokens / BLOCK_TOKENS;
    let count = usize::try_from(whole)
        .unwrap_or(usize::MAX)
        .clamp(1, MAX_BLOCKS);
    request.blocks.iter().take(count).copied().collect()
}

/// A log-normal number of 1 or more.
fn log_normal(random: &mut ChaCha8Rng, mean: f64, deviation: f64) -> f64 {
    // The sum of twelve uniform numbers is close enough to a normal one here.
    let normal: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
    (mean + deviation * normal).exp().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<TraceRequest>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn requests_of_one_step_are_spread_over_it_in_their_order() {
        let line = |ms: u64, id: u64| {
            format!(
                "{{\"timestamp\": {ms}, \"input_length\": 9, \"output_length\": 1, \"hash_ids\": [0, {id}]}}\n"
            )
        };
        let requests = read_text(&[line(0, 1), line(0, 2), line(3000, 3)].concat()).unwrap();
        let times: Vec<(u128, u64)> = requests
            .iter()
            .map(|r| (r.at.as_millis(), r.blocks[1]))
            .collect();
        assert_eq!(times, [(0, 1), (1500, 2), (3000, 3)]);
        let cut = slice(
            &requests,
            Duration::from_millis(1000),
            Duration::from_millis(1500),
        );
        assert_eq!(
            cut.iter()
                .map(|r| (r.at.as_millis(), r.blocks[1]))
                .collect::<Vec<_>>(),
            [(500, 2)]
        );
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = read_text("{\"timestamp\": 0}\n").unwrap_err();
        assert!(format!("{error:#}").contains("line 1"), "{error:#}");
    }

    #[test]
    fn a_generated_trace_has_the_shape_that_it_claims() {
        let requests = generated(Duration::from_secs(3600), 1);
        assert_eq!(requests, generated(Duration::from_secs(3600), 1));
        // No longer than the recorded trace's, which is what the demo's ranks take.
        let longest = requests
            .iter()
            .map(|request| request.input_tokens + request.output_tokens);
        assert!(longest.max().is_some_and(|tokens| tokens < 131_072));
        let ideal_hit_rate = repeated_share(&requests);
        for request in &requests {
            let blocks = request.input_tokens.div_ceil(BLOCK_TOKENS);
            assert_eq!(usize::try_from(blocks).unwrap(), request.blocks.len());
        }
        let tokens: u64 = requests
            .iter()
            .map(|request| u64::from(request.input_tokens))
            .sum();
        let mean_tokens = tokens as f64 / requests.len() as f64;
        assert!(
            (11_000..13_500).contains(&requests.len()),
            "{} requests",
            requests.len()
        );
        assert!((0.3..0.5).contains(&ideal_hit_rate), "{ideal_hit_rate}");
        assert!((9_000.0..16_000.0).contains(&mean_tokens), "{mean_tokens}");
    }
}
