//! Two engines that differ much, so that no policy wins by knowing the engine.

use host_tests::sim::profile::EngineProfile;

/// How fast a rank is and what it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// What it is called in tables.
    pub name: &'static str,
    /// Costs of a step.
    pub costs: EngineProfile,
    /// Tokens of one step, prefill and decode together.
    pub step_tokens: u64,
    /// Sequences that run at once.
    pub max_sequences: usize,
    /// Tokens that the KV cache holds.
    pub capacity_tokens: u64,
    /// Ranks that begin and end each step together; 1 where ranks are free.
    pub lockstep_ranks: usize,
    /// Bytes of keys and values of a token.
    pub kv_bytes_per_token: f64,
    /// Whether only the first token of an answer is made here.
    pub is_prefill_only: bool,
    /// Whether every prompt was computed elsewhere and comes with its keys and values.
    pub is_decode_only: bool,
    /// What each token of a prompt adds to the time to the first token that a user accepts.
    pub first_token_limit_ms_per_token: f64,
    /// Time for each further token that a user accepts.
    pub token_limit_ms: f64,
}

/// A dense model on one GPU: a 1.2B-parameter model on one H100, as measured with vLLM 0.25.1
/// (`host-tests/data/vllm-0.25.1/engine.json`): its costs, its chunks of 8,192 tokens, its KV cache of 392,464 tokens. 256
/// sequences at once are vLLM's default of that time. How many bytes a token's keys and values have was not recorded; 77 kB are
/// what its measured cost of context is at the 3.35 TB/s of an H100.
#[must_use]
pub fn dense() -> Profile {
    Profile {
        name: "dense",
        costs: EngineProfile::default(),
        step_tokens: 8192,
        max_sequences: 256,
        capacity_tokens: 392_464,
        lockstep_ranks: 1,
        kv_bytes_per_token: 77_000.0,
        is_prefill_only: false,
        is_decode_only: false,
        first_token_limit_ms_per_token: 0.1,
        token_limit_ms: 50.0,
    }
}

/// A rank of a mixture-of-experts model spread over many GPUs, in groups of eight that step together.
///
/// From published figures of DeepSeek-V3/R1 under wide expert parallelism:
/// - Prefill: LMSYS report 54,500 tokens/s for a node of eight H100 at prompts of 2,000 tokens ("Deploying DeepSeek with
///   PD Disaggregation and Large-scale Expert Parallelism on 96 H100 GPUs", 2025-05): 0.147 ms a token and GPU, of which
///   attention is 0.0125 ms at a mean context of 1,000.
/// - Attention: 61 layers of 128 heads with 192 + 128 dimensions make 5.0 million operations for a pair of tokens; at 400
///   TFLOP/s 1.25e-5 ms.
/// - Decode: DeepSeek report 14,800 output tokens/s a node of eight H800 at 20 to 22 tokens/s a user and 4,989 tokens of
///   context ("DeepSeek-V3/R1 Inference System Overview", 2025-02): 88 sequences a GPU at 48 ms. LMSYS report 22,300 a
///   node with 256 sequences a GPU at 2,000 tokens of context: 92 ms. Context costs reading 70 kB of latent KV a token (61
///   layers of 576 values of two bytes) at 3.35 TB/s, 2.1e-5 ms. So 25 ms a step and 0.2 ms a sequence: 51 and 87 ms.
/// - The cache: 60 GB of a 141 GB GPU beside its weights, at 70 kB a token.
///
/// 1,024 tokens a step: prefill shares steps with decode here, and larger chunks would stop it for a second at a time.
#[must_use]
pub fn wide_ep() -> Profile {
    Profile {
        name: "wide-ep",
        costs: EngineProfile {
            frontend_ms: 15.0,
            frontend_token_ms: 0.0018,
            step_ms: 25.0,
            prefill_token_ms: 0.134,
            attention_pair_ms: 1.25e-5,
            decode_sequence_ms: 0.2,
            decode_context_token_ms: 2.1e-5,
        },
        step_tokens: 1024,
        max_sequences: 256,
        capacity_tokens: 850_000,
        lockstep_ranks: 8,
        kv_bytes_per_token: 61.0 * 576.0 * 2.0,
        is_prefill_only: false,
        is_decode_only: false,
        first_token_limit_ms_per_token: 0.4,
        token_limit_ms: 300.0,
    }
}

/// The engine of that name.
#[must_use]
pub fn named(name: &str) -> Option<Profile> {
    [dense(), wide_ep()].into_iter().find(|p| p.name == name)
}

impl Profile {
    /// The same engine where every rank steps on its own.
    #[must_use]
    pub fn free_running(self) -> Self {
        let name = match self.name {
            "wide-ep" => "wide-ep-free",
            "wide-ep-prefill" => "wide-ep-prefill-free",
            other => other,
        };
        Self {
            name,
            lockstep_ranks: 1,
            ..self
        }
    }

    /// The same ranks where they only prefill and others decode, as with prefill and decode apart. Nothing decodes that
    /// large chunks could hold up.
    #[must_use]
    pub fn prefill_only(self) -> Self {
        let name = match self.name {
            "dense" => "dense-prefill",
            "wide-ep" => "wide-ep-prefill",
            "wide-ep-free" => "wide-ep-prefill-free",
            other => other,
        };
        Self {
            name,
            is_prefill_only: true,
            step_tokens: self.step_tokens.max(8192),
            ..self
        }
    }

    /// The same ranks where others prefill: each prompt comes with its keys and values, at once.
    #[must_use]
    pub fn decode_only(self) -> Self {
        Self {
            is_decode_only: true,
            ..self
        }
    }

    /// Time before a prompt reaches the scheduler.
    #[must_use]
    pub fn frontend_ms(&self, prompt_tokens: u64) -> f64 {
        self.costs.frontend_ms + self.costs.frontend_token_ms * prompt_tokens as f64
    }

    /// Length of an answer, as far as it is made here.
    #[must_use]
    pub fn output_tokens(&self, tokens: u64) -> u64 {
        if self.is_prefill_only {
            1
        } else {
            tokens.max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens a second that one GPU prefills of prompts of so many tokens in chunks of 16,384.
    fn prefill_rate(prompt_tokens: f64) -> f64 {
        let costs = wide_ep().costs;
        let prompts = 16_384.0 / prompt_tokens;
        let pairs = prompts * prompt_tokens * prompt_tokens / 2.0;
        let ms =
            costs.step_ms + costs.prefill_token_ms * 16_384.0 + costs.attention_pair_ms * pairs;
        16_384.0 / ms * 1000.0
    }

    fn decode_step_ms(sequences: f64, context: f64) -> f64 {
        let costs = wide_ep().costs;
        costs.step_ms
            + costs.decode_sequence_ms * sequences
            + costs.decode_context_token_ms * sequences * context
    }

    #[test]
    fn a_wide_ep_rank_is_as_fast_as_published() {
        for (simulated, published) in [
            (prefill_rate(2000.0) * 8.0, 54_500.0),
            (decode_step_ms(88.0, 4989.0), 48.0),
            (decode_step_ms(256.0, 2000.0), 92.0),
        ] {
            let share: f64 = simulated / published;
            assert!((share - 1.0).abs() < 0.1, "{simulated}, not {published}");
        }
    }

    #[test]
    fn the_engines_differ_by_more_than_ten_times() {
        let (dense, wide_ep) = (dense().costs, wide_ep().costs);
        assert!(wide_ep.prefill_token_ms > 10.0 * dense.prefill_token_ms);
        assert!(wide_ep.attention_pair_ms > 10.0 * dense.attention_pair_ms);
    }
}
