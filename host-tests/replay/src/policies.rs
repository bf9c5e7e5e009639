//! All policies by name.

use anyhow::{Result, bail};

use crate::baselines::{LeastInFlight, LeastRequest, Oracle, Random, RoundRobin};
use crate::ours::{self, Ours};
use crate::peers::{self, Setup};
use crate::policy::Policy;

/// Those beside the peers.
const OWN_NAMES: &[&str] = &[
    "random",
    "round-robin",
    "least-in-flight",
    "least-request",
    "oracle",
    "ours",
];

/// Every policy, in the order of the table.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let (simple, rest) = OWN_NAMES.split_at(4);
    [simple, peers::NAMES, rest].concat()
}

/// A policy by its name. `ours` can have settings in its name: [`Ours::named`].
///
/// # Errors
/// When there is none of that name, or the deployed router refuses its configuration.
pub fn named(name: &str, setup: &Setup) -> Result<Box<dyn Policy>> {
    let Setup { ranks, seed, .. } = *setup;
    Ok(match name {
        "random" => Random::boxed(ranks, seed),
        "round-robin" => RoundRobin::boxed(ranks),
        "least-in-flight" => LeastInFlight::boxed(ranks, seed),
        "least-request" => LeastRequest::boxed(ranks, seed),
        "oracle" => Oracle::boxed(ranks, seed),
        _ if is_ours(name) => Box::new(Ours::named(name, setup)?),
        _ if name.starts_with("trial") => Box::new(crate::trial::Trial::named(name, setup)?),
        _ => match peers::named(name, setup) {
            Some(policy) => policy,
            None => bail!("no policy {name:?}; there are {}", names().join(", ")),
        },
    })
}

/// The deployed decision, perhaps with other settings.
fn is_ours(name: &str) -> bool {
    let kind = name.split_once(':').map_or(name, |(kind, _)| kind);
    ours::NAMES.contains(&kind)
}

/// How often a policy asks its ranks.
#[must_use]
pub fn report_interval_ms(name: &str) -> f64 {
    match name {
        _ if is_ours(name) => ours::REPORT_INTERVAL_MS,
        // They read no reports.
        _ if OWN_NAMES.contains(&name) => 60_000.0,
        _ => peers::report_interval_ms(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_policy() {
        let setup = Setup {
            ranks: 3,
            ranks_per_pod: 2,
            capacity_tokens: 100_000,
            reports_capacity: true,
            block_tokens: 512,
            seed: 1,
        };
        for name in names() {
            assert!(named(name, &setup).is_ok(), "{name}");
            assert!(report_interval_ms(name) >= 10.0, "{name}");
        }
        assert!(named("none", &setup).is_err());
    }
}
