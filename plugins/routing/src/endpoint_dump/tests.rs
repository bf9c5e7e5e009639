use std::path::Path;

use super::*;

mod odd;
#[cfg(not(target_arch = "wasm32"))]
mod twin;

const VERSIONS: [&str; 2] = ["1.37.0", "1.40.0"];
const DECODE: &str = "outbound|8000||wide-ep-decode.llm-d.svc.cluster.local";

fn globs(patterns: &[&str]) -> Vec<Glob> {
    let parsed = patterns.iter().map(|pattern| Glob::parse(pattern));
    parsed.collect::<Option<_>>().unwrap()
}

fn recorded(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/endpoints");
    std::fs::read(folder.join(name)).unwrap()
}

fn parse(json: &[u8], patterns: &[&str]) -> EndpointDump {
    EndpointDump::parse(json, &globs(patterns)).unwrap()
}

/// `address condition workload/namespace/revision` of each endpoint.
fn lines(dump: &EndpointDump) -> Vec<String> {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let line = |found: &FoundEndpoint| {
        format!(
            "{} {:?} {}/{}/{}",
            found.address,
            found.condition,
            part(&found.workload),
            part(&found.namespace),
            part(&found.revision)
        )
    };
    dump.endpoints.iter().map(line).collect()
}

#[test]
fn a_cluster_that_istio_sends_is_read_with_health_and_workloads() {
    for version in VERSIONS {
        let json = recorded(&format!("envoy-{version}-dynamic.json"));
        let dump = parse(&json, &["outbound|8000||*-decode.*"]);
        assert_eq!(
            lines(&dump),
            [
                "10.0.0.1:8000 Serving wide-ep-llm-d-decode-0/llm-d/",
                "10.0.0.1:8001 Serving wide-ep-llm-d-decode-0/llm-d/v2",
                "10.0.0.1:8002 Unhealthy wide-ep-llm-d-decode/llm-d/",
                "10.0.0.1:8003 Unhealthy wide-ep-llm-d-decode/llm-d/",
                "10.0.0.1:8004 Unhealthy wide-ep-llm-d-decode/llm-d/",
                "10.0.0.1:8005 Serving wide-ep-llm-d-decode/llm-d/",
                "10.0.0.1:8006 Serving //",
                "[fd00::7]:8000 Serving wide-ep-llm-d-decode/llm-d/",
                "[fd00::8]:8000 Serving //",
            ]
        );
        assert!(dump.endpoints.iter().all(|found| found.cluster == DECODE));
        // Two clusters of the gateway ask EDS for this name.
        assert_eq!(dump.clusters, 2);
        assert_eq!((dump.unreadable, dump.without_ip, dump.too_many), (0, 0, 0));
    }
}

#[test]
fn pipes_and_internal_listeners_are_left_out_and_counted() {
    for version in VERSIONS {
        let json = recorded(&format!("envoy-{version}-dynamic.json"));
        let dump = parse(&json, &["*-prefill.*", "internal"]);
        assert_eq!(
            lines(&dump),
            ["10.0.1.1:8000 Serving wide-ep-llm-d-prefill/llm-d/"]
        );
        assert_eq!((dump.clusters, dump.without_ip, dump.unreadable), (2, 2, 0));
    }
}

#[test]
fn clusters_of_the_bootstrap_are_in_the_static_table() {
    for version in VERSIONS {
        let json = recorded(&format!("envoy-{version}-static.json"));
        assert_eq!(parse(&json, &["outbound*"]).endpoints.len(), 9);
        let others = parse(&json, &["static-pool", "checked", "pool"]);
        assert_eq!(
            lines(&others),
            [
                "10.0.0.9:8000 Serving //",
                "127.0.0.1:1 Unhealthy //",
                "[fd00::9]:8000 Serving wide-ep-llm-d-prefill/llm-d/v1",
            ]
        );
        assert_eq!(others.clusters, 2);
    }
}

#[test]
fn the_order_of_clusters_does_not_matter() {
    let [one, other] = VERSIONS.map(|version| recorded(&format!("envoy-{version}-dynamic.json")));
    assert_ne!(one, other);
    assert_eq!(parse(&one, &["*"]), parse(&other, &["*"]));
}

#[test]
fn a_cluster_without_endpoints_is_told_from_no_cluster() {
    let json = recorded("envoy-1.40.0-dynamic.json");
    assert_eq!(parse(&json, &["empty"]).clusters, 1);
    assert_eq!(parse(&json, &["nosuch"]), EndpointDump::default());
    assert_eq!(parse(&json, &[]), EndpointDump::default());
    let none = recorded("envoy-1.40.0-no-cluster.json");
    assert_eq!(parse(&none, &["*"]), EndpointDump::default());
}

#[test]
fn a_dump_that_is_cut_anywhere_is_refused() {
    let json = recorded("envoy-1.40.0-static.json");
    let whole = json.trim_ascii_end();
    let clusters = globs(&["*"]);
    for end in 0..whole.len() {
        let outcome = EndpointDump::parse(&whole[..end], &clusters);
        assert!(matches!(outcome, Err(DumpError::Malformed { .. })), "{end}");
    }
}
