//! What a page says in the names of one server.

use super::gathered::Gathered;
use super::metric::{Quantity, Server};
use super::sample::{Sample, whole};

/// A label's value, and what a series with it tells.
type Kind = (&'static [u8], Quantity);

const TRITON_REQUESTS: &[Kind] = &[
    (b"waiting", Quantity::Waiting),
    (b"scheduled", Quantity::Running),
];
const TRITON_BLOCKS: &[Kind] = &[
    (b"fraction", Quantity::KvUsage),
    (b"max", Quantity::Blocks),
    (b"tokens_per", Quantity::BlockTokens),
];

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerTally {
    pub(super) running: Gathered<u64>,
    pub(super) waiting: Gathered<u64>,
    pub(super) kv_usage: Gathered<f64>,
    pub(super) prompt_tokens: Gathered<u64>,
    pub(super) generation_tokens: Gathered<u64>,
    pub(super) is_awake: Gathered<bool>,
    prefix_queried_tokens: Gathered<u64>,
    prefix_hit_tokens: Gathered<u64>,
    /// As the server says it.
    capacity_tokens: Gathered<u64>,
    /// Blocks times tokens of a block, where one series says both.
    block_capacity_tokens: Gathered<u64>,
    blocks: Gathered<u64>,
    block_tokens: Gathered<u64>,
}

impl ServerTally {
    /// Adds a series; a sample of `None` is one that cannot be read.
    pub(super) fn record(
        &mut self,
        server: Server,
        quantity: Quantity,
        sample: Option<Sample<'_>>,
    ) {
        let count = sample.as_ref().and_then(|sample| whole(sample.value));
        match quantity {
            Quantity::Running | Quantity::Waiting if is_part(server, sample.as_ref()) => {}
            Quantity::Running => self.running.join(count, u64::saturating_add),
            Quantity::Waiting => self.waiting.join(count, u64::saturating_add),
            Quantity::KvUsage => self.kv_usage.join(share(sample), f64::max),
            Quantity::CapacityTokens => self.capacity_tokens.join(count, u64::saturating_add),
            Quantity::Blocks => self.blocks.join(count, u64::saturating_add),
            // They do not differ; if they do, a cache taken as smaller than it is costs less than the opposite.
            Quantity::BlockTokens => self.block_tokens.join(count, u64::min),
            Quantity::PromptTokens => self.record_prompt_tokens(server, count),
            Quantity::GenerationTokens => self.generation_tokens.join(count, u64::saturating_add),
            Quantity::PrefixQueriedTokens => {
                self.prefix_queried_tokens.join(count, u64::saturating_add)
            }
            Quantity::PrefixHitTokens => self.prefix_hit_tokens.join(count, u64::saturating_add),
            Quantity::CacheConfig => self.record_cache_config(server, sample),
            Quantity::SleepState => self.record_sleep_state(sample),
            Quantity::TritonRequests => self.record_kind(TRITON_REQUESTS, b"request_type", sample),
            Quantity::TritonBlocks => {
                self.record_kind(TRITON_BLOCKS, b"kv_cache_block_type", sample)
            }
        }
    }

    /// Tokens of the cache: the server's own word, or else what its blocks hold, which vLLM says can be wrong for
    /// hybrid models (`vllm/config/cache.py`). A gauge is 0 until it is set, so 0 is no capacity.
    pub(super) fn capacity_tokens(&self) -> Option<u64> {
        let words = [
            self.capacity_tokens.known(),
            self.block_capacity_tokens.known(),
            product(self.blocks.known(), self.block_tokens.known()),
        ];
        words.into_iter().flatten().find(|tokens| *tokens > 0)
    }

    /// Tokens looked up in the prefix cache and those found; both or none, because one needs the other.
    pub(super) fn prefix_tokens(&self) -> Option<(u64, u64)> {
        let queried = self.prefix_queried_tokens.known()?;
        Some((queried, self.prefix_hit_tokens.known()?))
    }

    /// SGLang looks up every prompt token and has no counter of its own for it.
    fn record_prompt_tokens(&mut self, server: Server, count: Option<u64>) {
        self.prompt_tokens.join(count, u64::saturating_add);
        if server == Server::Sglang {
            self.prefix_queried_tokens.join(count, u64::saturating_add);
        }
    }

    /// The value is always 1; the labels say it.
    fn record_cache_config(&mut self, server: Server, sample: Option<Sample<'_>>) {
        let (blocks, block_tokens): (&[u8], &[u8]) = match server {
            Server::Sglang => (b"num_pages", b"page_size"),
            _ => (b"num_gpu_blocks", b"block_size"),
        };
        let number = |name| sample.as_ref().and_then(|sample| sample.number(name));
        let said = number(b"kv_cache_size_tokens");
        let in_blocks = product(number(blocks), number(block_tokens));
        if server == Server::Vllm {
            self.capacity_tokens.join(said, u64::saturating_add);
        }
        self.block_capacity_tokens
            .join(in_blocks, u64::saturating_add);
    }

    /// One series for each state; the others say how deep an engine sleeps.
    fn record_sleep_state(&mut self, sample: Option<Sample<'_>>) {
        let state = sample
            .as_ref()
            .and_then(|sample| sample.label(b"sleep_state"));
        if state.is_none_or(|state| state == b"awake") {
            let value = sample
                .filter(|_| state.is_some())
                .map(|sample| sample.value);
            let is_awake = value.filter(|value| *value == 0.0 || *value == 1.0);
            self.is_awake
                .join(is_awake.map(|value| value == 1.0), |one, other| {
                    one && other
                });
        }
    }

    /// Adds a series whose label says what it is. One without that label, or that cannot be read, may have been any of
    /// them, so none of them is known any more.
    fn record_kind(&mut self, kinds: &[Kind], label: &[u8], sample: Option<Sample<'_>>) {
        let kind = sample.as_ref().and_then(|sample| sample.label(label));
        match (kind, sample) {
            (Some(kind), Some(sample)) => {
                if let Some((_, quantity)) = kinds.iter().find(|(name, _)| *name == kind) {
                    self.record(Server::Triton, *quantity, Some(sample));
                }
            }
            _ => kinds
                .iter()
                .for_each(|(_, quantity)| self.record(Server::Triton, *quantity, None)),
        }
    }
}

fn product(blocks: Option<u64>, block_tokens: Option<u64>) -> Option<u64> {
    blocks?.checked_mul(block_tokens?)
}

/// Whether a series is a part of another one: with priority scheduling SGLang counts all under `priority=""` and each
/// priority again.
fn is_part(server: Server, sample: Option<&Sample<'_>>) -> bool {
    let priority = sample.and_then(|sample| sample.label(b"priority"));
    server == Server::Sglang && priority.is_some_and(|priority| !priority.is_empty())
}

/// A share of 0 to 1. What lies above can only mean full; what is negative or no number means nothing.
fn share(sample: Option<Sample<'_>>) -> Option<f64> {
    let value = sample?.value;
    // The sum turns -0 into 0.
    (value >= 0.0 && value.is_finite()).then_some(value.min(1.0) + 0.0)
}
