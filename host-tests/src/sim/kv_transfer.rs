//! `kv_transfer_params` as vLLM's NIXL connector reads and writes them.

use serde_json::{Value, json};

use super::rank::Rank;

/// The field of requests and answers.
pub(super) const FIELD: &str = "kv_transfer_params";
/// vLLM's `VLLM_NIXL_SIDE_CHANNEL_PORT`: the port of rank 0; each further rank has the next.
const SIDE_CHANNEL_PORT: usize = 5600;

/// Whether another rank will decode, and the KV is to be kept for it.
pub(super) fn is_wanted(body: &Value) -> bool {
    body[FIELD]["do_remote_decode"] == true
}

/// Whether another rank has prefilled the prompt and says where; vLLM prefills when a part of that is missing.
pub(super) fn is_offered(body: &Value) -> bool {
    let params = &body[FIELD];
    let blocks = params["remote_block_ids"].as_array();
    let is_told = |field: &&str| !params[*field].is_null();
    params["do_remote_prefill"] == true
        && blocks.is_some_and(|blocks| !blocks.is_empty())
        && ["remote_engine_id", "remote_host", "remote_port"]
            .iter()
            .all(is_told)
}

/// Tells where the KV of a prompt of so many blocks is.
pub(super) fn offer(rank: &Rank, request: &str, blocks: u64) -> Value {
    json!({
        "do_remote_prefill": true, "do_remote_decode": false,
        "remote_block_ids": (1..=blocks).collect::<Vec<_>>(),
        "remote_engine_id": format!("simulated-{}", rank.address), "remote_request_id": request,
        "remote_host": rank.address.ip().to_string(), "remote_port": SIDE_CHANNEL_PORT + rank.number, "tp_size": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_counts_only_when_it_is_complete() {
        let whole = json!({"do_remote_prefill": true, "remote_block_ids": [1], "remote_engine_id": "e", "remote_host": "h", "remote_port": 5600});
        assert!(is_offered(&json!({FIELD: whole})));
        for field in [
            "do_remote_prefill",
            "remote_block_ids",
            "remote_engine_id",
            "remote_host",
            "remote_port",
        ] {
            let mut part = whole.clone();
            part[field] = Value::Null;
            assert!(!is_offered(&json!({FIELD: part})), "{field}");
        }
        assert!(!is_offered(&json!({FIELD: null})) && !is_offered(&json!({})));
    }
}
