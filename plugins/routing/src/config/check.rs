//! Looks at each value of a configuration and keeps the mistakes.

use std::net::SocketAddr;

use super::{
    Config, IN_FLIGHT_COST_MS, MAX_RANKS, POOL, PREFILL_LEG_COST_MS, PREFILL_TOKENS_PER_SECOND,
    RawConfig,
};
use crate::refused_keys::{MAX_ADDED_KEYS, MAX_KEY_BYTES};
use crate::{
    ConfigError, ConfigErrors, CostWeights, Glob, RankRange, RefusedKeys, default_refused_keys,
    hash_bytes,
};

/// Globs that one pool may have: a cluster for each of its ports, in a few namespaces.
const MAX_GLOBS: usize = 64;

const KEYS_ACCEPTED: &str = "a list of up to 16 keys, 1 to 64 of a-z, A-Z, 0-9, -, _ and . each";
/// Longer ones only make the configuration long: the seed has 64 bits.
const MAX_SEED_BYTES: usize = 256;

/// Collects mistakes while values are taken over.
#[derive(Default)]
pub(super) struct Check {
    errors: Vec<ConfigError>,
}

impl Check {
    fn mistake(&mut self, field: &'static str, given: String, accepted: &'static str) {
        self.errors.push(ConfigError {
            place: String::new(),
            field,
            given,
            accepted,
        });
    }

    pub(super) fn whole(
        &mut self,
        field: &'static str,
        given: Option<u64>,
        default: u64,
        (least, most): (u64, u64),
        accepted: &'static str,
    ) -> u64 {
        let value = given.unwrap_or(default);
        if value < least || value > most {
            self.mistake(field, value.to_string(), accepted);
        }
        value
    }

    fn positive(&mut self, field: &'static str, given: Option<f64>, default: f64) -> f64 {
        let value = given.unwrap_or(default);
        if !(value > 0.0 && value <= 1e9) {
            self.mistake(field, value.to_string(), "a number above 0, up to 1e9");
        }
        value
    }

    /// A time in milliseconds, as seconds.
    fn seconds(&mut self, field: &'static str, given: Option<f64>, default: f64) -> f64 {
        let value_ms = given.unwrap_or(default);
        if !(0.0..=1e6).contains(&value_ms) {
            self.mistake(field, value_ms.to_string(), "0 to 1e6 milliseconds");
        }
        value_ms / 1000.0
    }

    pub(super) fn weights(&mut self, raw: &RawConfig) -> CostWeights {
        CostWeights {
            miss_weight: raw
                .miss_weight
                .map(|weight| self.positive("missWeight", Some(weight), weight)),
            prefill_tokens_per_second: self.positive(
                "prefillTokensPerSecond",
                raw.prefill_tokens_per_second,
                PREFILL_TOKENS_PER_SECOND,
            ),
            in_flight_seconds: self.seconds(
                "inFlightCostMs",
                raw.in_flight_cost_ms,
                IN_FLIGHT_COST_MS,
            ),
            leg_seconds: self.seconds(
                "prefillLegCostMs",
                raw.prefill_leg_cost_ms,
                PREFILL_LEG_COST_MS,
            ),
        }
    }

    pub(super) fn pool(&mut self, given: Option<&str>) -> String {
        let name = given.unwrap_or(POOL);
        let is_name = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
        };
        if name.is_empty() || name.len() > 63 || !name.bytes().all(is_name) {
            self.mistake("pool", format!("{name:?}"), "1 to 63 of a-z, 0-9, - and _");
        }
        name.to_string()
    }

    /// The static list; without `clusters` the only one there is.
    pub(super) fn ranks(
        &mut self,
        ranges: Option<&[String]>,
        has_clusters: bool,
    ) -> Vec<SocketAddr> {
        const ACCEPTED: &str = "a list of 1 to 1024 ranks, ip:port or ip:first-last each";
        let ranges = ranges.unwrap_or_default();
        let mut ranks: Vec<SocketAddr> = Vec::new();
        for text in ranges {
            match RankRange::parse(text) {
                Some(range) if range.len() <= MAX_RANKS => ranks.extend(range.ranks()),
                _ => self.mistake("ranks", format!("{text:?}"), ACCEPTED),
            }
        }
        if let Some(twice) = first_repeated(&ranks) {
            self.mistake("ranks", format!("\"{twice}\" twice"), "each rank once");
        }
        if (ranges.is_empty() && !has_clusters) || ranks.len() > MAX_RANKS {
            self.mistake("ranks", format!("{} ranks", ranks.len()), ACCEPTED);
        }
        ranks
    }

    pub(super) fn globs(
        &mut self,
        field: &'static str,
        globs: Option<&[String]>,
        accepted: &'static str,
    ) -> Vec<Glob> {
        let Some(globs) = globs else {
            return Vec::new();
        };
        if globs.is_empty() || globs.len() > MAX_GLOBS {
            self.mistake(field, format!("{} names", globs.len()), accepted);
        }
        let parsed = globs.iter().filter_map(|text| {
            let glob = Glob::parse(text);
            if glob.is_none() {
                self.mistake(field, format!("{text:?}"), accepted);
            }
            glob
        });
        parsed.collect()
    }

    pub(super) fn cluster(
        &mut self,
        field: &'static str,
        given: Option<&str>,
        default: &str,
    ) -> String {
        let name = given.unwrap_or(default);
        if name.is_empty() || name.len() > 256 {
            self.mistake(
                field,
                format!("{name:?}"),
                "the name of a cluster, 1 to 256 bytes",
            );
        }
        name.to_string()
    }

    /// The list, with what is added and without what is allowed.
    pub(super) fn refused_keys(
        &mut self,
        added: Option<&[String]>,
        allowed: Option<&[String]>,
    ) -> RefusedKeys {
        let (added, allowed) = (added.unwrap_or_default(), allowed.unwrap_or_default());
        if added.len() > MAX_ADDED_KEYS {
            self.mistake("refuseKeys", format!("{} keys", added.len()), KEYS_ACCEPTED);
        }
        for key in added.iter().filter(|key| !is_key(key)) {
            self.mistake("refuseKeys", format!("{key:?}"), KEYS_ACCEPTED);
        }
        for key in allowed.iter().filter(|key| added.contains(key)) {
            self.mistake("allowKeys", format!("{key:?}"), "no key of refuseKeys");
        }
        let is_known = |key: &&String| default_refused_keys().any(|known| known == *key);
        for key in allowed.iter().filter(|key| !is_known(key)) {
            self.mistake(
                "allowKeys",
                format!("{key:?}"),
                "keys that are refused by default",
            );
        }
        RefusedKeys::new(allowed.to_vec(), added.to_vec())
    }

    /// The seed that a text gives; never written to the log. 0 without one.
    pub(super) fn hash_seed(&mut self, text: Option<&str>) -> u64 {
        let Some(text) = text else { return 0 };
        if text.is_empty() || text.len() > MAX_SEED_BYTES {
            let given = format!("{} bytes", text.len());
            self.mistake("hashSeed", given, "a text of 1 to 256 bytes");
        }
        hash_bytes(text.as_bytes())
    }

    pub(super) fn finish(self, config: Config) -> Result<Config, ConfigErrors> {
        if self.errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}

/// A key that the answer to a refused request can name as it is.
fn is_key(key: &str) -> bool {
    let is_in_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(is_in_names)
}

fn first_repeated(ranks: &[SocketAddr]) -> Option<SocketAddr> {
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    })
}
