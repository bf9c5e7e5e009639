use super::*;
use crate::Condition;

fn found(cluster: &str, workload: &str) -> FoundEndpoint {
    FoundEndpoint {
        address: "10.0.0.1:8000".parse().unwrap(),
        cluster: cluster.to_string(),
        workload: Some(workload.to_string()).filter(|name| !name.is_empty()),
        namespace: Some("llm-d".to_string()),
        revision: None,
        condition: Condition::Serving,
    }
}

fn rules(json: &str) -> RoleRules {
    serde_json::from_str(json).unwrap()
}

fn problem(json: &str) -> String {
    serde_json::from_str::<RoleRules>(json)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_prefill_rank_is_no_destination_and_a_decode_rank_prefills_for_nobody() {
    let abilities = |role: Role| (role.can_serve(), role.can_prefill());
    assert_eq!(abilities(Role::Prefill), (false, true));
    assert_eq!(abilities(Role::Decode), (true, false));
    assert_eq!(abilities(Role::Both), (true, true));
}

#[test]
fn without_rules_the_workload_tells_the_role() {
    for (workload, role) in [
        ("wide-ep-llm-d-prefill", Role::Prefill),
        ("wide-ep-llm-d-decode", Role::Decode),
        ("wide-ep-llm-d-decode-0", Role::Decode),
        ("vllm", Role::Both),
        ("vllm-prefill-decode", Role::Both),
        ("encode-prefill-decode", Role::Both),
        ("", Role::Both),
    ] {
        let rank = found("pool", workload);
        assert_eq!(RoleRules::default().role(&[&rank]), role, "{workload}");
    }
}

#[test]
fn without_rules_a_cluster_that_knows_the_workload_tells_it_for_all() {
    let (unknown, known) = (found("a", ""), found("b", "x-prefill"));
    assert_eq!(
        RoleRules::default().role(&[&unknown, &known]),
        Role::Prefill
    );
    assert_eq!(RoleRules::default().role(&[]), Role::Both);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = rules(
        r#"[{"role":"decode","workload":"*-decode-7"},
            {"role":"prefill","workload":"*-decode*","namespace":"llm-*"},
            {"role":"both","workload":"*-decode*"}]"#,
    );
    assert_eq!(rules.role(&[&found("pool", "x-decode-7")]), Role::Decode);
    assert_eq!(rules.role(&[&found("pool", "x-decode-8")]), Role::Prefill);
    let mut elsewhere = found("pool", "x-decode-8");
    elsewhere.namespace = Some("other".to_string());
    assert_eq!(rules.role(&[&elsewhere]), Role::Both);
}

#[test]
fn with_rules_a_rank_that_none_matches_does_both_whatever_its_name() {
    let rules = rules(r#"[{"role":"decode","workload":"y-*"}]"#);
    assert_eq!(rules.role(&[&found("pool", "x-prefill")]), Role::Both);
}

#[test]
fn a_rule_matches_a_rank_by_any_of_its_clusters() {
    let rules =
        rules(r#"[{"role":"prefill","cluster":"*prefill*"},{"role":"decode","cluster":"*"}]"#);
    let (pool, prefill) = (found("pool", "x"), found("prefill-pool", "x"));
    assert_eq!(rules.role(&[&pool]), Role::Decode);
    assert_eq!(rules.role(&[&pool, &prefill]), Role::Prefill);
    assert_eq!(rules.role(&[&prefill, &pool]), Role::Prefill);
}

#[test]
fn the_criteria_of_a_rule_are_met_by_one_and_the_same_endpoint() {
    let rules = rules(r#"[{"role":"prefill","cluster":"a","workload":"y"}]"#);
    assert_eq!(
        rules.role(&[&found("a", "x"), &found("b", "y")]),
        Role::Both
    );
    assert_eq!(
        rules.role(&[&found("b", "x"), &found("a", "y")]),
        Role::Prefill
    );
}

#[test]
fn what_is_unknown_meets_no_criterion() {
    let rules = rules(r#"[{"role":"prefill","workload":"*"}]"#);
    assert_eq!(rules.role(&[&found("pool", "x")]), Role::Prefill);
    assert_eq!(rules.role(&[&found("pool", "")]), Role::Both);
}

#[test]
fn a_wrong_rule_is_refused_with_its_reason() {
    for (json, reason) in [
        (r#"[{"role":"prefill"}]"#, "a role needs a cluster"),
        (r#"[{"workload":"*"}]"#, "missing field `role`"),
        (
            r#"[{"role":"encode","workload":"*"}]"#,
            "unknown variant `encode`",
        ),
        (
            r#"[{"role":"Prefill","workload":"*"}]"#,
            "unknown variant `Prefill`",
        ),
        (r#"[{"role":"both","pod":"*"}]"#, "unknown field `pod`"),
        (r#"[{"role":"both","workload":""}]"#, "1 to 256 bytes"),
    ] {
        assert!(problem(json).contains(reason), "{json}: {}", problem(json));
    }
    let many = |count| {
        format!(
            "[{}]",
            vec![r#"{"role":"both","cluster":"x"}"#; count].join(",")
        )
    };
    assert!(serde_json::from_str::<RoleRules>(&many(64)).is_ok());
    assert!(problem(&many(65)).contains("64 rules"));
}
