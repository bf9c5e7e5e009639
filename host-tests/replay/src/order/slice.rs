//! What is sent in both places: the same requests at the same times.

use anyhow::Result;
use host_tests::prompt_text::block_text;
use serde_json::json;

use crate::engine::BLOCK_TOKENS;
use crate::profile::Profile;
use crate::saturation;
use crate::workload::{Request, Trace, TraceRequest, scaled};

/// A window of a trace, small enough for a real Envoy on a small machine.
#[derive(Clone, Debug)]
pub struct Slice {
    window: Vec<TraceRequest>,
}

impl Slice {
    /// At most so many requests and so many tokens of prompts, with answers cut to `answer_tokens`: passing tokens on takes
    /// most of a machine's time and tells nothing.
    #[must_use]
    pub fn new(
        trace: &Trace,
        profile: &Profile,
        seed: u64,
        requests: usize,
        prompt_tokens: u64,
        answer_tokens: u64,
    ) -> Self {
        let mut window = trace.window(requests, profile, seed);
        let mut left = prompt_tokens;
        let fitting = window.iter().map_while(|request| {
            left = left.checked_sub(request.prompt_tokens)?;
            Some(())
        });
        let count = fitting.count().max(1);
        window.truncate(count);
        for request in &mut window {
            request.output_tokens = request.output_tokens.min(answer_tokens);
        }
        Self { window }
    }

    /// How many requests there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// Requests a second that ranks of this kind serve at most.
    ///
    /// # Errors
    /// When the run fails.
    pub fn saturation(&self, profile: Profile, ranks: usize) -> Result<f64> {
        saturation::per_second(&self.window, profile, ranks)
    }

    /// The requests at a rate.
    #[must_use]
    pub fn at(&self, per_second: f64) -> Vec<Request> {
        scaled(&self.window, per_second)
    }

    /// Each request as the JSON of a completion.
    #[must_use]
    pub fn bodies(&self, model: &str) -> Vec<Vec<u8>> {
        let bodies = self.window.iter().enumerate();
        bodies
            .map(|(number, request)| body(number, request, model))
            .collect()
    }
}

/// The prompt has as many tokens as the trace says and shares with others the whole blocks that the trace says, no more.
fn body(number: usize, request: &TraceRequest, model: &str) -> Vec<u8> {
    let tokens = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let blocks = request.blocks.iter();
    let mut prompt: String = blocks
        .map(|block| block_text(*block, tokens(BLOCK_TOKENS)))
        .collect();
    let rest = request.prompt_tokens - request.blocks.len() as u64 * BLOCK_TOKENS;
    prompt.push_str(&block_text(number as u64, tokens(rest)));
    let body = json!({
        "model": model, "prompt": prompt, "max_tokens": request.output_tokens, "stream": true,
        "stream_options": {"include_usage": true},
    });
    body.to_string().into_bytes()
}

/// The same engine, faster or slower, so that the slice takes about so many seconds at this load.
///
/// # Errors
/// When the run that finds its saturation fails.
pub fn compressed(
    profile: Profile,
    slice: &Slice,
    ranks: usize,
    load: f64,
    seconds: f64,
) -> Result<Profile> {
    let takes = slice.len() as f64 / (slice.saturation(profile, ranks)? * load);
    Ok(Profile {
        costs: profile.costs.slowed(seconds / takes),
        ..profile
    })
}

#[cfg(test)]
mod tests {
    use host_tests::sim::prompt::of_completion;

    use super::*;
    use crate::profile::dense;

    fn trace(requests: Vec<TraceRequest>) -> Trace {
        Trace {
            name: "a".to_string(),
            requests,
        }
    }

    #[test]
    fn ranks_see_as_many_tokens_and_share_as_many_blocks_as_the_trace_says() {
        let requests = [(1300, [7, 8]), (1100, [7, 9])];
        let requests =
            requests.map(|(tokens, blocks)| TraceRequest::new(0.0, tokens, 500, &blocks));
        let slice = Slice::new(&trace(requests.to_vec()), &dense(), 1, 9, 9999, 32);
        let prompts = slice.bodies("m").into_iter().map(|body| {
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["max_tokens"], 32);
            of_completion(&body).unwrap()
        });
        let prompts: Vec<_> = prompts.collect();
        let mut tokens: Vec<u64> = prompts.iter().map(|prompt| prompt.tokens).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [1100, 1300]);
        let hashes = prompts[0].hashes.iter().zip(prompts[1].hashes.iter());
        // 512 tokens are 32 blocks of the ranks.
        assert_eq!(hashes.take_while(|(one, other)| one == other).count(), 32);
    }

    #[test]
    fn a_slice_ends_before_its_prompts_are_too_many() {
        let requests = (0..9).map(|number| TraceRequest::new(0.0, 1000, 1, &[number]));
        let trace = trace(requests.collect());
        let count = |requests, tokens| Slice::new(&trace, &dense(), 1, requests, tokens, 1).len();
        assert_eq!((count(5, 99_999), count(9, 3500), count(9, 10)), (5, 3, 1));
    }

    #[test]
    fn a_compressed_slice_takes_the_time_it_shall() {
        let requests = (0..300).map(|n| TraceRequest::new(n as f64, 8191, 1, &[n * 99]));
        let slice = Slice::new(&trace(requests.collect()), &dense(), 1, 300, u64::MAX, 1);
        let fast = compressed(dense(), &slice, 2, 0.8, 4.0).unwrap();
        let takes = slice.len() as f64 / (slice.saturation(fast, 2).unwrap() * 0.8);
        assert!((takes - 4.0).abs() < 0.2, "{takes} s");
    }
}
