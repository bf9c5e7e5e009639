//! Random dumps, read by the parser and by its twin, which walks a tree of the whole JSON.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What the twin finds: endpoints in order of address, without the bound on their number.
fn naive(json: &[u8], clusters: &[Glob]) -> EndpointDump {
    let tree: Value = serde_json::from_slice(json).unwrap();
    let mut dump = EndpointDump::default();
    for config in list(&tree["configs"]) {
        let Some(cluster) = config["endpoint_config"]["cluster_name"].as_str() else {
            continue;
        };
        if !clusters.iter().any(|glob| glob.matches(cluster)) {
            continue;
        }
        dump.clusters += 1;
        for locality in list(&config["endpoint_config"]["endpoints"]) {
            for endpoint in list(&locality["lb_endpoints"]) {
                naive_endpoint(cluster, endpoint, &mut dump);
            }
        }
    }
    dump.endpoints.sort();
    dump.endpoints.dedup();
    dump
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn naive_endpoint(cluster: &str, endpoint: &Value, dump: &mut EndpointDump) {
    let socket = &endpoint["endpoint"]["address"]["socket_address"];
    if socket.is_null() {
        dump.without_ip += 1;
        return;
    }
    let (address, port) = (socket["address"].as_str(), socket["port_value"].as_u64());
    let (Some(address), Some(port @ 0..=65_535)) = (address, port) else {
        dump.unreadable += 1;
        return;
    };
    let Ok(ip) = address.parse() else {
        dump.without_ip += 1;
        return;
    };
    if port == 0 {
        dump.unreadable += 1;
        return;
    }
    let workload = endpoint["metadata"]["filter_metadata"]["istio"]["workload"].as_str();
    let parts: Vec<&str> = workload.unwrap_or_default().split(';').collect();
    let part = |place: usize| {
        let part = parts.get(place).filter(|part| !part.is_empty());
        part.map(|part| part.to_string())
    };
    dump.endpoints.push(FoundEndpoint {
        address: SocketAddr::new(ip, u16::try_from(port).unwrap()),
        cluster: cluster.to_string(),
        workload: part(0),
        namespace: part(1),
        revision: part(3),
        condition: Condition::of_health_status(
            endpoint["health_status"].as_str().unwrap_or_default(),
        ),
    });
}

fn address() -> impl Strategy<Value = Value> {
    let socket = |address: BoxedStrategy<String>, port: BoxedStrategy<Value>| {
        (address, port).prop_map(
            |(address, port)| json!({"socket_address": {"address": address, "port_value": port}}),
        )
    };
    let ip = || {
        prop_oneof![
            r"10\.0\.[0-3]\.[0-9]",
            "fd00::[0-9]",
            "::ffff:1\\.2\\.3\\.4"
        ]
        .boxed()
    };
    let port = || (8000..8003_u16).prop_map(Value::from).boxed();
    prop_oneof![
        8 => socket(ip(), port()),
        1 => socket("[a-z.:]{0,5}".boxed(), port()),
        1 => socket(ip(), prop_oneof![Just(json!(0)), Just(json!(70_000)), Just(json!("1"))].boxed()),
        1 => Just(json!({"pipe": {"path": "/run/rank"}})),
        1 => Just(json!({"envoy_internal_address": {"endpoint_id": "10.0.0.1:8000"}})),
    ]
}

fn endpoint() -> impl Strategy<Value = Value> {
    let status = prop_oneof![
        Just("HEALTHY"),
        Just("UNHEALTHY"),
        Just("DRAINING"),
        Just("DEGRADED"),
        Just("TIMEOUT"),
        Just("")
    ];
    let workload = proptest::option::of("[a-z;\"é]{0,12}");
    (address(), status, workload, any::<bool>()).prop_map(|(address, status, workload, is_last)| {
        let mut endpoint = json!({"endpoint": {"hostname": "x", "address": address}});
        if !status.is_empty() {
            endpoint["health_status"] = json!(status);
        }
        if let Some(workload) = workload {
            let istio = json!({"workload": workload, "other": 7});
            endpoint["metadata"] = json!({"filter_metadata": {"a": {"b": []}, "istio": istio}});
        }
        if is_last {
            let address = endpoint["endpoint"].take();
            endpoint.as_object_mut().unwrap().shift_remove("endpoint");
            endpoint["endpoint"] = address;
        }
        endpoint
    })
}

fn dump() -> impl Strategy<Value = Value> {
    let locality = proptest::collection::vec(endpoint(), 0..6)
        .prop_map(|endpoints| json!({"locality": {}, "lb_endpoints": endpoints, "priority": 1}));
    let cluster = ("[abc]", proptest::collection::vec(locality, 0..3)).prop_map(
        |(name, localities)| json!({"endpoint_config": {"cluster_name": name, "endpoints": localities}}),
    );
    proptest::collection::vec(cluster, 0..4).prop_map(|configs| json!({"configs": configs}))
}

proptest! {
    #[test]
    fn a_dump_is_read_as_by_walking_its_tree(dump in dump(), is_pretty in any::<bool>()) {
        let json = if is_pretty {
            serde_json::to_vec_pretty(&dump)
        } else {
            serde_json::to_vec(&dump)
        };
        let (json, clusters) = (json.unwrap(), globs(&["a", "[b]", "b"]));
        prop_assert_eq!(EndpointDump::parse(&json, &clusters), Ok(naive(&json, &clusters)));
    }

    #[test]
    fn the_order_of_clusters_never_matters(dump in dump(), turn in 0..4_usize) {
        let mut turned = dump.clone();
        let configs = turned["configs"].as_array_mut().unwrap();
        let turn = turn.min(configs.len());
        configs.rotate_left(turn);
        prop_assert_eq!(
            parse(turned.to_string().as_bytes(), &["*"]),
            parse(dump.to_string().as_bytes(), &["*"])
        );
    }

    #[test]
    fn a_dump_with_a_changed_byte_is_read_or_refused(
        place in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut json = recorded("envoy-1.40.0-static.json");
        let place = place.index(json.len());
        json[place] = to;
        if let Ok(dump) = EndpointDump::parse(&json, &globs(&["*"])) {
            prop_assert!(dump.endpoints.len() <= 13 && dump.clusters <= 4);
            prop_assert!(dump.endpoints.is_sorted());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(json in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = EndpointDump::parse(&json, &globs(&["*"]));
    }
}

#[test]
fn recorded_dumps_are_read_as_by_walking_their_tree() {
    for version in VERSIONS {
        for table in ["dynamic", "static"] {
            let json = recorded(&format!("envoy-{version}-{table}.json"));
            let clusters = globs(&["*"]);
            assert_eq!(parse(&json, &["*"]), naive(&json, &clusters));
        }
    }
}
