//! Settings in the name of a policy: `name:key=number+key=number`.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// Reads what stands behind the colon of a policy's name, as the keys of `T`; all else has `T`'s defaults.
///
/// # Errors
/// When a setting is not `key=number`, or `T` knows none of that name.
pub fn read<T: DeserializeOwned>(name: &str) -> Result<T> {
    let settings = name.split_once(':').map_or("", |(_, settings)| settings);
    let pairs = settings.split('+').filter(|pair| !pair.is_empty());
    let values = pairs.map(|pair| {
        let (key, number) = pair.split_once('=').context("a setting is key=number")?;
        let number: serde_json::Value = serde_json::from_str(number)?;
        Ok((key.to_string(), number))
    });
    let values = values.collect::<Result<serde_json::Map<_, _>>>();
    let values = values.with_context(|| format!("cannot read {name:?}"))?;
    serde_json::from_value(serde_json::Value::Object(values))
        .with_context(|| format!("cannot use {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Two {
        one: f64,
        two: Option<u64>,
    }

    #[test]
    fn settings_are_read_by_their_keys() {
        let two = |one, two| Two { one, two };
        assert_eq!(read::<Two>("name").unwrap(), two(0.0, None));
        assert_eq!(read::<Two>("name:one=2.5").unwrap(), two(2.5, None));
        assert_eq!(read::<Two>("name:one=1+two=7").unwrap(), two(1.0, Some(7)));
    }

    #[test]
    fn what_is_no_setting_is_refused_with_the_name() {
        for name in ["name:one", "name:one=a", "name:three=1", "name:two=-1"] {
            let error = format!("{:#}", read::<Two>(name).unwrap_err());
            assert!(error.contains(name), "{error}");
        }
    }
}
