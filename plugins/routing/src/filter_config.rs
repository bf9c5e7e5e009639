//! The configuration of one filter: which of the two it is, and for the picker all settings.
//!
//! The reader has no settings of its own, so that two plugins cannot disagree: it takes them from the picker that
//! it meets on each stream.

use serde::Deserialize;

use crate::{Config, ConfigError, ConfigErrors, RawConfig};

/// A filter of the module.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterConfig {
    /// Sees the body and lets it pass.
    Reader,
    /// Holds the headers and names the rank.
    Picker(Box<Config>),
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

impl FilterConfig {
    /// Reads the JSON of a plugin configuration.
    ///
    /// # Errors
    ///
    /// JSON that does not have the right form is one mistake; otherwise every wrong value is named.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigErrors> {
        match serde_json::from_slice(json).map_err(|error| malformed(&error))? {
            RawFilter::Reader(RawReader {}) => Ok(Self::Reader),
            RawFilter::Picker(raw) => Ok(Self::Picker(Box::new(Config::try_from(*raw)?))),
        }
    }
}

fn malformed(error: &serde_json::Error) -> ConfigErrors {
    ConfigErrors(vec![ConfigError {
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
        assert!(matches!(picker, Ok(FilterConfig::Picker(config)) if config.ranks().len() == 8));
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
        let Ok(FilterConfig::Picker(config)) = FilterConfig::parse(json) else {
            panic!("refused")
        };
        assert_eq!(
            (
                config.weights().miss_weight,
                config.weights().in_flight_seconds
            ),
            (2.0, 0.0025)
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
}
