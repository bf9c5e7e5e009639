//! Histograms of Envoy, as its admin page shows them.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::connection::get;
use crate::envoy::Envoy;

/// The quantiles of a histogram since Envoy started, by name (`P50`); `None` when there is none of this name or nothing
/// was recorded. Envoy gathers what its workers recorded every few seconds, so the last ones may be missing.
///
/// # Errors
/// When the admin interface does not answer.
pub async fn of(envoy: &Envoy, name: &str) -> Result<Option<BTreeMap<String, f64>>> {
    let page = get(envoy.admin(), "/stats").await?;
    Ok(page
        .lines()
        .find_map(|line| quantiles(line.strip_prefix(name)?.strip_prefix(": ")?)))
}

/// Reads `P0(nan,1) P25(nan,2.5)`: of the last interval, and since the start.
fn quantiles(line: &str) -> Option<BTreeMap<String, f64>> {
    let quantile = |word: &str| {
        let (name, values) = word.strip_suffix(')')?.split_once('(')?;
        let (_, since_start) = values.split_once(',')?;
        Some((name.to_string(), since_start.parse().ok()?))
    };
    let quantiles: BTreeMap<String, f64> = line.split(' ').filter_map(quantile).collect();
    (!quantiles.is_empty()).then_some(quantiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_since_the_start() {
        // Of Envoy 1.37.0.
        let line = "P0(nan,0) P25(1,2.5) P99.9(nan,1050) P100(nan,1100)";
        let expected = [
            ("P0", 0.0),
            ("P25", 2.5),
            ("P99.9", 1050.0),
            ("P100", 1100.0),
        ];
        let expected = expected.map(|(name, value)| (name.to_string(), value));
        assert_eq!(quantiles(line), Some(expected.into()));
        assert_eq!(quantiles("No recorded values"), None);
    }
}
