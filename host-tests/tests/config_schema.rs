//! The published schema is made of the code, and says what the module says.

use anyhow::{Context, Result, ensure};
use host_tests::istio_manifest::IstioManifest;
use host_tests::repository;
use jsonschema::Validator;
use routing::{FilterConfig, config_schema};
use serde_json::{Map, Value, json};

const FILE: &str = "manifests/plugin-config.schema.json";

fn validator() -> Result<Validator> {
    Ok(jsonschema::draft202012::new(&config_schema())?)
}

fn module_accepts(config: &Value) -> bool {
    FilterConfig::parse(config.to_string().as_bytes()).is_ok()
}

/// Schemas of the fields of a pool.
fn fields() -> Result<Map<String, Value>> {
    let schema = config_schema();
    let fields = schema.pointer("/oneOf/2/properties/pools/items/properties");
    let fields = fields.and_then(Value::as_object);
    Ok(fields.context("a pool has fields")?.clone())
}

/// A picker with one more field.
fn picker(field: &str, value: Value) -> Value {
    json!({"filter": "picker", "ranks": ["10.0.0.7:8000"], field: value})
}

#[test]
fn the_published_schema_is_the_one_that_the_code_makes() -> Result<()> {
    let published: Value = serde_json::from_str(&repository::read(FILE)?)?;
    ensure!(
        published == config_schema(),
        "write it anew: cargo run --package host-tests --bin config-schema > {FILE}"
    );
    Ok(())
}

#[test]
fn it_is_a_schema_itself() {
    assert!(jsonschema::draft202012::meta::is_valid(&config_schema()));
}

#[test]
fn every_field_says_what_it_does_and_every_number_has_bounds() -> Result<()> {
    for (field, schema) in fields()? {
        ensure!(
            schema["description"].is_string(),
            "{field} is not described"
        );
        let is_number = schema["format"].is_string();
        let is_bounded = schema["minimum"].is_number() || schema["exclusiveMinimum"].is_number();
        ensure!(
            !is_number || (is_bounded && schema["maximum"].is_number()),
            "{field} has no bounds"
        );
    }
    Ok(())
}

#[test]
fn defaults_are_those_of_the_module() -> Result<()> {
    let by_default = FilterConfig::parse(picker("pool", Value::Null).to_string().as_bytes());
    for (field, schema) in fields()? {
        let Some(default) = schema.get("default") else {
            continue;
        };
        let given = FilterConfig::parse(picker(&field, default.clone()).to_string().as_bytes());
        ensure!(
            given == by_default,
            "{default} is not the default of {field}"
        );
    }
    Ok(())
}

#[test]
fn bounds_are_those_of_the_module() -> Result<()> {
    let schema = validator()?;
    let mut bounded = 0;
    for (field, limits) in fields()? {
        let Some(most) = limits["maximum"].as_f64() else {
            continue;
        };
        let step = if limits["format"] == "uint64" {
            1.0
        } else {
            0.001
        };
        let least = limits["minimum"].as_f64();
        let lowest = least.unwrap_or(step);
        for (value, is_accepted) in [
            (lowest - step, false),
            (lowest, true),
            (most, true),
            (most * 1.001 + step, false),
        ] {
            // A whole number is written as one.
            let value = if step < 1.0 {
                json!(value)
            } else {
                json!(value as i64)
            };
            let config = picker(&field, value);
            assert_eq!(module_accepts(&config), is_accepted, "module: {config}");
            assert_eq!(schema.is_valid(&config), is_accepted, "schema: {config}");
        }
        bounded += 1;
    }
    ensure!(bounded > 5, "only {bounded} fields have bounds");
    Ok(())
}

fn accepted() -> Vec<Value> {
    let pools = |pools: Value| json!({"filter": "picker", "pools": pools});
    vec![
        json!({"filter": "reader"}),
        json!({"filter": "picker", "clusters": ["outbound|8000||*"]}),
        json!({"filter": "picker", "ranks": ["10.0.0.7:8000-8007", "[fd00::7]:8000"]}),
        json!({"filter": "picker", "ranks": [], "clusters": ["a"]}),
        picker("pool", json!(null)),
        picker("shadow", json!(true)),
        picker("models", json!(["llama-*"])),
        picker("refuseKeys", json!(["request_id", "my.key"])),
        picker("allowKeys", json!(["kv_transfer_params"])),
        picker(
            "roles",
            json!([{"role": "prefill", "workload": "*-pf-*"}, {"role": "both", "cluster": "a", "namespace": null}]),
        ),
        pools(json!([{"ranks": ["10.0.0.7:8000"]}])),
        pools(
            json!([{"pool": "a", "clusters": ["a"]}, {"pool": "b", "clusters": ["b"], "missWeight": 2}]),
        ),
    ]
}

fn refused() -> Vec<Value> {
    let pools = |pools: Value| json!({"filter": "picker", "pools": pools});
    let fields = [
        ("filters", json!(1)),
        ("blockBytes", json!("256")),
        ("ranks", json!([])),
        ("ranks", json!(null)),
        ("ranks", json!(["pod-a:8000"])),
        ("ranks", json!("10.0.0.7:8000")),
        ("clusters", json!([])),
        ("clusters", json!([""])),
        ("clusters", json!(vec!["a"; 65])),
        ("pool", json!("A b")),
        ("shadow", json!("yes")),
        ("models", json!([])),
        ("refuseKeys", json!([""])),
        ("refuseKeys", json!(["a b"])),
        ("refuseKeys", json!(["a".repeat(65)])),
        ("refuseKeys", json!(vec!["a"; 17])),
        ("allowKeys", json!(["kv_transfer_param"])),
        ("allowKvTransferParams", json!(true)),
        ("models", json!(vec!["a"; 65])),
        ("adminCluster", json!("")),
        ("scrapeCluster", json!("a".repeat(257))),
        ("roles", json!([{"role": "prefill"}])),
        ("roles", json!([{"role": "encode", "workload": "*"}])),
        ("roles", json!([{"role": "decode", "pod": "a"}])),
        (
            "roles",
            json!(vec![json!({"role": "both", "workload": "a"}); 65]),
        ),
        ("pools", json!([])),
    ];
    let mut refused: Vec<Value> = fields
        .into_iter()
        .map(|(field, value)| picker(field, value))
        .collect();
    refused.extend([
        json!({}),
        json!([]),
        json!({"filter": "other"}),
        json!({"filter": "reader", "ranks": ["10.0.0.7:8000"]}),
        json!({"filter": "picker"}),
        pools(json!([])),
        pools(json!([{}])),
        pools(json!([{"pool": "a", "clusters": ["a"]}, {"pool": "b", "ranks": ["10.0.0.7:8000"]}])),
        pools(json!([{"filter": "picker", "clusters": ["a"]}])),
    ]);
    refused
}

#[test]
fn what_the_module_accepts_the_schema_accepts() -> Result<()> {
    let schema = validator()?;
    for config in accepted() {
        assert!(module_accepts(&config), "module: {config}");
        assert!(schema.is_valid(&config), "schema: {config}");
    }
    Ok(())
}

#[test]
fn what_the_schema_refuses_the_module_refuses() -> Result<()> {
    let schema = validator()?;
    for config in refused() {
        assert!(!schema.is_valid(&config), "schema: {config}");
        assert!(!module_accepts(&config), "module: {config}");
    }
    Ok(())
}

/// What a number may be, as the README has it.
fn in_words(schema: &Value) -> Option<String> {
    let most = schema["maximum"].as_f64()?;
    let kind = match schema["format"].as_str()? {
        "uint64" => "whole number",
        _ => "number",
    };
    let least = schema["minimum"].as_f64();
    let least = least.map_or("above 0".to_string(), |least| least.to_string());
    Some(format!("{kind}, {least} to {most}"))
}

#[test]
fn the_readme_says_what_numbers_are_accepted() -> Result<()> {
    let readme = repository::read("README.md")?;
    for (field, schema) in fields()? {
        let Some(words) = in_words(&schema) else {
            continue;
        };
        let row = format!("\n| `{field}` | {words} | ");
        ensure!(readme.contains(&row), "README.md has no row{row}");
    }
    Ok(())
}

#[test]
fn every_filter_of_the_istio_manifests_is_configured_rightly() -> Result<()> {
    let schema = validator()?;
    let mut filters = 0;
    for manifest in IstioManifest::all()? {
        let Some(config) = manifest.plugin_config() else {
            continue;
        };
        let path = manifest.path.display();
        ensure!(module_accepts(&config), "{path}: {config}");
        ensure!(schema.is_valid(&config), "{path}: {config}");
        filters += 1;
    }
    ensure!(filters >= 8, "only {filters} filters in manifests/istio");
    Ok(())
}
