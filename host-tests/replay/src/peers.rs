//! Other routers, re-implemented from their documented behaviour with their documented defaults.
//!
//! Each module names its source, its formula, its defaults and where it is simpler than the product. The limits of their
//! indexes (sizes of blocks, caps, evictions) are theirs too, in their own units: blocks of 16 or 64 tokens are runs inside
//! the blocks of the trace, so they match as the trace's blocks do and count as their own.
//!
//! None of them looks at the truth. Equals are drawn from a generator with the seed of the setup.

mod aibrix;
mod choice;
mod chwbl;
mod consistent_hash;
mod dynamo;
mod epp;
mod epp_affinity;
pub(crate) mod holders;
mod in_flight;
mod production_stack_load;
mod production_stack_prefix;
mod ring;
#[cfg(test)]
pub(crate) mod scene;
mod sglang;
mod vllm_dp;

pub(crate) use self::dynamo::DynamoPair;
pub(crate) use self::epp::EppPair;

use self::aibrix::{Aibrix, Limits};
use self::dynamo::{Cost, Dynamo};
use self::epp::{Epp, MAX_BUSY_AS_SHIPPED, MAX_BUSY_FIXED};
use self::epp_affinity::{Affinity, Release};
use crate::policy::Policy;

/// What a peer is made for.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Ranks of the pool.
    pub ranks: usize,
    /// Ranks that share a pod. Peers that know pods only take each rank for a pod, in their favour.
    pub ranks_per_pod: usize,
    /// Tokens that the cache of a rank is said to hold.
    pub capacity_tokens: u64,
    /// Whether the ranks themselves say so, and not only whoever set the router up.
    pub reports_capacity: bool,
    /// Tokens of a block of the trace.
    pub block_tokens: u64,
    /// Seeds what is random in it.
    pub seed: u64,
}

impl Setup {
    /// Blocks of the trace that the cache of a rank holds.
    fn capacity_blocks(&self) -> usize {
        usize::try_from(self.capacity_tokens / self.block_tokens.max(1)).unwrap_or(usize::MAX)
    }

    fn dice(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }
}

/// All peers. Profiles of the EPP are peers of their own; `-fixed` has the busy/idle score of v0.9, `-readme` the defaults
/// of a readme where the code has others.
pub const NAMES: &[&str] = &[
    "epp-guide-prefill",
    "epp-guide-prefill-fixed",
    "epp-guide-decode",
    "epp-guide-decode-fixed",
    "epp-default",
    "epp-affinity",
    "epp-affinity-prefill",
    "dynamo-linear",
    "dynamo-lmetric",
    "sglang-cache-aware",
    "vllm-router-consistent-hash",
    "production-stack-prefix",
    "production-stack-load",
    "aibrix-prefix-cache",
    "aibrix-prefix-cache-readme",
    "chwbl",
    "vllm-dp",
];

/// A peer by its name, or nothing if there is none of that name.
pub fn named(name: &str, setup: &Setup) -> Option<Box<dyn Policy>> {
    Some(match name {
        "epp-guide-prefill" => Box::new(Epp::guide_prefill(setup, MAX_BUSY_AS_SHIPPED)),
        "epp-guide-prefill-fixed" => Box::new(Epp::guide_prefill(setup, MAX_BUSY_FIXED)),
        "epp-guide-decode" => Box::new(Epp::guide_decode(setup, MAX_BUSY_AS_SHIPPED)),
        "epp-guide-decode-fixed" => Box::new(Epp::guide_decode(setup, MAX_BUSY_FIXED)),
        "epp-default" => Box::new(Epp::default_profile(setup)),
        "epp-affinity" => Box::new(Affinity::new(setup, Release::End)),
        "epp-affinity-prefill" => Box::new(Affinity::new(setup, Release::FirstByte)),
        "dynamo-linear" => Box::new(Dynamo::new(setup, Cost::Linear)),
        "dynamo-lmetric" => Box::new(Dynamo::new(setup, Cost::Lmetric)),
        "sglang-cache-aware" => Box::new(sglang::CacheAware::new(setup)),
        "vllm-router-consistent-hash" => Box::new(consistent_hash::ConsistentHash::new(setup)),
        "production-stack-prefix" => Box::new(production_stack_prefix::PrefixAware::new(setup)),
        "production-stack-load" => Box::new(production_stack_load::LoadAware::new(setup)),
        "aibrix-prefix-cache" => Box::new(Aibrix::new(setup, Limits::CODE)),
        "aibrix-prefix-cache-readme" => Box::new(Aibrix::new(setup, Limits::README)),
        "chwbl" => Box::new(chwbl::Chwbl::new(setup)),
        "vllm-dp" => Box::new(vllm_dp::VllmDp::new(setup)),
        _ => return None,
    })
}

/// Milliseconds between two reports of a rank, as a peer ships. Those that decide by their own counts read no report; for
/// them it is what their router scrapes at for other ends, or a second.
pub fn report_interval_ms(name: &str) -> f64 {
    match name {
        // `--refresh-metrics-interval`.
        _ if name.starts_with("epp-") => 50.0,
        // The coordinator's interval.
        "vllm-dp" => 100.0,
        // `--engine-stats-interval`.
        _ if name.starts_with("production-stack-") => 30_000.0,
        _ => 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::scene::{Scene, end, setup};
    use super::*;

    #[test]
    fn every_name_has_a_peer_and_no_other() {
        assert!(NAMES.iter().all(|name| named(name, &setup(4)).is_some()));
        assert!(named("nobody", &setup(4)).is_none());
        assert!(NAMES.iter().all(|name| report_interval_ms(name) > 0.0));
    }

    #[test]
    fn ranks_report_as_often_as_shipped() {
        assert_eq!(report_interval_ms("epp-guide-prefill"), 50.0);
        assert_eq!(report_interval_ms("production-stack-load"), 30_000.0);
        assert_eq!(report_interval_ms("vllm-dp"), 100.0);
    }

    /// Picks of a run in which some requests never end, some end twice, some are empty.
    fn run(name: &str, ranks: usize, seed: u64) -> Vec<usize> {
        let mut policy = named(
            name,
            &Setup {
                seed,
                ..setup(ranks)
            },
        )
        .unwrap();
        let mut dice = fastrand::Rng::with_seed(7);
        let mut scene = Scene::new(ranks);
        let mut picks = Vec::new();
        for number in 0..2000 {
            scene.now_ms += 100.0 * dice.f64();
            if number % 7 == 3 {
                let reports: Vec<_> = (0..ranks)
                    .map(|_| (dice.u32(0..9), dice.u32(0..3), dice.f64()))
                    .collect();
                scene.report(&reports);
            }
            let blocks: Vec<u64> = (0..dice.u64(0..40))
                .map(|depth| depth * 100 + dice.u64(0..2))
                .collect();
            let rank = scene.pick(
                policy.as_mut(),
                number,
                &blocks,
                blocks.len() as u64 * 512 + dice.u64(0..512),
            );
            assert!(rank < ranks, "{name} picked rank {rank} of {ranks}");
            picks.push(rank);
            let done = dice.usize(0..=number);
            policy.first_token(done, picks[done], scene.now_ms);
            end(policy.as_mut(), done, picks[done], scene.now_ms);
        }
        picks
    }

    #[test]
    fn all_take_any_traffic_on_one_rank_and_on_many() {
        for name in NAMES {
            run(name, 1, 1);
            run(name, 16, 1);
        }
    }

    #[test]
    fn one_seed_gives_one_run() {
        assert!(NAMES.iter().all(|name| run(name, 8, 5) == run(name, 8, 5)));
    }

    #[test]
    fn an_empty_prompt_and_no_ranks_at_all_are_no_reason_to_panic() {
        for name in NAMES {
            for ranks in [0, 1] {
                let mut policy = named(name, &setup(ranks)).unwrap();
                assert_eq!(
                    Scene::new(ranks).pick(policy.as_mut(), 0, &[], 0),
                    0,
                    "{name}"
                );
            }
        }
    }
}
