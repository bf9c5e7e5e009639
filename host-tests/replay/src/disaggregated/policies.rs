//! All policies for prefill and decode apart, by name.

use anyhow::{Result, bail};

use super::oracle::OraclePair;
use super::ours::OursPair;
use super::policy::{PairPolicy, PairSetup};
use super::round_robin::RoundRobinPair;
use crate::ours;
use crate::peers::{DynamoPair, EppPair};

/// Every policy, in the order of the table.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names = vec!["round-robin"];
    names.extend(EppPair::NAMES);
    names.extend(DynamoPair::NAMES);
    names.extend(["oracle", "ours"]);
    names
}

/// A policy by its name. `ours` can have settings in its name.
///
/// # Errors
/// When there is none of that name, or the deployed router refuses its configuration.
pub fn named(name: &str, setup: &PairSetup) -> Result<Box<dyn PairPolicy>> {
    if let Some(peer) = EppPair::named(name, setup) {
        return Ok(Box::new(peer));
    }
    if let Some(peer) = DynamoPair::named(name, setup) {
        return Ok(Box::new(peer));
    }
    Ok(match name {
        "round-robin" => Box::new(RoundRobinPair::new(setup.ratio)),
        "oracle" => Box::new(OraclePair::new(setup)),
        _ if name == "ours" || name.starts_with("ours:") => Box::new(OursPair::named(name, setup)?),
        _ => bail!("no policy {name:?}; there are {}", names().join(", ")),
    })
}

/// How often a policy asks its ranks.
#[must_use]
pub fn report_interval_ms(name: &str) -> f64 {
    match name {
        // `--refresh-metrics-interval`.
        _ if name.starts_with("epp-") => 50.0,
        _ if name.starts_with("ours") => ours::REPORT_INTERVAL_MS,
        // They read no reports.
        _ => 60_000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disaggregated::ratio::Ratio;

    #[test]
    fn every_name_has_a_policy_and_no_other() {
        let setup = PairSetup {
            ratio: Ratio {
                prefill: 2,
                decode: 3,
            },
            ranks_per_pod: 2,
            capacity_tokens: 100_000,
            block_tokens: 512,
            seed: 1,
        };
        for name in names() {
            assert!(named(name, &setup).is_ok(), "{name}");
            assert!(report_interval_ms(name) >= 50.0, "{name}");
        }
        assert!(named("none", &setup).is_err());
        assert!(named("ours:none=1", &setup).is_err());
    }
}
