//! The keys of a body that no client may set.
//!
//! With them a client tells a model server, or the sidecar beside one, where to take state from, where to send to, or which
//! rank is to serve. They are for what stands between gateway and rank to set, and for nobody else. Each was looked up in the
//! server's source, and is read from the top level of the body unless it says otherwise:
//!
//! | keys | read by | where that is to be seen |
//! | --- | --- | --- |
//! | `kv_transfer_params`, `ec_transfer_params` | vLLM, also from `vllm_xargs` and `sampling_params.extra_args` | `vllm/entrypoints/openai/chat_completion/protocol.py` (`to_sampling_params`), `vllm/entrypoints/serve/disagg/protocol.py`; the first since 0.9, the second in versions after 0.25.1 |
//! | `bootstrap_host`, `bootstrap_port`, `bootstrap_room`, `routed_dp_rank`, `data_parallel_rank`, `disagg_prefill_dp_rank` | SGLang | `python/sglang/srt/entrypoints/openai/protocol.py` (`CompletionRequest`) |
//! | `bootstrap_pair_key`, `decode_tp_size`, `kv_router_hint`, `http_worker_ipc`, `encoder_urls`, `num_items_assigned`, `need_wait_for_mm_inputs` | SGLang's `/generate` | `python/sglang/srt/managers/io_struct.py` (`GenerateReqInput`) |
//! | `data_parallel_rank_decode`, `mm_data_mooncake` | other versions of SGLang | `GenerateReqInput` there, which its scheduler and tokenizer read |
//! | `disaggregated_params` | TensorRT-LLM | `tensorrt_llm/serve/openai_protocol.py` (`DisaggregatedParams`) |
//! | `cache_hit_threshold` | llm-d's sidecar | `pkg/sidecar/proxy/connector_shared_storage.go` in `llm-d-inference-scheduler` |

use std::sync::Arc;

/// One of the list.
#[derive(Debug)]
struct DefaultKey {
    name: &'static str,
    /// Whether the server does something else for `null` than for a key that is absent.
    reads_null: bool,
}

const fn key(name: &'static str) -> DefaultKey {
    DefaultKey {
        name,
        reads_null: false,
    }
}

/// The keys that are refused unless a pool allows them.
static DEFAULT_KEYS: [DefaultKey; 19] = [
    key("kv_transfer_params"),
    key("ec_transfer_params"),
    key("bootstrap_host"),
    key("bootstrap_port"),
    key("bootstrap_room"),
    key("bootstrap_pair_key"),
    key("decode_tp_size"),
    key("routed_dp_rank"),
    key("data_parallel_rank"),
    key("data_parallel_rank_decode"),
    key("disagg_prefill_dp_rank"),
    key("kv_router_hint"),
    key("http_worker_ipc"),
    key("encoder_urls"),
    key("num_items_assigned"),
    key("need_wait_for_mm_inputs"),
    key("mm_data_mooncake"),
    key("disaggregated_params"),
    // The sidecar asks whether the key is there, so `null` has the decode rank prefill as a number has.
    DefaultKey {
        name: "cache_hit_threshold",
        reads_null: true,
    },
];

/// Keys that one pool may add: some for each server or sidecar of its own.
pub(crate) const MAX_ADDED_KEYS: usize = 16;
/// Bytes of a key that is added: more than twice the longest of the list.
pub(crate) const MAX_KEY_BYTES: usize = 64;

/// The names of the keys that are refused unless a pool allows them.
pub fn default_refused_keys() -> impl Iterator<Item = &'static str> {
    DEFAULT_KEYS.iter().map(|key| key.name)
}

/// Which keys a pool refuses: the list, without those that it allows, and those that it adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedKeys {
    allowed: Vec<String>,
    added: Vec<String>,
}

impl RefusedKeys {
    pub(crate) fn new(allowed: Vec<String>, added: Vec<String>) -> Self {
        Self { allowed, added }
    }

    /// Whether a body with this key is refused. Cost: a comparison with each key.
    #[must_use]
    pub fn refuses(&self, key: &str) -> bool {
        let is_in = |keys: &[String]| keys.iter().any(|one| one == key);
        let is_default = default_refused_keys().any(|one| one == key);
        is_in(&self.added) || (is_default && !is_in(&self.allowed))
    }

    /// The keys that are refused beside those of the list.
    #[must_use]
    pub fn added(&self) -> &[String] {
        &self.added
    }
}

/// The keys that are looked for in bodies: the list, and what any pool adds.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchedKeys {
    /// Boxed, because usually no pool adds any.
    added: Option<Arc<[String]>>,
}

impl WatchedKeys {
    pub(crate) fn with(added: impl IntoIterator<Item = String>) -> Self {
        let mut added: Vec<String> = added.into_iter().collect();
        added.sort_unstable();
        added.dedup();
        Self {
            added: (!added.is_empty()).then(|| added.into()),
        }
    }

    /// The number of a key, if it is looked for.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        let mut list = DEFAULT_KEYS.iter();
        let default = list.position(|key| key.name.as_bytes() == name);
        default.or_else(|| {
            let added = self.added.as_deref()?;
            let place = added.iter().position(|key| key.as_bytes() == name)?;
            Some(place.saturating_add(DEFAULT_KEYS.len()))
        })
    }

    /// The name behind a number.
    pub(crate) fn name(&self, number: usize) -> &str {
        let default = DEFAULT_KEYS.get(number).map(|key| key.name);
        let added = self.added.as_deref().unwrap_or_default();
        let place = number.checked_sub(DEFAULT_KEYS.len());
        default
            .or_else(|| Some(added.get(place?)?.as_str()))
            .unwrap_or_default()
    }

    pub(crate) fn reads_null(number: usize) -> bool {
        DEFAULT_KEYS.get(number).is_some_and(|key| key.reads_null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_there_once_and_fits() {
        let names: Vec<&str> = default_refused_keys().collect();
        for (place, name) in names.iter().enumerate() {
            assert!(!names[..place].contains(name), "{name} twice");
            assert!((1..=MAX_KEY_BYTES).contains(&name.len()), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }

    #[test]
    fn a_pool_adds_keys_and_allows_some() {
        let keys = RefusedKeys::new(vec!["bootstrap_host".into()], vec!["mine".into()]);
        for (key, expected) in [
            ("kv_transfer_params", true),
            ("bootstrap_host", false),
            ("mine", true),
            ("model", false),
            ("", false),
        ] {
            assert_eq!(keys.refuses(key), expected, "{key}");
        }
        assert!(RefusedKeys::default().refuses("bootstrap_host"));
    }

    #[test]
    fn what_any_pool_adds_is_looked_for() {
        let added = ["b", "a", "b"].map(String::from);
        let keys = WatchedKeys::with(added);
        for name in default_refused_keys().chain(["a", "b"]) {
            let number = keys.find(name.as_bytes()).unwrap();
            assert_eq!(keys.name(number), name);
        }
        assert_eq!(keys.find(b"c"), None);
        assert_eq!(WatchedKeys::default().find(b"a"), None);
        assert_eq!(keys.name(1000), "");
    }
}
