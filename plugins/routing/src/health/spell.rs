//! A rank's last time out, and how far it has come back since.

mod codec;

use std::cmp::Reverse;

use super::time_out::{LONGEST_OUT_MS, out_ms};
use super::{Attempt, Failure, Standing};

/// Answers that were on their way when a rank died arrive within this; a later one was sent by a living rank.
const STRAGGLER_MS: u64 = 100;
/// A half-open rank of which nothing was heard for this long may be given one more request, and again after as long.
/// What is in flight on it may be long streams from before, or counts of a worker that has died: they must not keep a
/// living rank out.
const PROBE_AGAIN_MS: u64 = 10_000;
/// What was learnt so long ago says little about a rank: pods restart within it.
const FORGET_MS: u64 = 600_000;
/// A ramp without news for so long is over: other workers may have no reason to tell their answers.
const RAMP_MS: u64 = 60_000;
/// The last limit of a ramp. A rank with more requests in flight is in ordinary use.
const RAMP_END: u8 = 16;
/// For each such time of being in, a rank's next time out is shortened by one doubling.
const HEALED_MS: u64 = 60_000;
/// Smaller steps backwards of the clock are ordinary (time synchronisation), larger ones make stored times useless.
pub(crate) const CLOCK_STEP_MS: u64 = 1_000;

/// Why a rank went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// Its own failures, the last of which was this.
    Own(Failure),
    /// Other ranks of its pod died.
    Pod,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Out, or half-open once the time is over.
    Out,
    /// Has answered since; takes this many at once when the time is over.
    Ramping(u8),
    In,
}

/// The last time out of a rank and how far it has come back since: what a worker tells another of a rank's health.
///
/// Plain data, 24 bytes. Two workers' spells of one rank have a greater one, which both take; so copies agree after they
/// have told each other, in whatever order and however often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    /// When it went out; 0 when it never did.
    pub(crate) since_ms: u64,
    /// When its stage was reached.
    pub(crate) step_ms: u64,
    pub(crate) length_ms: u32,
    /// How often in a row; decays while the rank is in.
    pub(crate) times: u8,
    pub(crate) cause: Cause,
    pub(crate) stage: Stage,
}

impl Default for Spell {
    fn default() -> Self {
        Self {
            since_ms: 0,
            step_ms: 0,
            length_ms: 0,
            times: 0,
            cause: Cause::Pod,
            stage: Stage::In,
        }
    }
}

impl Spell {
    /// When its time out is over.
    fn until_ms(&self) -> u64 {
        self.since_ms.saturating_add(u64::from(self.length_ms))
    }

    /// Whether its time out runs. A start in the future shows that the clock was set back: then it is over, so that no
    /// jump keeps a rank out longer than its time.
    pub(crate) fn is_waiting(&self, now_ms: u64) -> bool {
        self.stage != Stage::In && self.since_ms <= now_ms && now_ms < self.until_ms()
    }

    pub(crate) fn standing(&self, now_ms: u64) -> Standing {
        match self.stage {
            Stage::In => Standing::In,
            _ if self.is_waiting(now_ms) => Standing::Out,
            _ if self.is_forgotten(now_ms) => Standing::In,
            Stage::Out => Standing::Probe {
                limit: self.probes(now_ms),
            },
            Stage::Ramping(limit) => Standing::Ramping {
                limit: u32::from(limit),
            },
        }
    }

    /// Whether an attempt started before the rank went out: its failure is part of what put it out.
    pub(crate) fn is_known_to(&self, attempt: Attempt) -> bool {
        self.since_ms > 0 && attempt.picked_ms <= self.since_ms
    }

    /// Whether the rank went out as if it had died, not before `first_ms`, within `window_ms` of `near_ms` or with its
    /// pod, and has not answered since.
    pub(crate) fn is_death(&self, first_ms: u64, near_ms: u64, window_ms: u64) -> bool {
        let is_like_death = match self.cause {
            Cause::Own(failure) => {
                failure.is_like_death() && self.since_ms.abs_diff(near_ms) <= window_ms
            }
            Cause::Pod => true,
        };
        is_like_death && self.stage == Stage::Out && self.since_ms >= first_ms
    }

    /// Puts the rank out, longer than the last time.
    pub(crate) fn go_out(&mut self, cause: Cause, at_ms: u64, seed: u32) {
        let healed = self.healed(at_ms);
        let times = self.times.saturating_sub(healed).saturating_add(1);
        *self = Self {
            since_ms: at_ms,
            step_ms: at_ms,
            length_ms: u32::try_from(out_ms(seed, times)).unwrap_or(u32::MAX),
            times,
            cause,
            stage: Stage::Out,
        };
    }

    /// An answer came: lets the rank in by a step if it proves that the rank came back; true when it did.
    ///
    /// While its time runs, an answer only makes it ramp instead of being probed afterwards.
    pub(crate) fn answered(&mut self, attempt: Attempt, now_ms: u64) -> bool {
        if self.stage == Stage::In || !self.is_proof(attempt) {
            return false;
        }
        let next = match self.stage {
            Stage::Out => Stage::Ramping(1),
            Stage::Ramping(_) if self.is_waiting(now_ms) => return false,
            Stage::Ramping(limit) if limit < RAMP_END => Stage::Ramping(limit.saturating_mul(2)),
            Stage::Ramping(_) | Stage::In => Stage::In,
        };
        self.stage = next;
        self.step_ms = attempt.ended_ms.max(self.until_ms().min(now_ms));
        true
    }

    /// Ends the time out at once: the rank may be probed.
    pub(crate) fn open(&mut self, now_ms: u64) {
        if self.is_waiting(now_ms) {
            let length_ms = now_ms.saturating_sub(self.since_ms);
            self.length_ms = u32::try_from(length_ms).unwrap_or(u32::MAX);
        }
    }

    /// The rank is in again, without a ramp.
    pub(crate) fn end(&mut self, at_ms: u64) {
        self.stage = Stage::In;
        self.step_ms = at_ms;
    }

    /// Brings times from the future back and ends what is forgotten; before every change.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        let latest_ms = now_ms.saturating_add(CLOCK_STEP_MS);
        if self.since_ms > latest_ms {
            self.since_ms = now_ms.saturating_sub(u64::from(self.length_ms));
        }
        if self.step_ms > latest_ms {
            self.step_ms = now_ms;
        }
        if self.stage != Stage::In && self.standing(now_ms) == Standing::In {
            self.stage = Stage::In;
            self.step_ms = now_ms;
        }
    }

    /// Whether the rank was never out, or so long ago that it no longer matters.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.standing(now_ms) == Standing::In && self.times <= self.healed(now_ms)
    }

    /// Takes another worker's spell of the same rank if it is the greater one; true when it was. The later one is the
    /// greater; of one time out that which has come further. What cannot be true is not taken.
    pub(crate) fn join(&mut self, other: Self, now_ms: u64) -> bool {
        let can_be = other.since_ms <= now_ms.saturating_add(CLOCK_STEP_MS)
            && u64::from(other.length_ms) <= LONGEST_OUT_MS;
        let is_greater = can_be && other.key() > self.key();
        if is_greater {
            *self = other;
            self.settle(now_ms);
        }
        is_greater
    }

    fn key(&self) -> impl Ord + use<> {
        let length = Reverse(self.length_ms);
        let moment = (self.since_ms, self.times, self.stage);
        (moment, length, self.step_ms, self.cause)
    }

    fn is_forgotten(&self, now_ms: u64) -> bool {
        let quiet_ms = match self.stage {
            Stage::Out => FORGET_MS,
            Stage::Ramping(_) => RAMP_MS,
            Stage::In => return true,
        };
        let last_ms = self.until_ms().max(self.step_ms);
        now_ms.saturating_sub(last_ms) >= quiet_ms
    }

    fn probes(&self, now_ms: u64) -> u32 {
        let quiet_ms = now_ms.saturating_sub(self.until_ms());
        let more = quiet_ms.checked_div(PROBE_AGAIN_MS).unwrap_or(0);
        u32::try_from(more.saturating_add(1)).unwrap_or(u32::MAX)
    }

    /// Whether an answer shows that what put the rank out is over. A server that shuts down still answers old requests
    /// and takes no new one, so what failed to connect must answer a new one.
    fn is_proof(&self, attempt: Attempt) -> bool {
        let is_new = attempt.picked_ms > self.since_ms;
        let is_late = attempt.ended_ms > self.since_ms.saturating_add(STRAGGLER_MS);
        is_new || (is_late && self.cause != Cause::Own(Failure::Connect))
    }

    fn healed(&self, at_ms: u64) -> u8 {
        if self.stage != Stage::In {
            return 0;
        }
        let in_ms = at_ms.saturating_sub(self.step_ms);
        let steps = in_ms.checked_div(HEALED_MS).unwrap_or(0);
        u8::try_from(steps).unwrap_or(u8::MAX)
    }
}
