//! The names that matter, of all servers and versions.

/// Who writes a page, by the names that it uses. Where a page has names of several, the first here wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// vLLM since 0.10, and what its older versions share with it.
    Vllm,
    /// vLLM before 0.12, whose V0 and first V1 engines said `gpu_` for the cache; 0.10 and 0.11 write both.
    VllmBefore012,
    /// SGLang with `--enable-metrics`.
    Sglang,
    /// trtllm-serve.
    TrtllmServe,
    /// Triton with its TensorRT-LLM backend.
    Triton,
}

impl Server {
    /// How many there are.
    pub(super) const COUNT: usize = 5;

    /// Its place in the order of preference.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Vllm => 0,
            Self::VllmBefore012 => 1,
            Self::Sglang => 2,
            Self::TrtllmServe => 3,
            Self::Triton => 4,
        }
    }
}

/// What a series tells. Those of the last group say it in a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    Running,
    Waiting,
    KvUsage,
    CapacityTokens,
    Blocks,
    BlockTokens,
    PromptTokens,
    GenerationTokens,
    PrefixQueriedTokens,
    PrefixHitTokens,
    CacheConfig,
    SleepState,
    TritonRequests,
    TritonBlocks,
}

/// A name that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    StartTime,
    OfServer(Server, Quantity),
}

impl Metric {
    /// Cost: the name's prefix for nearly all of them, a few comparisons for the rest.
    pub(super) fn of_name(name: &[u8]) -> Option<Self> {
        let of = |server, quantity: Option<Quantity>| Some(Self::OfServer(server, quantity?));
        if let Some(name) = name.strip_prefix(b"vllm:") {
            return match vllm(name) {
                Some(quantity) => of(Server::Vllm, Some(quantity)),
                None => of(Server::VllmBefore012, vllm_before_0_12(name)),
            };
        }
        if let Some(name) = name.strip_prefix(b"sglang:") {
            return of(Server::Sglang, sglang(name));
        }
        if let Some(name) = name.strip_prefix(b"trtllm_") {
            return of(Server::TrtllmServe, trtllm_serve(name));
        }
        if let Some(name) = name.strip_prefix(b"nv_trt_llm_") {
            return of(Server::Triton, triton(name));
        }
        (name == b"process_start_time_seconds").then_some(Self::StartTime)
    }
}

/// `vllm/v1/metrics/loggers.py`, 0.10.0 to 0.33.0.
fn vllm(name: &[u8]) -> Option<Quantity> {
    Some(match name {
        b"num_requests_running" => Quantity::Running,
        b"num_requests_waiting" => Quantity::Waiting,
        b"kv_cache_usage_perc" => Quantity::KvUsage,
        b"cache_config_info" => Quantity::CacheConfig,
        b"prompt_tokens_total" => Quantity::PromptTokens,
        b"generation_tokens_total" => Quantity::GenerationTokens,
        b"prefix_cache_queries_total" => Quantity::PrefixQueriedTokens,
        b"prefix_cache_hits_total" => Quantity::PrefixHitTokens,
        b"engine_sleep_state" => Quantity::SleepState,
        _ => return None,
    })
}

fn vllm_before_0_12(name: &[u8]) -> Option<Quantity> {
    Some(match name {
        b"gpu_cache_usage_perc" => Quantity::KvUsage,
        b"gpu_prefix_cache_queries_total" => Quantity::PrefixQueriedTokens,
        b"gpu_prefix_cache_hits_total" => Quantity::PrefixHitTokens,
        _ => return None,
    })
}

/// `python/sglang/srt/observability/metrics_collector.py`.
fn sglang(name: &[u8]) -> Option<Quantity> {
    Some(match name {
        b"num_running_reqs" => Quantity::Running,
        b"num_queue_reqs" => Quantity::Waiting,
        b"token_usage" => Quantity::KvUsage,
        b"max_total_num_tokens" => Quantity::CapacityTokens,
        b"cache_config_info" => Quantity::CacheConfig,
        b"prompt_tokens_total" => Quantity::PromptTokens,
        b"generation_tokens_total" => Quantity::GenerationTokens,
        b"cached_tokens_total" => Quantity::PrefixHitTokens,
        _ => return None,
    })
}

/// `tensorrt_llm/metrics/collector.py`.
fn trtllm_serve(name: &[u8]) -> Option<Quantity> {
    Some(match name {
        b"num_requests_running" => Quantity::Running,
        b"num_requests_waiting" => Quantity::Waiting,
        b"kv_cache_utilization" => Quantity::KvUsage,
        b"kv_cache_max_blocks" => Quantity::Blocks,
        b"kv_cache_tokens_per_block" => Quantity::BlockTokens,
        b"prompt_tokens_total" => Quantity::PromptTokens,
        b"generation_tokens_total" => Quantity::GenerationTokens,
        _ => return None,
    })
}

fn triton(name: &[u8]) -> Option<Quantity> {
    Some(match name {
        b"request_metrics" => Quantity::TritonRequests,
        b"kv_cache_block_metrics" => Quantity::TritonBlocks,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_look_alike_do_not_matter() {
        for name in [
            "",
            "vllm:",
            "num_requests_running",
            "vllm:num_requests_running_x",
            "vllm:num_requests_waiting_by_reason",
            "vllm:prompt_tokens_created",
            "vllm:prompt_tokens_cached_total",
            "vllm:external_prefix_cache_hits_total",
            "vllm:iteration_tokens_total_sum",
            "sglang:num_requests_running",
            "sglang:full_token_usage",
            "trtllm_kv_cache_used_blocks",
            "nv_trt_llm_runtime_memory_metrics",
            "process_start_time_seconds_x",
        ] {
            assert_eq!(Metric::of_name(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn every_server_has_a_place_of_its_own() {
        let servers = [
            Server::Vllm,
            Server::VllmBefore012,
            Server::Sglang,
            Server::TrtllmServe,
            Server::Triton,
        ];
        assert_eq!(servers.len(), Server::COUNT);
        for (place, server) in servers.into_iter().enumerate() {
            assert_eq!(server.place(), place, "{server:?}");
        }
    }
}
