//! Dumps that no Envoy was seen to write.

use super::*;

const GOOD: &str =
    r#"{"endpoint":{"address":{"socket_address":{"address":"10.0.0.1","port_value":8000}}}}"#;

/// A dump of one cluster `pool` with these endpoints.
fn dump_of(endpoints: &[&str]) -> String {
    let endpoints = endpoints.join(",");
    format!(
        r#"{{"configs":[{{"endpoint_config":{{"cluster_name":"pool","endpoints":[{{"lb_endpoints":[{endpoints}]}}]}}}}]}}"#
    )
}

fn at(address: &str, port: &str, rest: &str) -> String {
    format!(
        r#"{{"endpoint":{{"address":{{"socket_address":{{"address":{address},"port_value":{port}}}}}}}{rest}}}"#
    )
}

fn with(rest: &str) -> String {
    at(r#""10.0.0.2""#, "8000", rest)
}

#[test]
fn an_endpoint_that_is_wrong_is_left_out_and_counted_alone() {
    for wrong in [
        "7",
        "null",
        "[]",
        r#"{"endpoint":"10.0.0.2:8000"}"#,
        &at(r#""10.0.0.2""#, "0", ""),
        &at(r#""10.0.0.2""#, "65536", ""),
        &at(r#""10.0.0.2""#, "-1", ""),
        &at(r#""10.0.0.2""#, r#""8000""#, ""),
        &at("7", "8000", ""),
        r#"{"endpoint":{"address":{"socket_address":{"address":"10.0.0.2","named_port":"http"}}}}"#,
        &with(r#","health_status":2"#),
        &with(r#","metadata":"istio""#),
        &with(r#","metadata":{"filter_metadata":{"istio":{"workload":7}}}"#),
        &with(r#","health_status":"HEALTHY","health_status":"HEALTHY""#),
    ] {
        let dump = parse(dump_of(&[wrong, GOOD]).as_bytes(), &["pool"]);
        assert_eq!(lines(&dump), ["10.0.0.1:8000 Serving //"], "{wrong}");
        assert_eq!((dump.unreadable, dump.without_ip), (1, 0), "{wrong}");
    }
}

#[test]
fn an_endpoint_without_an_ip_is_left_out_and_counted_apart() {
    for without_ip in [
        "{}",
        r#"{"endpoint_name":"rank-0"}"#,
        r#"{"endpoint":{"address":{"pipe":{"path":"/run/rank"}}}}"#,
        r#"{"endpoint":{"address":{"socket_address":{"port_value":8000}}}}"#,
        &at(r#""rank-0.pool""#, "8000", ""),
        &at(r#""[fd00::7]""#, "8000", ""),
        &at(r#""fe80::1%eth0""#, "8000", ""),
        &at(r#""010.0.0.2""#, "8000", ""),
    ] {
        let dump = parse(dump_of(&[without_ip, GOOD]).as_bytes(), &["pool"]);
        assert_eq!(lines(&dump), ["10.0.0.1:8000 Serving //"], "{without_ip}");
        assert_eq!((dump.unreadable, dump.without_ip), (0, 1), "{without_ip}");
    }
}

#[test]
fn what_is_not_known_does_not_matter() {
    for odd in [
        r#","health_status":"RESTING""#,
        r#","health_status":"""#,
        r#","metadata":null"#,
        r#","metadata":{"filter_metadata":null,"typed_filter_metadata":7}"#,
        r#","metadata":{"filter_metadata":{"istio":{"load":7},"envoy.lb":[[[]]]}}"#,
        r#","load_balancing_weight":"many","x":{"y":[1,{"z":null}]}"#,
    ] {
        let dump = parse(dump_of(&[&with(odd)]).as_bytes(), &["pool"]);
        assert_eq!(lines(&dump), ["10.0.0.2:8000 Serving //"], "{odd}");
    }
}

#[test]
fn a_workload_is_read_as_far_as_it_goes() {
    for (workload, expected) in [
        ("a;b;c;d;e", "a/b/d"),
        ("a;b;c;d;e;f;g", "a/b/d"),
        ("a;b;c;;e", "a/b/"),
        ("a;b", "a/b/"),
        ("a", "a//"),
        (";b;c;d;e", "/b/d"),
        (";;;;", "//"),
        ("", "//"),
        (r"\u0061\u003bb", "a/b/"),
    ] {
        let metadata =
            format!(r#","metadata":{{"filter_metadata":{{"istio":{{"workload":"{workload}"}}}}}}"#);
        let dump = parse(dump_of(&[&with(&metadata)]).as_bytes(), &["pool"]);
        assert_eq!(
            lines(&dump),
            [format!("10.0.0.2:8000 Serving {expected}")],
            "{workload}"
        );
    }
}

#[test]
fn escapes_and_the_order_of_fields_do_not_matter() {
    let json = r#"{"configs":[{"endpoint_config":{"endpoints":[{"priority":1,"lb_endpoints":[
        {"health_status":"DR\u0041INING","endpoint":{"address":{"socket_address":{"port_value":8000,"address":"\u0031.2.3.4"}}}}
        ]}],"cluster_name":"p\u006fol"}}]}"#;
    assert_eq!(
        lines(&parse(json.as_bytes(), &["pool"])),
        ["1.2.3.4:8000 Draining //"]
    );
}

#[test]
fn an_endpoint_is_kept_once_for_each_cluster() {
    let cluster = |name: &str| {
        format!(
            r#"{{"endpoint_config":{{"cluster_name":"{name}","endpoints":[{{"lb_endpoints":[{GOOD},{GOOD}]}},
                {{"lb_endpoints":[{GOOD}]}}]}}}}"#
        )
    };
    let json = format!(
        r#"{{"configs":[{},{},{}]}}"#,
        cluster("b"),
        cluster("a"),
        cluster("b")
    );
    let dump = parse(json.as_bytes(), &["*"]);
    let clusters: Vec<&str> = dump
        .endpoints
        .iter()
        .map(|found| found.cluster.as_str())
        .collect();
    assert_eq!(clusters, ["a", "b"]);
    assert_eq!(dump.clusters, 3);
}

#[test]
fn configurations_of_other_things_are_passed_over() {
    let json = r#"{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump","version_info":"1"},
        {"endpoint_config":null},{}],"more":[]}"#;
    let dump = parse(json.as_bytes(), &["*"]);
    assert_eq!(dump, EndpointDump::default());
}

#[test]
fn what_is_wrong_outside_of_endpoints_is_refused() {
    for json in [
        "",
        "null",
        "[1]",
        "INVALID_ARGUMENT: Error while parsing name_regex from [: missing ]: [",
        r#"{"configs":{}}"#,
        r#"{"configs":[7]}"#,
        r#"{"configs":[{"endpoint_config":{"cluster_name":7}}]}"#,
        r#"{"configs":[{"endpoint_config":{"endpoints":{}}}]}"#,
        r#"{"configs":[{"endpoint_config":{"endpoints":[{"lb_endpoints":{}}]}}]}"#,
        r#"{"configs":[],"configs":[]}"#,
        r#"{"configs":[]} x"#,
        "{\"configs\":[{\"endpoint_config\":{\"endpoints\":[{\"lb_endpoints\":[\"\u{1}\"]}]}}]}",
    ] {
        let outcome = EndpointDump::parse(json.as_bytes(), &globs(&["*"]));
        assert!(
            matches!(outcome, Err(DumpError::Malformed { .. })),
            "{json}"
        );
    }
    let not_utf8 = dump_of(&["\"x\""]).replace('x', "\u{e9}").into_bytes();
    let cut_character: Vec<u8> = not_utf8.into_iter().filter(|byte| *byte != 0xa9).collect();
    assert!(EndpointDump::parse(&cut_character, &globs(&["*"])).is_err());
}

#[test]
fn deep_nesting_does_not_overflow() {
    for depth in [100, 1_000_000] {
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let dump = parse(dump_of(&[&deep, GOOD]).as_bytes(), &["*"]);
        assert_eq!((dump.endpoints.len(), dump.without_ip), (1, 1));
    }
}

#[test]
fn the_lowest_1024_addresses_are_kept_and_the_others_counted() {
    let endpoints: Vec<String> = (1..=1030)
        .rev()
        .map(|port| at(r#""10.0.0.1""#, &port.to_string(), ""))
        .chain([at(r#""9.9.9.9""#, "65535", "")])
        .collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let all = parse(dump_of(&endpoints).as_bytes(), &["*"]);
    assert_eq!((all.endpoints.len(), all.too_many), (1024, 7));
    assert_eq!(all.endpoints[0].address.to_string(), "9.9.9.9:65535");
    assert_eq!(all.endpoints[1023].address.to_string(), "10.0.0.1:1023");

    let just = parse(dump_of(&endpoints[..1024]).as_bytes(), &["*"]);
    assert_eq!((just.endpoints.len(), just.too_many), (1024, 0));
}

#[test]
fn a_dump_that_is_too_long_is_refused_by_its_length() {
    let mut json = dump_of(&[GOOD]).into_bytes();
    json.resize(4 * 1024 * 1024, b' ');
    assert_eq!(parse(&json, &["*"]).endpoints.len(), 1);
    json.push(b' ');
    assert_eq!(
        EndpointDump::parse(&json, &globs(&["*"])),
        Err(DumpError::TooLong { bytes: 4_194_305 })
    );
}

#[test]
fn an_error_says_where_and_not_what_the_dump_holds() {
    let error = EndpointDump::parse(b"{\n  \"configs\":\"secret\"}", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no list of endpoints at line 2, column 20"
    );
    assert_eq!(
        DumpError::TooLong { bytes: 5_000_000 }.to_string(),
        "5000000 bytes, 4194304 are read at most"
    );
}
