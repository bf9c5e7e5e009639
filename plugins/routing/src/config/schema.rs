//! The JSON schema of the configuration: fields, types and words of [`RawConfig`], defaults and bounds of the check.
//!
//! What it refuses, the module refuses. The module looks at more: ranks or pools that are there twice, keys that are both
//! refused and allowed, the number of ranks of all ranges together, and lengths in bytes where a schema counts characters.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{
    ADMIN_CLUSTER, BLOCK_BYTES, BLOCK_BYTES_BOUNDS, DECIDE_AFTER_BYTES, DECIDE_AFTER_BYTES_BOUNDS,
    DECIDE_AFTER_IDLE_MS, DECIDE_AFTER_IDLE_MS_BOUNDS, IN_FLIGHT_COST_MS, LOCAL_PREFILL_TOKENS,
    LOCAL_PREFILL_TOKENS_BOUNDS, MAX_RANKS, POOL, PREFILL_LEG_COST_MS, PREFILL_TOKENS_PER_SECOND,
    RANK_CAPACITY_TOKENS, RANK_CAPACITY_TOKENS_BOUNDS, RawConfig, SCRAPE_CLUSTER,
    SCRAPE_INTERVAL_MS, SCRAPE_INTERVAL_MS_BOUNDS, SHADOW,
};
use crate::default_refused_keys;
use crate::refused_keys::MAX_ADDED_KEYS;

/// `ip:port` or `ip:first-last`; IPv6 in brackets.
const RANKS: &str = r"^([0-9.]+|\[[^\]]+\]):[0-9]+(-[0-9]+)?$";

/// What stands in the names of fields.
const KEY: &str = "^[a-zA-Z0-9_.-]{1,64}$";

/// What the `pluginConfig` of a filter may be, as a JSON schema of draft 2020-12: one for the reader, one for a picker of
/// one pool, one for a picker of several.
#[must_use]
pub fn config_schema() -> Value {
    let pool = pool();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rank-router",
        "description": "pluginConfig of the filters of rank-router",
        "oneOf": [reader(), one_pool(&pool), several_pools(&pool)],
    })
}

fn reader() -> Value {
    json!({
        "title": "reader",
        "description": "Comes first, sees the body and lets it pass; takes its settings from the picker.",
        "type": "object",
        "properties": {"filter": {"const": "reader"}},
        "required": ["filter"],
        "additionalProperties": false,
    })
}

fn one_pool(pool: &Value) -> Value {
    let mut picker = pool.clone();
    merge(
        &mut picker,
        json!({
            "title": "picker of one pool",
            "description": "Comes later, holds the request until its rank is chosen.",
            "properties": {"filter": {"const": "picker"}},
            "required": ["filter"],
        }),
    );
    picker
}

fn several_pools(pool: &Value) -> Value {
    json!({
        "title": "picker of several pools",
        "description": "The cluster of a request says which pool it is for.",
        "type": "object",
        "properties": {
            "filter": {"const": "picker"},
            "pools": {
                "type": "array", "minItems": 1, "items": pool,
                "anyOf": [{"maxItems": 1}, {"items": has_clusters()}],
            },
        },
        "required": ["filter", "pools"],
        "additionalProperties": false,
    })
}

fn has_clusters() -> Value {
    json!({"required": ["clusters"], "properties": {"clusters": {"type": "array"}}})
}

fn has_ranks() -> Value {
    json!({"required": ["ranks"], "properties": {"ranks": {"type": "array", "minItems": 1}}})
}

/// The fields of a pool. It has ranks, one way or the other.
fn pool() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut pool = settings
        .into_generator()
        .into_root_schema_for::<RawConfig>()
        .to_value();
    merge(
        &mut pool,
        json!({
            "title": "pool",
            "description": "Ranks among which one is picked for each request of the pool.",
            "properties": limits(),
            "anyOf": [has_ranks(), has_clusters()],
        }),
    );
    pool
}

/// Defaults and bounds, by field.
fn limits() -> Value {
    json!({
        "pool": {"default": POOL, "pattern": "^[a-z0-9_-]{1,63}$"},
        "ranks": {"maxItems": MAX_RANKS, "items": {"pattern": RANKS}},
        "clusters": {"minItems": 1, "maxItems": 64, "items": name()},
        "models": {"minItems": 1, "maxItems": 64, "items": name()},
        "roles": {"maxItems": 64, "items": role()},
        "adminCluster": with_default(name(), json!(ADMIN_CLUSTER)),
        "scrapeCluster": with_default(name(), json!(SCRAPE_CLUSTER)),
        "scrapeIntervalMs": whole(SCRAPE_INTERVAL_MS, SCRAPE_INTERVAL_MS_BOUNDS),
        "decideAfterBytes": whole(DECIDE_AFTER_BYTES, DECIDE_AFTER_BYTES_BOUNDS),
        "decideAfterIdleMs": whole(DECIDE_AFTER_IDLE_MS, DECIDE_AFTER_IDLE_MS_BOUNDS),
        "blockBytes": whole(BLOCK_BYTES, BLOCK_BYTES_BOUNDS),
        "hashSeed": name(),
        "rankCapacityTokens": whole(RANK_CAPACITY_TOKENS, RANK_CAPACITY_TOKENS_BOUNDS),
        "missWeight": positive(),
        "prefillTokensPerSecond": with_default(positive(), json!(PREFILL_TOKENS_PER_SECOND)),
        "inFlightCostMs": cost_ms(IN_FLIGHT_COST_MS),
        "prefillLegCostMs": cost_ms(PREFILL_LEG_COST_MS),
        "localPrefillTokens": whole(LOCAL_PREFILL_TOKENS, LOCAL_PREFILL_TOKENS_BOUNDS),
        "shadow": {"default": SHADOW},
        "refuseKeys": {"default": [], "maxItems": MAX_ADDED_KEYS, "items": {"pattern": KEY}},
        "allowKeys": {"default": [], "items": {"enum": default_refused_keys().collect::<Vec<_>>()}},
    })
}

fn whole(default: u64, (least, most): (u64, u64)) -> Value {
    json!({"default": default, "minimum": least, "maximum": most})
}

fn positive() -> Value {
    json!({"exclusiveMinimum": 0, "maximum": 1e9})
}

fn cost_ms(default: f64) -> Value {
    json!({"default": default, "minimum": 0, "maximum": 1e6})
}

fn name() -> Value {
    json!({"minLength": 1, "maxLength": 256})
}

/// A rule is for something.
fn role() -> Value {
    let criterion =
        |field: &str| json!({"required": [field], "properties": {field: {"type": "string"}}});
    json!({
        "properties": {"cluster": name(), "workload": name(), "namespace": name()},
        "anyOf": [criterion("cluster"), criterion("workload"), criterion("namespace")],
    })
}

fn with_default(mut schema: Value, default: Value) -> Value {
    merge(&mut schema, json!({"default": default}));
    schema
}

/// Adds what is in `more`, objects within objects; what both have and is no object is `more`'s.
fn merge(schema: &mut Value, more: Value) {
    match (schema, more) {
        (Value::Object(schema), Value::Object(more)) => merge_objects(schema, more),
        (schema, more) => *schema = more,
    }
}

fn merge_objects(schema: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        merge(schema.entry(key).or_insert(Value::Null), value);
    }
}
