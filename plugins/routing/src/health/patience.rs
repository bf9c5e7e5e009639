//! Finds ranks that take requests and never answer.
//!
//! A rank whose engine hangs still accepts connections, says 200 when asked for its health, and shows a metrics page.
//! What gives it away is a request that waits for its first byte much longer than requests wait elsewhere, while the
//! rank gives no first byte at all and others do. When nobody answers, all are overloaded or the network is down, and
//! nobody is hung.

use std::cmp::Reverse;

use super::spell::CLOCK_STEP_MS;
use crate::RankId;

/// Nobody is hung before this: long against a scheduler's step and the gap of a garbage collection, short for a client.
const FLOOR_MS: u64 = 3_000;
/// How many times the longest wait elsewhere, and the expected one, a request may wait.
const FACTOR: u64 = 3;
/// Half of a wait counts after this: the load of a pool changes within minutes.
const HALF_LIFE_MS: u64 = 60_000;
/// Waits beyond this come from a clock that jumped, or from requests that no gateway would keep so long.
const LONGEST_WAIT_MS: u64 = 600_000;
/// Time moves on by events and ticks at least each second while a request waits; a step of more is a clock that was set.
const LEAP_MS: u64 = 30_000;

/// A request that waits for its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The rank that was picked for it.
    pub rank: RankId,
    /// When.
    pub picked_ms: u64,
    /// How long its first byte is expected to take, from the queued tokens at the pick; 0 when unknown. Long prompts take
    /// long on a healthy rank.
    pub expected_ms: u64,
}

/// A first byte after a wait, at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    rank: RankId,
    wait_ms: u64,
    at_ms: u64,
}

/// Who answered of late, and after what wait. 8 bytes a rank, constant cost.
///
/// Wall clock may jump; a leap of the clock forgets everything, and requests that were picked before it are not judged.
#[derive(Debug, Default)]
pub struct Patience {
    /// When each rank gave its last first byte.
    answered_ms: Vec<u64>,
    /// The longest wait, and the longest of any other rank than that.
    longest: [Option<Wait>; 2],
    /// The last first byte, and the last of any other rank than that.
    latest: [Option<Wait>; 2],
    seen_ms: u64,
    judged_from_ms: u64,
}

impl Patience {
    /// A rank takes a seat: nothing is known of it.
    pub fn seat(&mut self, rank: RankId) {
        if let Some(answered_ms) = self.answered_ms.get_mut(rank.index()) {
            *answered_ms = 0;
        }
        for places in [&mut self.longest, &mut self.latest] {
            forget(places, rank);
        }
    }

    /// A rank gave the first byte of an answer after `waited_ms`.
    ///
    /// 0 for an answer that is not streamed: it shows that the rank lives, but its wait says nothing about others.
    pub fn answered(&mut self, rank: RankId, waited_ms: u64, now_ms: u64) {
        self.heard(rank, waited_ms, now_ms, now_ms);
    }

    /// The same of an answer to another worker, which came at `at_ms` and is heard of at `now_ms`, perhaps much later.
    pub fn heard(&mut self, rank: RankId, waited_ms: u64, at_ms: u64, now_ms: u64) {
        self.see(now_ms);
        if at_ms < self.judged_from_ms || at_ms > now_ms.saturating_add(CLOCK_STEP_MS) {
            return;
        }
        let needed = rank.index().saturating_add(1);
        if self.answered_ms.len() < needed {
            self.answered_ms.resize(needed, 0);
        }
        if let Some(answered_ms) = self.answered_ms.get_mut(rank.index()) {
            *answered_ms = at_ms.max(*answered_ms);
        }
        let wait = Wait {
            rank,
            wait_ms: waited_ms,
            at_ms,
        };
        keep(&mut self.latest, wait, |wait| wait.at_ms);
        if waited_ms <= LONGEST_WAIT_MS {
            keep(&mut self.longest, wait, |wait| wait.faded_ms(now_ms));
        }
    }

    /// Whether a request shows that its rank hangs. Ask for the oldest request of a rank that has no first byte, at each
    /// tick.
    ///
    /// Only for answers that are streamed: the first byte of any other comes when all of it has been generated, however
    /// long that takes.
    pub fn is_hung(&mut self, oldest: Waiting, now_ms: u64) -> bool {
        self.see(now_ms);
        let Waiting {
            rank, picked_ms, ..
        } = oldest;
        let is_judged = picked_ms >= self.judged_from_ms && picked_ms <= now_ms;
        let limit_ms = self.limit_ms(oldest, now_ms);
        let is_over = now_ms.saturating_sub(picked_ms) > limit_ms;
        // Not since the pick: what was answered just after it was perhaps the last answer before the hang.
        let has_answered = self
            .answered_ms(rank)
            .is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= limit_ms);
        is_judged && is_over && !has_answered && self.others_answer(oldest, now_ms)
    }

    /// How long a request may wait.
    fn limit_ms(&self, request: Waiting, now_ms: u64) -> u64 {
        let elsewhere_ms =
            other(&self.longest, request.rank).map_or(0, |wait| wait.faded_ms(now_ms));
        let usual_ms = elsewhere_ms.max(request.expected_ms);
        usual_ms.saturating_mul(FACTOR).max(FLOOR_MS)
    }

    /// Whether another rank has given a first byte since the pick, and of late: what was answered before the network broke
    /// says nothing.
    fn others_answer(&self, request: Waiting, now_ms: u64) -> bool {
        other(&self.latest, request.rank).is_some_and(|wait| {
            wait.at_ms > request.picked_ms && now_ms.saturating_sub(wait.at_ms) <= FLOOR_MS
        })
    }

    /// When a rank gave its last first byte, as far as it is known.
    #[must_use]
    pub fn answered_ms(&self, rank: RankId) -> Option<u64> {
        self.answered_ms.get(rank.index()).copied()
    }

    /// Follows the clock; a leap of it makes all that was measured useless.
    fn see(&mut self, now_ms: u64) {
        let earliest_ms = self.seen_ms.saturating_sub(CLOCK_STEP_MS);
        let latest_ms = self.seen_ms.saturating_add(LEAP_MS);
        if now_ms < earliest_ms || now_ms > latest_ms {
            self.answered_ms.fill(0);
            self.longest = [None; 2];
            self.latest = [None; 2];
            self.judged_from_ms = now_ms;
            self.seen_ms = now_ms;
        }
        self.seen_ms = self.seen_ms.max(now_ms);
    }
}

impl Wait {
    /// What is left of the wait: half after each half-life, in a straight line between.
    fn faded_ms(&self, now_ms: u64) -> u64 {
        let age_ms = now_ms.saturating_sub(self.at_ms);
        let halvings = age_ms.checked_div(HALF_LIFE_MS).unwrap_or(0);
        let rest_ms = age_ms.checked_rem(HALF_LIFE_MS).unwrap_or(0);
        let halved = u32::try_from(halvings)
            .ok()
            .and_then(|by| self.wait_ms.checked_shr(by))
            .unwrap_or(0);
        let lost = halved
            .saturating_mul(rest_ms)
            .checked_div(HALF_LIFE_MS.saturating_mul(2))
            .unwrap_or(0);
        halved.saturating_sub(lost)
    }
}

/// Keeps the greatest entry, and the greatest of any other rank; a rank has at most one.
fn keep(places: &mut [Option<Wait>; 2], new: Wait, size: impl Fn(&Wait) -> u64) {
    let is_own = |wait: &Wait| wait.rank == new.rank;
    let [first, second] = *places;
    let old = first.filter(is_own).or(second.filter(is_own));
    let own = old.filter(|old| size(old) > size(&new)).unwrap_or(new);
    let mut ranked = [
        Some(own),
        first.filter(|wait| !is_own(wait)),
        second.filter(|wait| !is_own(wait)),
    ];
    ranked.sort_by_key(|place| Reverse(place.as_ref().map(&size)));
    let [first, second, _] = ranked;
    *places = [first, second];
}

/// The greatest entry of any rank but this.
fn other(places: &[Option<Wait>; 2], rank: RankId) -> Option<Wait> {
    let mut waits = places.iter().copied().flatten();
    waits.find(|wait| wait.rank != rank)
}

fn forget(places: &mut [Option<Wait>; 2], rank: RankId) {
    let [first, second] = places.map(|place| place.filter(|wait| wait.rank != rank));
    *places = [first.or(second), first.and(second)];
}

#[cfg(test)]
mod tests;
