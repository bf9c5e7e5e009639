//! The configuration of one filter: which of the two it is, and for the picker all settings.
//!
//! A picker serves one pool, whose fields stand beside `filter`, or several under `pools`.
//!
//! The reader has no settings of its own, so that two plugins cannot disagree: it takes them from the picker that
//! it meets on each stream.

use serde::Deserialize;
use serde_json::Value;

use crate::{Config, ConfigError, ConfigErrors, RawConfig};

/// A filter of the module.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterConfig {
    /// Sees the body and lets it pass.
    Reader,
    /// Holds the headers and names the rank.
    Picker(Vec<Config>),
}

#[derive(Deserialize)]
#[serde(tag = "filter", rename_all = "lowercase")]
enum RawFilter {
    Reader(RawReader),
    Picker(Box<RawConfig>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReader {}

/// A picker of several pools.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPools {
    #[serde(rename = "filter")]
    _filter: String,
    pools: Vec<RawConfig>,
}

impl FilterConfig {
    /// Reads the JSON of a plugin configuration.
    ///
    /// # Errors
    ///
    /// JSON that does not have the right form is one mistake; otherwise every wrong value is named.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigErrors> {
        let value: Value = serde_json::from_slice(json).map_err(|error| malformed(&error))?;
        if value.get("filter").is_some_and(|filter| filter == "picker")
            && value.get("pools").is_some()
        {
            let raw: RawPools = serde_json::from_value(value).map_err(|error| malformed(&error))?;
            return Ok(Self::Picker(pools(raw.pools)?));
        }
        match serde_json::from_value(value).map_err(|error| malformed(&error))? {
            RawFilter::Reader(RawReader {}) => Ok(Self::Reader),
            RawFilter::Picker(raw) => Ok(Self::Picker(vec![Config::try_from(*raw)?])),
        }
    }
}

/// Checks each pool, and that they can be told apart.
fn pools(raw: Vec<RawConfig>) -> Result<Vec<Config>, ConfigErrors> {
    let (mut pools, mut mistakes) = (Vec::<Config>::new(), Vec::new());
    let are_several = raw.len() > 1;
    for (number, raw) in raw.into_iter().enumerate() {
        match Config::try_from(raw) {
            Ok(pool) if pools.iter().any(|other| other.pool() == pool.pool()) => {
                mistakes.push(mistake(
                    number,
                    "pool",
                    format!("{:?} twice", pool.pool()),
                    "each pool once",
                ));
            }
            Ok(pool) if are_several && !pool.is_discovered() => {
                mistakes.push(mistake(
                    number,
                    "clusters",
                    "nothing".to_string(),
                    MANY_NEED_CLUSTERS,
                ));
            }
            Ok(pool) => pools.push(pool),
            Err(errors) => mistakes.extend(errors.0.into_iter().map(|error| ConfigError {
                place: place(number),
                ..error
            })),
        }
    }
    if pools.is_empty() && mistakes.is_empty() {
        mistakes.push(mistake(
            0,
            "",
            "nothing".to_string(),
            "a list of at least one pool",
        ));
    }
    if mistakes.is_empty() {
        Ok(pools)
    } else {
        Err(ConfigErrors(mistakes))
    }
}

const MANY_NEED_CLUSTERS: &str =
    "where there are several pools, the names of the clusters whose requests are for this one";

fn place(number: usize) -> String {
    format!("pools[{number}].")
}

fn mistake(
    number: usize,
    field: &'static str,
    given: String,
    accepted: &'static str,
) -> ConfigError {
    ConfigError {
        place: place(number),
        field,
        given,
        accepted,
    }
}

fn malformed(error: &serde_json::Error) -> ConfigErrors {
    ConfigErrors(vec![ConfigError {
        place: String::new(),
        field: "configuration",
        given: error.to_string(),
        accepted: r#"{"filter":"reader"} or {"filter":"picker","ranks":[...]} with fields of the README"#,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> String {
        FilterConfig::parse(json.as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_two_filters_are_told_apart() {
        assert_eq!(
            FilterConfig::parse(br#"{"filter":"reader"}"#),
            Ok(FilterConfig::Reader)
        );
        let picker = FilterConfig::parse(br#"{"filter":"picker","ranks":["10.0.0.1:8000-8007"]}"#);
        assert!(matches!(picker, Ok(FilterConfig::Picker(pools)) if pools[0].ranks().len() == 8));
    }

    #[test]
    fn a_misspelt_field_is_named() {
        assert!(problem(r#"{"filter":"picker","rank":[]}"#).contains("unknown field `rank`"));
        assert!(problem(r#"{"filter":"reader","ranks":[]}"#).contains("unknown field `ranks`"));
        assert!(problem(r#"{"filter":"router"}"#).contains("unknown variant `router`"));
        assert!(problem("{}").contains("missing field `filter`"));
        assert!(problem("").contains("EOF"));
        assert!(problem(r#"{"filter":"reader"} x"#).contains("trailing characters"));
        assert!(problem(r#"{"filter":"picker","ranks":"10.0.0.1:8000"}"#).contains("invalid type"));
        assert!(FilterConfig::parse(b"\xff").is_err());
    }

    #[test]
    fn numbers_may_be_written_with_and_without_a_fraction() {
        let json =
            br#"{"missWeight":2,"inFlightCostMs":2.5,"ranks":["10.0.0.1:8000"],"filter":"picker"}"#;
        let Ok(FilterConfig::Picker(pools)) = FilterConfig::parse(json) else {
            panic!("refused")
        };
        let config = &pools[0];
        assert_eq!(
            (
                config.weights().miss_weight,
                config.weights().in_flight_seconds
            ),
            (Some(2.0), 0.0025)
        );
    }

    #[test]
    fn a_malformed_configuration_is_one_mistake_that_says_what_is_accepted() {
        let errors = FilterConfig::parse(b"{").unwrap_err();
        assert_eq!(errors.0.len(), 1);
        assert_eq!(errors.0[0].field, "configuration");
        assert!(errors.0[0].accepted.contains(r#"{"filter":"reader"}"#));
    }

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let text = problem(
            r#"{"filter":"picker","pool":"A b","ranks":["pod-a:8000"],"blockBytes":1,"missWeight":-1,
                "decideAfterBytes":20000000}"#,
        );
        for field in [
            "pool: \"A b\"",
            "ranks: \"pod-a:8000\"",
            "blockBytes: 1 given",
            "missWeight: -1 given",
        ] {
            assert!(text.contains(field), "{field} is missing in: {text}");
        }
        assert!(
            text.contains("decideAfterBytes: 20000000 given, 1024 to 16777216 bytes"),
            "{text}"
        );
    }

    #[test]
    fn several_pools_are_told_apart_by_their_clusters() {
        let json = br#"{"filter":"picker","pools":[
            {"pool":"small","clusters":["outbound|8000||small-*"]},
            {"pool":"large","clusters":["outbound|*||large.llm.svc"],"missWeight":2}]}"#;
        let Ok(FilterConfig::Picker(pools)) = FilterConfig::parse(json) else {
            panic!("refused")
        };
        let served = |cluster: &str| {
            let pool = pools.iter().find(|pool| pool.serves(cluster));
            pool.map(|pool| pool.pool().to_string())
        };
        assert_eq!(
            served("outbound|8000||small-a.llm.svc").as_deref(),
            Some("small")
        );
        assert_eq!(
            served("outbound|8001||large.llm.svc").as_deref(),
            Some("large")
        );
        assert_eq!(served("outbound|8000||web.shop.svc"), None);
    }

    #[test]
    fn mistakes_of_several_pools_say_which_pool() {
        let text = problem(
            r#"{"filter":"picker","pools":[{"pool":"a","clusters":["a"]},{"pool":"a","clusters":["b"]},
                {"pool":"c","ranks":["10.0.0.1:8000"]},{"pool":"d","clusters":[""],"blockBytes":1}]}"#,
        );
        for mistake in [
            "pools[1].pool: \"a\" twice",
            "pools[2].clusters: nothing given",
            "pools[3].clusters: \"\" given",
            "pools[3].blockBytes: 1 given",
        ] {
            assert!(text.contains(mistake), "{mistake} is missing in: {text}");
        }
        assert!(problem(r#"{"filter":"picker","pools":[]}"#).contains("at least one pool"));
        assert!(
            problem(r#"{"filter":"picker","pools":[],"ranks":[]}"#)
                .contains("unknown field `ranks`")
        );
    }
}
