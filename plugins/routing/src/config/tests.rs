use super::*;
use crate::{ConfigError, hash_bytes};

/// The mistakes in the picker's configuration with these fields, a rank among them.
fn mistakes(fields: &str) -> Vec<ConfigError> {
    let json = format!(r#"{{"ranks":["10.0.0.7:8000"],{fields}}}"#);
    Config::try_from(raw(&json)).map_or_else(|errors| errors.0, |_| Vec::new())
}

fn raw(json: &str) -> RawConfig {
    serde_json::from_str(json).unwrap()
}

fn ranks(list: &str) -> Result<Vec<SocketAddr>, ConfigErrors> {
    Config::try_from(raw(&format!(r#"{{"ranks":{list}}}"#))).map(|config| config.ranks().to_vec())
}

#[test]
fn ranks_alone_are_a_configuration_and_the_rest_has_defaults() {
    let config = Config::try_from(raw(r#"{"ranks":["10.0.0.7:8000-8001"]}"#)).unwrap();
    let ranks: Vec<SocketAddr> = ["10.0.0.7:8000", "10.0.0.7:8001"]
        .iter()
        .map(|rank| rank.parse().unwrap())
        .collect();
    assert_eq!((config.pool(), config.ranks()), ("default", &ranks[..]));
    assert_eq!(
        (config.decide_after_bytes(), config.decide_after_idle_ms()),
        (786_432, 50)
    );
    assert!(config.refused_keys().refuses("kv_transfer_params"));
    assert_eq!(
        (
            config.block_bytes(),
            config.rank_capacity_blocks(),
            config.max_index_blocks()
        ),
        (256, 7812, 1_000_000)
    );
    let weights = CostWeights {
        miss_weight: None,
        prefill_tokens_per_second: 20_000.0,
        in_flight_seconds: 0.01,
        leg_seconds: 0.02,
    };
    assert_eq!(config.weights(), weights);
}

#[test]
fn every_field_is_taken_over() {
    let config = Config::try_from(raw(
        r#"{"pool":"team-a_1","ranks":["[fd00::7]:8000"],"decideAfterBytes":2048,"decideAfterIdleMs":9,"blockBytes":128,
            "rankCapacityTokens":3200,"missWeight":2,"prefillTokensPerSecond":1000,"inFlightCostMs":0,
            "prefillLegCostMs":50,"localPrefillTokens":7,"shadow":true,"models":["m-*"],
            "refuseKeys":["my.key"],"allowKeys":["bootstrap_host"],"hashSeed":"s"}"#,
    ))
    .unwrap();
    assert_eq!(config.local_prefill_tokens(), 7);
    assert_eq!(config.block_cut().seed, hash_bytes(b"s"));
    let refused = |key| config.refused_keys().refuses(key);
    assert!(refused("my.key") && refused("bootstrap_port") && !refused("bootstrap_host"));
    assert!(config.has_models() && config.serves_model("m-1") && !config.serves_model("n"));
    assert_eq!(
        (config.pool(), rank_text(&config).as_str()),
        ("team-a_1", "[fd00::7]:8000")
    );
    assert_eq!(
        (config.decide_after_bytes(), config.decide_after_idle_ms()),
        (2048, 9)
    );
    assert_eq!(
        (config.block_bytes(), config.rank_capacity_blocks()),
        (128, 100)
    );
    let weights = CostWeights {
        miss_weight: Some(2.0),
        prefill_tokens_per_second: 1000.0,
        in_flight_seconds: 0.0,
        leg_seconds: 0.05,
    };
    assert_eq!(config.weights(), weights);
    assert!(config.is_shadow() && config.to_string().ends_with("steers nothing"));
}

fn rank_text(config: &Config) -> String {
    crate::rank_list(config.ranks())
}

#[test]
fn null_is_the_default() {
    let given =
        raw(r#"{"ranks":["10.0.0.7:8000"],"pool":null,"blockBytes":null,"missWeight":null}"#);
    assert_eq!(
        Config::try_from(given),
        Config::try_from(raw(r#"{"ranks":["10.0.0.7:8000"]}"#))
    );
}

#[test]
fn the_limits_themselves_are_accepted_and_what_is_beyond_is_not() {
    let long = "a".repeat(63);
    let name = |name: &str| format!("{name:?}");
    for (field, accepted, refused) in [
        (
            "decideAfterBytes",
            vec!["1024", "16777216"],
            vec!["0", "1023", "16777217", "18446744073709551615"],
        ),
        (
            "decideAfterIdleMs",
            vec!["2", "10000"],
            vec!["0", "1", "10001"],
        ),
        (
            "blockBytes",
            vec!["64", "4096"],
            vec!["0", "63", "4097", "18446744073709551615"],
        ),
        (
            "rankCapacityTokens",
            vec!["1024", "1000000000"],
            vec!["0", "1023", "1000000001"],
        ),
        (
            "missWeight",
            vec!["1e-9", "1", "1e9"],
            vec!["0", "-0.0", "-1", "1.1e9", "1e300"],
        ),
        (
            "prefillTokensPerSecond",
            vec!["0.5", "1e9"],
            vec!["0", "-1", "1e10"],
        ),
        (
            "inFlightCostMs",
            vec!["0", "0.5", "1e6"],
            vec!["-0.1", "1.1e6"],
        ),
        (
            "localPrefillTokens",
            vec!["0", "256", "1000000000"],
            vec!["1000000001"],
        ),
        (
            "prefillLegCostMs",
            vec!["0", "0.5", "1e6"],
            vec!["-0.1", "1.1e6"],
        ),
    ] {
        for value in accepted {
            assert_eq!(
                mistakes(&format!("\"{field}\":{value}")),
                [],
                "{field}: {value}"
            );
        }
        for value in refused {
            let mistakes = mistakes(&format!("\"{field}\":{value}"));
            assert_eq!(
                mistakes
                    .iter()
                    .map(|mistake| mistake.field)
                    .collect::<Vec<_>>(),
                [field],
                "{field}: {value}"
            );
        }
    }
    for (pool, is_accepted) in [
        (name("a"), true),
        (name(&long), true),
        (name("a-b_c9"), true),
        (name(&(long.clone() + "a")), false),
        (name(""), false),
        (name("A"), false),
        (name("a.b"), false),
        (name("\u{e9}"), false),
        (name("a b"), false),
    ] {
        assert_eq!(
            mistakes(&format!("\"pool\":{pool}")).is_empty(),
            is_accepted,
            "{pool}"
        );
    }
}

#[test]
fn every_mistake_is_named_with_what_was_given_and_what_is_accepted() {
    let errors = Config::try_from(raw(
        r#"{"pool":"A b","ranks":["pod-a:8000","10.0.0.7:9-8"],"decideAfterBytes":1,"decideAfterIdleMs":0,"blockBytes":5000,
            "rankCapacityTokens":7,"missWeight":0,"prefillTokensPerSecond":-2.5,"inFlightCostMs":-1}"#,
    ))
    .unwrap_err();
    let mut named: Vec<(&str, &str)> = errors
        .0
        .iter()
        .map(|error| (error.field, error.given.as_str()))
        .collect();
    named.sort_unstable();
    let expected = [
        ("blockBytes", "5000"),
        ("decideAfterBytes", "1"),
        ("decideAfterIdleMs", "0"),
        ("inFlightCostMs", "-1"),
        ("missWeight", "0"),
        ("pool", "\"A b\""),
        ("prefillTokensPerSecond", "-2.5"),
        ("rankCapacityTokens", "7"),
        ("ranks", "\"10.0.0.7:9-8\""),
        ("ranks", "\"pod-a:8000\""),
    ];
    assert_eq!(named, expected);
    assert!(errors.0.iter().all(|error| !error.accepted.is_empty()));
}

#[test]
fn keys_are_bounded_and_only_known_ones_can_be_allowed() {
    let long = "a".repeat(64);
    for (fields, mistaken) in [
        (r#""refuseKeys":["a","A-b_c.9"]"#.to_string(), vec![]),
        (format!(r#""refuseKeys":["{long}"]"#), vec![]),
        (format!(r#""refuseKeys":["{long}a"]"#), vec!["refuseKeys"]),
        (r#""refuseKeys":["","a b"]"#.into(), vec!["refuseKeys"; 2]),
        (r#""refuseKeys":["a\"b"]"#.into(), vec!["refuseKeys"]),
        (
            format!(r#""refuseKeys":{:?}"#, vec!["a"; 17]),
            vec!["refuseKeys"],
        ),
        (r#""allowKeys":["kv_transfer_params"]"#.into(), vec![]),
        (
            r#""allowKeys":["kv_transfer_param"]"#.into(),
            vec!["allowKeys"],
        ),
        (
            r#""refuseKeys":["bootstrap_host"],"allowKeys":["bootstrap_host"]"#.into(),
            vec!["allowKeys"],
        ),
    ] {
        let mistakes = mistakes(&fields);
        let named: Vec<&str> = mistakes.iter().map(|mistake| mistake.field).collect();
        assert_eq!(named, mistaken, "{fields}");
    }
}

#[test]
fn a_pool_needs_a_rank() {
    for json in ["{}", r#"{"ranks":[]}"#, r#"{"ranks":null}"#] {
        let errors = Config::try_from(raw(json)).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{json}");
        assert_eq!(
            (errors.0[0].field, errors.0[0].given.as_str()),
            ("ranks", "0 ranks"),
            "{json}"
        );
    }
}

#[test]
fn a_pool_has_at_most_1024_ranks() {
    assert_eq!(ranks(r#"["10.0.0.7:1-1024"]"#).unwrap().len(), 1024);
    assert_eq!(
        ranks(r#"["10.0.0.7:1-512","10.0.0.8:1-512"]"#)
            .unwrap()
            .len(),
        1024
    );
    for list in [
        r#"["10.0.0.7:1-1025"]"#,
        r#"["10.0.0.7:1-512","10.0.0.8:1-513"]"#,
        r#"["10.0.0.7:1-65535"]"#,
    ] {
        assert_eq!(ranks(list).unwrap_err().0.len(), 1, "{list}");
    }
}

#[test]
fn a_rank_that_is_named_twice_is_a_mistake() {
    for list in [
        r#"["10.0.0.7:8000","10.0.0.7:8000"]"#,
        r#"["10.0.0.7:7999-8000","10.0.0.8:1","10.0.0.7:8000-8001"]"#,
    ] {
        let text = ranks(list).unwrap_err().to_string();
        assert_eq!(
            text, "ranks: \"10.0.0.7:8000\" twice given, each rank once accepted",
            "{list}"
        );
    }
}

#[test]
fn an_unknown_field_and_a_wrong_type_are_refused() {
    for json in [
        r#"{"rank":[]}"#,
        r#"{"block_bytes":64}"#,
        r#"{"ranks":"10.0.0.7:8000"}"#,
        r#"{"blockBytes":-1}"#,
        "[1]",
    ] {
        assert!(serde_json::from_str::<RawConfig>(json).is_err(), "{json}");
    }
}

#[test]
fn what_is_in_force_is_told_in_one_line() {
    let config = Config::try_from(raw(r#"{"ranks":["10.0.0.7:8000-8007"]}"#)).unwrap();
    let expected = "pool default: 8 ranks of 7812 blocks of 256 bytes, decides after 786432 bytes or 50 ms, miss weight learnt, \
                    20000 tokens/s, 0.01 s in flight";
    assert_eq!(config.to_string(), expected);
}

#[test]
fn a_hash_seed_is_made_of_a_text_and_never_shown() {
    let seeded = |text: &str| {
        raw(&format!(
            r#"{{"ranks":["10.0.0.7:8000"],"hashSeed":"{text}"}}"#
        ))
    };
    let config = |text: &str| Config::try_from(seeded(text)).unwrap();
    let none = Config::try_from(raw(r#"{"ranks":["10.0.0.7:8000"]}"#)).unwrap();
    assert_eq!(none.block_cut().seed, 0);
    assert_eq!(config("open sesame"), config("open sesame"));
    assert_ne!(
        config("open sesame").block_cut().seed,
        config("open barley").block_cut().seed
    );
    assert_ne!(config("x").block_cut().seed, 0);
    assert!(!config("open sesame").to_string().contains("sesame"));
    for (text, given) in [(String::new(), "0 bytes"), ("s".repeat(257), "257 bytes")] {
        let errors = Config::try_from(seeded(&text)).unwrap_err().to_string();
        assert!(
            errors.contains("hashSeed") && errors.contains(given),
            "{errors}"
        );
    }
    config(&"s".repeat(256));
}
