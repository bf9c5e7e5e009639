//! Which ranks can be given requests: health per rank, learnt from what happens to requests and scrapes.
//!
//! Health checks do not say it: a model server's own says 200 while it hangs, a sidecar's always does, and readiness is
//! known per pod and half a minute late. So every failed attempt counts, and a rank that fails in a row goes *out*: it
//! takes nothing for about a second, doubling up to a minute. Then it is *half-open*: one request at a time over all
//! workers probes it. The first answer lets it *ramp*, 1, 2, 4, 8, 16 requests in flight, until it is *in* again.
//!
//! Each worker has its own copy and tells the others every failure and every answer. All that is judged is judged by the
//! times of the events, not by the order in which they are heard; what is left of a difference between copies ends when
//! they tell each other a [`Spell`] of each rank that is not in, and by itself, because everything that is remembered is
//! forgotten after some minutes. Time is wall clock and may jump: a jump of any size can end a time out early, and never
//! make it longer. Whether server errors are a rank's or the requests' is judged by what ranks have answered of late, in
//! the order in which it is heard ([`server_errors`]).
//!
//! | event | consequence |
//! | --- | --- |
//! | failures in a row worth 6 points: connect 4, reset 2, 5xx 2, no first byte 6 | out; for 5xx if they are the rank's |
//! | failure while half-open or ramping | out, longer; for 5xx if they are the rank's |
//! | 5xx as other ranks had that answered others meanwhile | none, and a half-open rank that 5xx put out is in |
//! | failure of a request that was picked before the rank went out | none, it is known |
//! | 3 failed scrapes in a row of a page that was read before | out, unless most pages fail: then the scraper is at fault |
//! | 2 ranks of a pod out within 5 s as if they had died, no answer from the pod since | the whole pod out |
//! | answer (a later one; after a failed connect one to a later request) | ends a row; lets the rank in by a step |
//! | page read after 3 failed scrapes | half-open at once, ramp only by an answer |

mod attempt;
mod failure;
mod patience;
mod pod;
mod rank_health;
mod server_errors;
mod spell;
mod standing;
mod time_out;
mod verdict;

use std::net::IpAddr;

use crate::RankId;
use pod::{Pod, Pods};
use rank_health::{RankHealth, Step};
use server_errors::ServerErrors;

pub use attempt::Attempt;
pub use failure::Failure;
pub use patience::{Patience, Waiting};
pub use spell::Spell;
pub use standing::{Admission, Counts, Standing};
pub use verdict::Verdict;

/// Ranks of one pod that go out this close together go out for the same reason.
const POD_WINDOW_MS: u64 = 5_000;

/// Of so many ranks one may go out for a short row of server errors before others are asked: what costs an attacker three
/// requests must not cost a pool more than that, and a node that fails in a large pool is to be left at once.
const RANKS_FOR_ONE: u32 = 16;

/// The health of all ranks of a pool. 84 bytes a rank; every call costs the same whatever the size of the pool, unless
/// it says otherwise.
#[derive(Debug, Default)]
pub struct HealthTable {
    ranks: Vec<RankHealth>,
    pods: Pods,
    /// Ranks whose metrics page has been read.
    scraped: usize,
    /// Those of them whose last scrape failed.
    unscraped: usize,
    errors: ServerErrors,
}

/// A row of server errors that puts its rank out if it is the rank's own.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    rank: RankId,
    errors: u16,
    is_in: bool,
    /// Whether it may be the requests', by the errors of other ranks.
    is_explained: bool,
}

impl HealthTable {
    /// Makes room for ranks up to `count`.
    pub fn grow(&mut self, count: usize) {
        let count = self.ranks.len().max(count);
        self.ranks.resize(count, RankHealth::default());
    }

    /// A rank takes a seat and is in: nothing is known of it. It is taken for a destination until
    /// [`set_part`](Self::set_part) says otherwise. Cost: one pass over the pods.
    pub fn seat(&mut self, rank: RankId, address_hash: u64, pod: IpAddr) {
        self.grow(rank.index().saturating_add(1));
        self.leave(rank);
        let pod = self.pods.join(rank, pod);
        if let Some(health) = self.ranks.get_mut(rank.index()) {
            // The lower half: the hash is good in every bit.
            let seed = u32::try_from(address_hash & u64::from(u32::MAX)).unwrap_or(0);
            *health = RankHealth::seated(seed, pod);
        }
        self.errors.seat(rank, false);
    }

    /// Whether the pool has the rank of a seat now, and whether that is never a destination. Server errors are judged by
    /// what ranks of the same kind do that the pool has: those that only prefill get other requests than the rest.
    pub fn set_part(&mut self, rank: RankId, is_listed: bool, only_prefills: bool) {
        let Some(health) = self.ranks.get_mut(rank.index()) else {
            return;
        };
        health.is_listed = is_listed;
        if health.only_prefills != only_prefills {
            health.only_prefills = only_prefills;
            health.end_row();
            self.errors.seat(rank, only_prefills);
        }
    }

    /// A rank leaves; what was known of it is forgotten.
    pub fn leave(&mut self, rank: RankId) {
        let Some(health) = self.ranks.get(rank.index()).copied() else {
            return;
        };
        self.change(rank, |health| *health = RankHealth::default());
        self.pods.leave(rank, health.pod);
    }

    /// An attempt on a rank failed. For a failed scrape `attempt` starts when it was sent.
    ///
    /// Cost: constant, or one pass over the ranks of the pod when the rank goes out, and one over all ranks when a server
    /// error may put it out.
    pub fn failed(
        &mut self,
        rank: RankId,
        failure: Failure,
        attempt: Attempt,
        now_ms: u64,
    ) -> Verdict {
        let attempt = attempt.settled(now_ms);
        let verdict = match failure {
            Failure::Scrape => self.scrape_failed(rank, now_ms),
            _ => self.request_failed(rank, failure, attempt, now_ms),
        };
        if failure.is_like_death() {
            self.pod_failed(rank, failure, attempt, now_ms);
        }
        if failure.is_like_death() && verdict == Verdict::GoesOut {
            self.put_out_pod(rank, now_ms);
        }
        verdict
    }

    /// A good first byte came from a rank; true when that is news, which the other workers need to hear.
    pub fn answered(&mut self, rank: RankId, attempt: Attempt, now_ms: u64) -> bool {
        let attempt = attempt.settled(now_ms);
        let proof = self.change(rank, |health| health.answered(attempt, now_ms));
        let only_prefills = self.only_prefills(rank);
        self.errors
            .answered(rank, only_prefills, proof.errors, now_ms);
        self.pod_answered(rank, attempt.ended_ms, now_ms) || proof.is_news
    }

    /// A rank's metrics page was read; true when that is news, which the other workers need to hear.
    pub fn scrape_answered(&mut self, rank: RankId, now_ms: u64) -> bool {
        let is_news = self.change(rank, |health| health.scrape_answered(now_ms));
        self.pod_answered(rank, now_ms, now_ms) || is_news
    }

    /// What a worker that may have missed something should hear of a rank; `None` when there is nothing to say.
    ///
    /// Told when a rank goes out, to a new worker, and of every rank with a spell from time to time, it makes copies agree
    /// whatever events were lost on the way.
    #[must_use]
    pub fn spell(&self, rank: RankId, now_ms: u64) -> Option<Spell> {
        let spell = self.ranks.get(rank.index())?.spell;
        (!spell.is_over(now_ms)).then_some(spell)
    }

    /// Takes what another worker says of a rank; true when it knew more.
    pub fn join(&mut self, rank: RankId, spell: Spell, now_ms: u64) -> bool {
        self.change(rank, |health| health.join(spell, now_ms))
    }

    /// How a rank stands. An unknown rank is in: nothing speaks against it.
    #[must_use]
    pub fn standing(&self, rank: RankId, now_ms: u64) -> Standing {
        let health = self.ranks.get(rank.index());
        health.map_or(Standing::In, |health| health.standing(now_ms))
    }

    /// Whether a rank may be given one more request while `in_flight` are on it, over all workers.
    #[must_use]
    pub fn admits(&self, rank: RankId, in_flight: u32, now_ms: u64) -> bool {
        self.standing(rank, now_ms).admits(in_flight)
    }

    /// How many of these ranks stand how. Cost: one pass over them.
    #[must_use]
    pub fn counts(&self, ranks: impl IntoIterator<Item = RankId>, now_ms: u64) -> Counts {
        let mut counts = Counts::default();
        let standings = ranks.into_iter().map(|rank| self.standing(rank, now_ms));
        standings.for_each(|standing| counts.add(standing));
        counts
    }
}

/// Scrapes.
impl HealthTable {
    fn scrape_failed(&mut self, rank: RankId, now_ms: u64) -> Verdict {
        let is_down = self.change(rank, |health| health.scrape_failed(now_ms));
        if !is_down || self.is_scraper_at_fault() {
            return Verdict::Noted;
        }
        self.change(rank, |health| health.go_out_for_scrapes(now_ms));
        Verdict::GoesOut
    }

    /// Whether more than three quarters of the pages that were read before fail now: it is more likely that the scraper
    /// has lost its network or its cluster than that nearly all ranks died. If they did, requests find it.
    fn is_scraper_at_fault(&self) -> bool {
        self.unscraped.saturating_mul(4) > self.scraped.saturating_mul(3)
    }
}

/// Requests.
impl HealthTable {
    fn request_failed(
        &mut self,
        rank: RankId,
        failure: Failure,
        attempt: Attempt,
        now_ms: u64,
    ) -> Verdict {
        self.change(rank, |health| health.settle(now_ms));
        let had_errors = self.has_errors(rank);
        let step = self.change(rank, |health| health.failed(failure, attempt, now_ms));
        if !had_errors && self.has_errors(rank) {
            let only_prefills = self.only_prefills(rank);
            self.errors.row_begins(rank, only_prefills);
        }
        let (errors, is_in) = match step {
            Step::None => return Verdict::Noted,
            Step::Out => return Verdict::GoesOut,
            Step::Suspect { errors, is_in } => (errors, is_in),
        };
        let only_prefills = self.only_prefills(rank);
        let is_explained = self.errors.is_explained(rank, only_prefills, errors);
        let suspicion = Suspicion {
            rank,
            errors,
            is_in,
            is_explained,
        };
        if self.is_ranks_own(suspicion, now_ms) {
            self.change(rank, |health| health.go_out_for(failure, attempt.ended_ms));
            return Verdict::GoesOut;
        }
        if is_explained && !is_in {
            self.change(rank, |health| health.pardon(attempt.ended_ms));
        }
        Verdict::NotCounted
    }

    /// Whether a row of server errors is the rank's and not the requests': a long one of the only rank that fails like this,
    /// or one during which the others answered much.
    ///
    /// Of a rank that comes back it is enough that another one has answered since it went out.
    fn is_ranks_own(&self, suspicion: Suspicion, now_ms: u64) -> bool {
        let Suspicion {
            rank, is_explained, ..
        } = suspicion;
        let Some(health) = self.ranks.get(rank.index()) else {
            return false;
        };
        let (mut others, mut failing, mut others_answer) = (0_u32, 0_u32, false);
        for other in self.others(rank, health.only_prefills) {
            others = others.saturating_add(1);
            failing = failing.saturating_add(u32::from(other.is_failing(now_ms)));
            others_answer |= other.has_answered_since(health.spell.since_ms);
        }
        let at_once = others.saturating_add(1).div_euclid(RANKS_FOR_ONE).max(1);
        let is_alone = match suspicion.is_in {
            true => failing < at_once,
            false => others_answer || others == 0,
        };
        let is_long = !is_explained
            && self
                .errors
                .is_long(health.only_prefills, suspicion.errors, now_ms);
        let is_silent = self
            .errors
            .is_silent(rank, health.only_prefills, others, is_explained);
        (is_alone && is_long) || is_silent
    }

    /// The other ranks of a kind that the pool has.
    fn others(&self, rank: RankId, only_prefills: bool) -> impl Iterator<Item = &RankHealth> {
        let ranks = self.ranks.iter().enumerate();
        let others = ranks.filter(move |(place, _)| *place != rank.index());
        let others = others.map(|(_, health)| health);
        others.filter(move |health| health.is_listed && health.only_prefills == only_prefills)
    }

    fn has_errors(&self, rank: RankId) -> bool {
        let health = self.ranks.get(rank.index());
        health.is_some_and(RankHealth::has_errors)
    }

    fn only_prefills(&self, rank: RankId) -> bool {
        let health = self.ranks.get(rank.index());
        health.is_some_and(|health| health.only_prefills)
    }
}

/// Pods.
impl HealthTable {
    fn pod_failed(&mut self, rank: RankId, failure: Failure, attempt: Attempt, now_ms: u64) {
        let health = self.ranks.get(rank.index());
        let counts = failure != Failure::Scrape || health.is_some_and(RankHealth::is_scraped);
        if let Some(pod) = self.pod_mut(rank).filter(|_| counts) {
            pod.failed(attempt.ended_ms, now_ms);
        }
    }

    fn pod_answered(&mut self, rank: RankId, at_ms: u64, now_ms: u64) -> bool {
        self.pod_mut(rank)
            .is_some_and(|pod| pod.answered(at_ms, now_ms))
    }

    fn pod_mut(&mut self, rank: RankId) -> Option<&mut Pod> {
        let pod = self.ranks.get(rank.index())?.pod;
        self.pods.get_mut(pod)
    }

    /// `rank` has just gone out as if it had died: puts out the rest of its pod when that is not alone.
    fn put_out_pod(&mut self, rank: RankId, now_ms: u64) {
        let Some(health) = self.ranks.get(rank.index()) else {
            return;
        };
        let went_ms = health.spell.since_ms;
        let pod = self.pods.get(health.pod);
        let Some(pod) = pod.filter(|pod| self.has_died(pod, went_ms)) else {
            return;
        };
        for other in pod.ranks.clone() {
            self.change(other, |health| health.follow_pod(went_ms, now_ms));
        }
    }

    /// Whether two ranks of a pod died about `went_ms` and none has answered since it began to fail.
    fn has_died(&self, pod: &Pod, went_ms: u64) -> bool {
        let Some(first_ms) = pod.unanswered_since_ms() else {
            return false;
        };
        let ranks = pod.ranks.iter();
        let spells = ranks.filter_map(|rank| self.ranks.get(rank.index()));
        let dead = spells.filter(|rank| rank.spell.is_death(first_ms, went_ms, POD_WINDOW_MS));
        dead.count() >= 2
    }
}

impl HealthTable {
    /// Changes a rank and keeps the counts of scrapes; gives the default for an unknown one.
    fn change<T: Default>(&mut self, rank: RankId, change: impl FnOnce(&mut RankHealth) -> T) -> T {
        let Some(health) = self.ranks.get_mut(rank.index()) else {
            return T::default();
        };
        let before = (health.is_scraped(), health.is_unscraped());
        let given = change(health);
        let after = (health.is_scraped(), health.is_unscraped());
        self.scraped = moved(self.scraped, before.0, after.0);
        self.unscraped = moved(self.unscraped, before.1, after.1);
        given
    }
}

/// A count of those for which something holds, after it changed for one.
fn moved(count: usize, before: bool, after: bool) -> usize {
    count
        .saturating_add(usize::from(after))
        .saturating_sub(usize::from(before))
}

#[cfg(test)]
mod tests;
