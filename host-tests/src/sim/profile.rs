//! How fast a simulated rank is.

use std::time::Duration;

/// Costs of a scheduler step, in milliseconds.
///
/// The default was fitted by hand to a real vLLM 0.25.1 (a 1.2B-parameter model on one H100 with CUDA graphs;
/// `data/vllm-0.25.1/engine.json`). What it gives there for prompts alone, against what was measured: 4,096 tokens 45 ms
/// (46), 8,192: 84 (85), 16,384: 178 (181), 30,000: 388 (389); between tokens with 32 streams of 512 tokens 3.7 ms (3.3),
/// with 32 of 4,096 6.4 (6.4). Below 2,048 tokens it is too fast by up to 15 ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EngineProfile {
    /// Before a request reaches the scheduler: HTTP, JSON, template.
    pub frontend_ms: f64,
    /// The same, for each token of the prompt, cached or not: a warm prefix is not free.
    pub frontend_token_ms: f64,
    /// Each step.
    pub step_ms: f64,
    /// Each token of prefill.
    pub prefill_token_ms: f64,
    /// Each token of prefill, for each token before it.
    pub attention_pair_ms: f64,
    /// Each sequence that decodes.
    pub decode_sequence_ms: f64,
    /// Each token of context of a sequence that decodes.
    pub decode_context_token_ms: f64,
}

impl Default for EngineProfile {
    fn default() -> Self {
        Self {
            frontend_ms: 15.0,
            frontend_token_ms: 0.0018,
            step_ms: 2.4,
            prefill_token_ms: 0.0048,
            attention_pair_ms: 3.8e-7,
            decode_sequence_ms: 0.03,
            decode_context_token_ms: 2.3e-5,
        }
    }
}

/// The work of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Tokens of prefill.
    pub prefill_tokens: u64,
    /// Pairs of a prefilled token and a token at or before it.
    pub attention_pairs: u64,
    /// Sequences that decode a token.
    pub decode_sequences: u64,
    /// Their context.
    pub decode_context_tokens: u64,
}

impl StepWork {
    /// Adds a chunk of prefill that starts behind `context` tokens.
    pub fn add_prefill(&mut self, context: u64, tokens: u64) {
        self.prefill_tokens += tokens;
        self.attention_pairs += tokens * context + tokens * tokens / 2;
    }

    /// Adds a token of decode.
    pub fn add_decode(&mut self, context: u64) {
        self.decode_sequences += 1;
        self.decode_context_tokens += context;
    }
}

impl EngineProfile {
    /// The same engine, so many times slower: a larger model, or a smaller GPU.
    #[must_use]
    pub fn slowed(self, times: f64) -> Self {
        Self {
            frontend_ms: self.frontend_ms,
            frontend_token_ms: self.frontend_token_ms,
            step_ms: self.step_ms * times,
            prefill_token_ms: self.prefill_token_ms * times,
            attention_pair_ms: self.attention_pair_ms * times,
            decode_sequence_ms: self.decode_sequence_ms * times,
            decode_context_token_ms: self.decode_context_token_ms * times,
        }
    }

    /// How long a step takes.
    #[must_use]
    pub fn step(&self, work: StepWork) -> Duration {
        let ms = self.step_ms
            + self.prefill_token_ms * work.prefill_tokens as f64
            + self.attention_pair_ms * work.attention_pairs as f64
            + self.decode_sequence_ms * work.decode_sequences as f64
            + self.decode_context_token_ms * work.decode_context_tokens as f64;
        Duration::from_secs_f64(ms / 1000.0)
    }

    /// How long a prompt takes before it reaches the scheduler.
    #[must_use]
    pub fn frontend(&self, prompt_tokens: u64) -> Duration {
        Duration::from_secs_f64(
            (self.frontend_ms + self.frontend_token_ms * prompt_tokens as f64) / 1000.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time to the first token of a prompt alone, prefilled in chunks of 8,192.
    fn alone_ms(tokens: u64) -> f64 {
        let profile = EngineProfile::default();
        let mut time = profile.frontend(tokens);
        for start in (0..tokens).step_by(8192) {
            let mut work = StepWork::default();
            work.add_prefill(start, (tokens - start).min(8192));
            time += profile.step(work);
        }
        time.as_secs_f64() * 1000.0
    }

    fn between_tokens_ms(sequences: u64, context: u64) -> f64 {
        let mut work = StepWork::default();
        (0..sequences).for_each(|_| work.add_decode(context));
        EngineProfile::default().step(work).as_secs_f64() * 1000.0
    }

    #[test]
    fn long_prompts_take_what_they_took_on_a_real_gpu() {
        for (tokens, measured_ms) in [(4096, 46.4), (8192, 85.3), (16384, 180.7), (30000, 389.2)] {
            let simulated = alone_ms(tokens);
            assert!(
                (simulated / measured_ms - 1.0).abs() < 0.1,
                "{tokens} tokens: {simulated} ms, not {measured_ms}"
            );
        }
    }

    #[test]
    fn decode_slows_with_batch_and_context_as_on_a_real_gpu() {
        for (sequences, context, measured_ms) in [
            (1, 512, 2.47),
            (32, 512, 3.27),
            (64, 512, 4.65),
            (16, 4096, 4.24),
            (32, 4096, 6.41),
        ] {
            let simulated = between_tokens_ms(sequences, context);
            assert!(
                (simulated / measured_ms - 1.0).abs() < 0.2,
                "{sequences} x {context}: {simulated} ms, not {measured_ms}"
            );
        }
    }
}
