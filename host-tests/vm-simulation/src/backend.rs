//! What HTTP calls of the module are answered: Envoy's admin interface and the ranks' metrics.

use serde_json::json;

use crate::chance::Chance;
use crate::chaos::CallTroubles;
use crate::envoy::HeaderMap;
use crate::ranks::{Mood, Rank, Ranks};

/// Envoy's own admin interface, as Istio's gateways name it.
const ADMIN_CLUSTER: &str = "prometheus_stats";
/// Goes to the address that a header names.
const SCRAPE_CLUSTER: &str = "rank_router_scrape";
/// That header.
const SCRAPE_HEADER: &[u8] = b"x-envoy-original-dst-host";
/// The room of a rank's cache: little, so that a run can fill it.
const RANK_BLOCKS: u64 = 1_000;
/// Tokens that a rank's cache holds, as it reports.
pub(crate) const RANK_TOKENS: u64 = 16 * RANK_BLOCKS;
/// Longer than what any page should have.
const GIANT_BYTES: usize = 3_000_000;

/// A call as the module made it.
#[derive(Clone, Debug)]
pub(crate) struct CallRequest {
    pub(crate) cluster: String,
    pub(crate) headers: HeaderMap,
}

/// An answer; without headers the connection broke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallAnswer {
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) body: Vec<u8>,
}

impl CallAnswer {
    fn of(status: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            headers: Some(HeaderMap::of(&[(":status", status)])),
            body: body.into(),
        }
    }
}

/// Whether Envoy has a cluster of this name.
pub(crate) fn is_cluster(name: &[u8]) -> bool {
    [ADMIN_CLUSTER, SCRAPE_CLUSTER]
        .map(str::as_bytes)
        .contains(&name)
}

/// Answers a call as its troubles have it, or as the one that was called.
pub(crate) fn answer(
    request: &CallRequest,
    ranks: &Ranks,
    troubles: &CallTroubles,
    chance: &mut Chance,
) -> CallAnswer {
    if chance.hits(troubles.reset) {
        return CallAnswer::default();
    }
    if chance.hits(troubles.error) {
        return chance.pick(&[
            CallAnswer::of(
                "503",
                "upstream connect error or disconnect/reset before headers",
            ),
            CallAnswer::of("504", "upstream request timeout"),
        ]);
    }
    if chance.hits(troubles.junk) {
        return junk(chance);
    }
    match request.cluster.as_str() {
        ADMIN_CLUSTER => admin(request, ranks),
        _ => scrape(request, ranks, chance),
    }
}

fn junk(chance: &mut Chance) -> CallAnswer {
    let body = match chance.between(0, 3) {
        0 => Vec::new(),
        1 => chance.bytes(2000),
        2 => vec![b'{'; 5000],
        _ => vec![b'1'; GIANT_BYTES],
    };
    let status = chance.pick(&["200", "200", "404", "banana"]);
    CallAnswer::of(status, body)
}

fn admin(request: &CallRequest, ranks: &Ranks) -> CallAnswer {
    let path = request.headers.get(b":path").unwrap_or_default();
    match path.starts_with(b"/config_dump") {
        true => CallAnswer::of("200", config_dump(ranks)),
        false => CallAnswer::of("404", "invalid path. admin commands are:"),
    }
}

/// The pool's endpoints in the form of Envoy's admin interface.
fn config_dump(ranks: &Ranks) -> String {
    let listed = ranks.ranks.iter().filter(|rank| rank.is_listed);
    let endpoints: Vec<serde_json::Value> = listed.map(endpoint).collect();
    json!({"configs": [{
        "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump.DynamicEndpointConfig",
        "endpoint_config": {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "pool",
            "endpoints": [{"locality": {}, "lb_endpoints": endpoints}],
        },
    }]})
    .to_string()
}

fn endpoint(rank: &Rank) -> serde_json::Value {
    let (ip, port) = rank.address.split_once(':').unwrap_or_default();
    let port: u16 = port.parse().unwrap_or_default();
    json!({
        "endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}},
        "health_status": "HEALTHY",
        "metadata": {"filter_metadata": {"istio": {"workload": "model-decode;models;model;v1;"}}},
        "load_balancing_weight": 1,
    })
}

fn scrape(request: &CallRequest, ranks: &Ranks, chance: &mut Chance) -> CallAnswer {
    let named = request.headers.get(SCRAPE_HEADER);
    let address = named.or_else(|| request.headers.get(b":authority"));
    let rank = address
        .and_then(|address| std::str::from_utf8(address).ok())
        .and_then(|address| ranks.get(address));
    match rank.map(|rank| rank.mood) {
        Some(Mood::Well | Mood::Slow | Mood::Fails) => match ranks.are_truthful {
            true => CallAnswer::of("200", metrics_page([0; 4])),
            false => CallAnswer::of("200", metrics_page(draw_figures(chance))),
        },
        Some(Mood::Hangs) => CallAnswer::of("504", "upstream request timeout"),
        Some(Mood::Resets) => CallAnswer::default(),
        Some(Mood::Refuses) | None => CallAnswer::of("503", "upstream connect error"),
    }
}

/// Requests that run and that wait, percent of the cache in use, and tokens of prompts so far: from one look to the next
/// nothing like each other, as of a rank that has others' traffic and is started anew each time.
fn draw_figures(chance: &mut Chance) -> [u64; 4] {
    let (running, waiting) = (chance.between(0, 9), chance.between(0, 9));
    let usage = chance.between(0, 100);
    [running, waiting, usage, chance.between(0, 1_000_000)]
}

/// The lines of a model server's page that a router may want.
fn metrics_page([running, waiting, usage, tokens]: [u64; 4]) -> String {
    let labels = r#"{engine="0",model_name="m"}"#;
    format!(
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n\
         # TYPE vllm:num_requests_running gauge\n\
         vllm:num_requests_running{labels} {running}.0\n\
         vllm:num_requests_waiting{labels} {waiting}.0\n\
         vllm:kv_cache_usage_perc{labels} 0.{usage:02}\n\
         vllm:prompt_tokens_total{labels} {tokens}.0\n\
         vllm:cache_config_info{{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"{RANK_BLOCKS}\"}} 1.0\n\
         process_start_time_seconds 1.79e+09\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(cluster: &str, headers: &[(&str, &str)], troubles: &CallTroubles) -> CallAnswer {
        let mut ranks = Ranks::new(3);
        ranks.ranks[1].mood = Mood::Refuses;
        ranks.ranks[2].is_listed = false;
        let request = CallRequest {
            cluster: cluster.to_string(),
            headers: HeaderMap::of(headers),
        };
        answer(&request, &ranks, troubles, &mut Chance::of(3))
    }

    fn status(answer: &CallAnswer) -> &[u8] {
        let headers = answer.headers.as_ref();
        headers
            .and_then(|headers| headers.get(b":status"))
            .unwrap_or(b"none")
    }

    #[test]
    fn the_admin_interface_lists_the_ranks_of_the_moment() {
        let headers = [(":path", "/config_dump?include_eds")];
        let answer = ask(ADMIN_CLUSTER, &headers, &CallTroubles::default());
        let dump: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let endpoints = &dump["configs"][0]["endpoint_config"]["endpoints"][0]["lb_endpoints"];
        let ports: Vec<u64> = endpoints
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["endpoint"]["address"]["socket_address"]["port_value"].as_u64())
            .collect();
        assert_eq!(ports, [8000, 8001]);
    }

    #[test]
    fn a_scrape_reaches_the_rank_that_is_named() {
        let none = CallTroubles::default();
        let well = ask(
            SCRAPE_CLUSTER,
            &[("x-envoy-original-dst-host", "10.0.0.1:8000")],
            &none,
        );
        assert_eq!(status(&well), b"200");
        assert!(well.body.starts_with(b"# HELP vllm:"));
        let dead = ask(SCRAPE_CLUSTER, &[(":authority", "10.0.0.1:8001")], &none);
        assert_eq!(status(&dead), b"503");
        let unknown = ask(SCRAPE_CLUSTER, &[(":authority", "9.9.9.9:1")], &none);
        assert_eq!(status(&unknown), b"503");
    }

    #[test]
    fn a_broken_connection_has_no_headers() {
        let troubles = CallTroubles {
            reset: 1.0,
            ..CallTroubles::default()
        };
        assert_eq!(ask(ADMIN_CLUSTER, &[], &troubles), CallAnswer::default());
        assert!(is_cluster(b"prometheus_stats") && !is_cluster(b"prometheus"));
    }
}
