//! The requests of a run: a window of a trace, its bursts spread, its times scaled to a load.

mod file;
mod shapes;

use std::rc::Rc;

use fastrand::Rng;
use routing::chain;

pub use file::read;
pub use shapes::{SHAPES, made};

use crate::engine::BLOCK_TOKENS;
use crate::policy::Arrival;
use crate::profile::Profile;

/// A request of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRequest {
    /// When it came, milliseconds from the start of the trace.
    pub at_ms: f64,
    /// Length of the prompt, at least 1.
    pub prompt_tokens: u64,
    /// Length of the answer, at least 1.
    pub output_tokens: u64,
    /// Hashes of the whole blocks of the prompt; an equal hash is an equal prompt up to there.
    pub blocks: Vec<u64>,
}

/// A trace, by time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What it is called in tables.
    pub name: String,
    /// Its requests.
    pub requests: Vec<TraceRequest>,
}

/// A request of a run.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it comes, from the start of the run.
    pub at_ms: f64,
    /// What a router sees of it.
    pub arrival: Arrival,
    /// Length of the answer.
    pub output_tokens: u64,
}

impl TraceRequest {
    /// A request of the blocks that a trace names by numbers; a last block that is not whole is left out, because ranks
    /// share whole blocks only.
    #[must_use]
    pub fn new(at_ms: f64, prompt_tokens: u64, output_tokens: u64, block_ids: &[u64]) -> Self {
        let whole = usize::try_from(prompt_tokens / BLOCK_TOKENS).unwrap_or(usize::MAX);
        // Numbers become hashes, as everything behind takes them for such.
        let hash = |id: &u64| chain(0, *id);
        Self {
            at_ms,
            prompt_tokens: prompt_tokens.max(1),
            output_tokens: output_tokens.max(1),
            blocks: block_ids.iter().take(whole).map(hash).collect(),
        }
    }

    /// A trace is rounded to steps where most requests come at the same time as another.
    fn are_rounded(requests: &[Self]) -> bool {
        let same = requests.windows(2).filter(|pair| is_simultaneous(pair));
        same.count() * 2 > requests.len()
    }
}

fn is_simultaneous(pair: &[TraceRequest]) -> bool {
    matches!(pair, [one, next] if one.at_ms == next.at_ms)
}

impl Trace {
    /// At most `count` requests that follow each other, which ones by the seed; none that the engine could never hold
    /// (a server refuses them), and times from 0 on. Bursts of one rounded time are spread over it by the seed.
    #[must_use]
    pub fn window(&self, count: usize, profile: &Profile, seed: u64) -> Vec<TraceRequest> {
        let mut random = Rng::with_seed(seed);
        let most_tokens = profile.capacity_tokens / 2;
        let fits = |request: &&TraceRequest| {
            request.prompt_tokens + profile.output_tokens(request.output_tokens) <= most_tokens
        };
        let mut requests: Vec<TraceRequest> = self.requests.iter().filter(fits).cloned().collect();
        spread(&mut requests, &mut random);
        let starts = requests.len().saturating_sub(count);
        let start = random.usize(0..=starts);
        let mut window: Vec<TraceRequest> = requests.split_off(start);
        window.truncate(count);
        let first_ms = window.first().map_or(0.0, |request| request.at_ms);
        window
            .iter_mut()
            .for_each(|request| request.at_ms -= first_ms);
        window
    }
}

/// Spreads requests that came at the same rounded time over the time to the next, at random.
fn spread(requests: &mut [TraceRequest], random: &mut Rng) {
    if !TraceRequest::are_rounded(requests) {
        return;
    }
    let step_ms = usual_step_ms(requests);
    for request in requests.iter_mut() {
        request.at_ms += random.f64() * step_ms;
    }
    requests.sort_by(|one, next| one.at_ms.total_cmp(&next.at_ms));
}

/// The median of the times between different times.
fn usual_step_ms(requests: &[TraceRequest]) -> f64 {
    let gaps = requests
        .windows(2)
        .filter(|pair| !is_simultaneous(pair))
        .filter_map(|pair| Some(pair.last()?.at_ms - pair.first()?.at_ms));
    let mut gaps: Vec<f64> = gaps.collect();
    gaps.sort_by(f64::total_cmp);
    gaps.get(gaps.len() / 2).copied().unwrap_or(0.0)
}

/// Mean requests a second of a window; 0 if all come at once.
#[must_use]
pub fn rate_per_second(window: &[TraceRequest]) -> f64 {
    let length_ms = window.last().map_or(0.0, |request| request.at_ms);
    if length_ms > 0.0 {
        window.len() as f64 / length_ms * 1000.0
    } else {
        0.0
    }
}

/// The requests of a window at another mean rate; bursts and lulls stay in proportion.
#[must_use]
pub fn scaled(window: &[TraceRequest], per_second: f64) -> Vec<Request> {
    let factor = rate_per_second(window) / per_second;
    let request = |(number, request): (usize, &TraceRequest)| Request {
        at_ms: request.at_ms * factor,
        arrival: Arrival {
            number,
            blocks: Rc::from(request.blocks.as_slice()),
            prompt_tokens: request.prompt_tokens,
        },
        output_tokens: request.output_tokens,
    };
    window.iter().enumerate().map(request).collect()
}

#[cfg(test)]
mod tests;
