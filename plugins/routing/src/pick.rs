//! Chooses among priced ranks.

use std::net::IpAddr;

use crate::{RankId, chain};

/// Costs this close are equal: the estimate of a cost is no finer than a scheduler step of a rank, about 5 ms.
const NEAR_EQUAL_SECONDS: f64 = 0.005;

/// How many ranks a pick names: the best and two fallbacks for retries.
const NAMED_RANKS: usize = 3;

/// A rank with its price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The rank.
    pub rank: RankId,
    /// Its pod: all ranks of a pod fail together.
    pub pod: IpAddr,
    /// Hash of its address, the same in every gateway.
    pub address_hash: u64,
    /// Expected seconds.
    pub cost_seconds: f64,
}

/// Why a rank was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rank holds the first blocks of the prompt.
    PrefixHit,
    /// No rank holds anything of the prompt, or it was not worth the queue.
    LowestCost,
    /// The request carries no prompt that could be read.
    NoPrompt,
}

impl Reason {
    /// The reason of a pick that found so many tokens of the prompt, if there is one, on the rank that prefills.
    pub(crate) fn of(has_prompt: bool, matched_tokens: u64) -> Self {
        match (has_prompt, matched_tokens) {
            (false, _) => Self::NoPrompt,
            (true, 0) => Self::LowestCost,
            (true, _) => Self::PrefixHit,
        }
    }
}

/// Orders the best rank and up to two fallbacks, best first; empty without candidates.
///
/// Among near-equal costs the highest rendezvous weight of `anchor` wins, never the position, so that gateways
/// that share nothing agree and ties do not pile up on the first rank. Fallbacks prefer pods not yet named,
/// because one dead rank takes its whole pod down. Cost: three passes over the candidates.
#[must_use]
pub fn best_first(candidates: &[Candidate], anchor: u64) -> Vec<RankId> {
    let mut weights = vec![None; candidates.len()];
    let mut named: Vec<Candidate> = Vec::with_capacity(NAMED_RANKS);
    for _ in 0..NAMED_RANKS {
        let is_named = |c: &Candidate| named.iter().any(|n| n.rank == c.rank);
        let pod_is_named = |c: &Candidate| named.iter().any(|n| n.pod == c.pod);
        let next = best(candidates, anchor, &mut weights, |c| !pod_is_named(c))
            .or_else(|| best(candidates, anchor, &mut weights, |c| !is_named(c)));
        match next {
            Some(candidate) => named.push(candidate),
            None => break,
        }
    }
    named.iter().map(|candidate| candidate.rank).collect()
}

/// `weights` keeps rendezvous weights, which cost more than the rest where many costs are equal.
fn best(
    candidates: &[Candidate],
    anchor: u64,
    weights: &mut [Option<u64>],
    admit: impl Fn(&Candidate) -> bool,
) -> Option<Candidate> {
    let lowest = candidates
        .iter()
        .filter(|c| admit(c))
        .map(|c| c.cost_seconds)
        .fold(f64::INFINITY, f64::min);
    candidates
        .iter()
        .zip(weights)
        .filter(|(c, _)| c.cost_seconds <= lowest + NEAR_EQUAL_SECONDS && admit(c))
        .map(|(c, weight)| {
            let weight = *weight.get_or_insert_with(|| chain(anchor, c.address_hash));
            (weight, c)
        })
        .max_by_key(|(weight, c)| (*weight, c.rank))
        .map(|(_, c)| *c)
}

#[cfg(test)]
mod tests;
