//! What the answer to a request tells of the ranks that were asked.

use std::net::SocketAddr;

use routing::{Attempt, BEAT_MS, Failure, Moved, RankId, Span, Verdict};
use std::collections::BTreeMap;

use super::Worker;
use crate::host;
use crate::stream::Answer;

/// Envoy's `response.flags` of an attempt that found no connection (`UF`).
const CONNECTION_FAILURE: u64 = 0x20;
/// Those of an answer that broke off: reset by the rank (`UR`), connection closed by it (`UC`).
const BROKEN_OFF: u64 = 0x10 | 0x40;

/// Statuses of 500 and more that say something about the request and not about the rank.
const NOT_THE_RANK: [u16; 2] = [501, 505];

/// How a stream ended that did not end with the end of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breakdown {
    /// Envoy's `response.flags`.
    pub(crate) flags: u64,
    /// The address of the last attempt.
    pub(crate) address: Option<SocketAddr>,
}

/// Whom attempts may be charged to of which only Envoy knows how they failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspects {
    /// The rank that was tried, or the one that was to prefill for it, whose error a sidecar passes on as its own.
    Both,
    /// The rank that was tried: the last attempt met no sidecar, so the others most likely met none either. While no decode
    /// rank is left, no answer would clear those that prefill.
    Tried,
}

/// How the attempts before the last one are taken to have failed. Envoy does not say.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    suspects: Suspects,
    failure: Failure,
}

impl Earlier {
    /// Those before an answer. A server error that follows the attempts before it is most likely what they met, too: the
    /// request goes from rank to rank and takes its error along.
    fn before(is_bad: bool) -> Self {
        Self {
            suspects: Suspects::Both,
            failure: match is_bad {
                true => Failure::ServerError,
                // A refused connection would weigh more.
                false => Failure::Reset,
            },
        }
    }

    /// Those before an attempt that broke down.
    const BROKEN_DOWN: Self = Self {
        suspects: Suspects::Tried,
        failure: Failure::Reset,
    };
}

impl Breakdown {
    fn failure(self) -> Option<Failure> {
        if self.flags & CONNECTION_FAILURE != 0 {
            Some(Failure::Connect)
        } else {
            (self.flags & BROKEN_OFF != 0).then_some(Failure::Reset)
        }
    }
}

impl Worker {
    /// The headers of an answer came from this rank.
    ///
    /// Where Envoy had to try another rank than the first, those before it have failed, and the request counts on the one
    /// that serves it.
    pub(crate) fn answer_began(
        &mut self,
        picker: u32,
        address: SocketAddr,
        status: u16,
        now_ms: u64,
    ) {
        if self.leave_if_elsewhere(picker, address) {
            return;
        }
        let is_bad = status >= 500 && !NOT_THE_RANK.contains(&status);
        self.move_to(picker, address, Earlier::before(is_bad), now_ms);
        self.release_leg(picker);
        let suspect = self.suspect(picker, address);
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        stream.answer = if is_bad { Answer::Bad } else { Answer::Good };
        let (pool, attempt) = (stream.pool, stream.attempt(now_ms));
        if is_bad && stream.is_complete() {
            self.rank_failed(pool, suspect, Failure::ServerError, attempt, now_ms);
        }
        if !(200..300).contains(&status) {
            self.refuse_prompt(picker);
        }
    }

    /// The answer is one of Envoy's own, or of another filter.
    pub(crate) fn answered_by_envoy(&mut self, picker: u32) {
        if let Some(stream) = self.streams.get_mut(&picker) {
            stream.answer = Answer::Bad;
        }
        self.refuse_prompt(picker);
    }

    /// The body of a request has ended after `body_bytes`, and all of it has gone on to its rank. Of most requests that was known
    /// at the pick.
    pub(crate) fn request_ended(&mut self, picker: u32, body_bytes: u64) {
        let stream = self.streams.get_mut(&picker);
        let Some(stream) = stream.filter(|stream| !stream.is_complete()) else {
            return;
        };
        stream.complete_ms = Some(host::now_ms());
        let (pool, ranks) = (stream.pool, stream.ranks());
        let Some(shared) = self.pools.get_mut(&pool) else {
            return;
        };
        let prefills = stream.leg.is_none();
        let prompt = stream.prompt.as_deref();
        if let Some(charge) = stream.charge.as_mut() {
            shared.pool.complete(charge, prompt, body_bytes, prefills);
        }
        let leg = stream.leg.as_mut().and_then(|leg| leg.charge.as_mut());
        if let Some(charge) = leg {
            shared.pool.complete(charge, prompt, body_bytes, true);
        }
        ranks
            .into_iter()
            .for_each(|rank| self.tell_load(pool, rank));
        self.flush();
    }

    /// The first byte of an answer came: prefill is over.
    pub(crate) fn first_byte(&mut self, picker: u32, now_ms: u64) {
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        let (pool, rank) = (stream.pool, stream.rank());
        // An answer before the end of the body shows nothing of what the rank does with the request.
        let is_good = stream.answer == Answer::Good && stream.is_complete();
        let (attempt, is_streamed) = (stream.attempt(now_ms), stream.tells_wait());
        if is_good {
            stream.take_insertions();
        }
        let shared = self.pools.get_mut(&pool);
        if let (Some(shared), Some(charge)) = (shared, stream.charge.as_mut()) {
            shared.pool.first_byte(charge);
        }
        let leg_rank = stream.leg.as_ref().map(|leg| leg.rank);
        let Some(rank) = rank else { return };
        if is_good {
            self.rank_answered(pool, rank, attempt, is_streamed, now_ms);
            if let Some(leg_rank) = leg_rank {
                self.leg_answered(pool, leg_rank, attempt, is_streamed, now_ms);
            }
        }
        self.tell_load(pool, rank);
    }

    /// A stream ended before its answer did.
    pub(crate) fn broke_down(&mut self, picker: u32, breakdown: Breakdown, now_ms: u64) {
        let Some(failure) = breakdown.failure() else {
            return;
        };
        let address = breakdown.address;
        if let Some(address) = address {
            if self.leave_if_elsewhere(picker, address) {
                return;
            }
            self.move_to(picker, address, Earlier::BROKEN_DOWN, now_ms);
        }
        let Some(stream) = self.streams.get(&picker) else {
            return;
        };
        let first = stream.named.first().copied();
        let (pool, attempt) = (stream.pool, stream.attempt(now_ms));
        // A client that stops in its body can make a rank close the connection, but not refuse one.
        let is_evidence = stream.is_complete() || failure == Failure::Connect;
        if let Some(address) = address.or(first).filter(|_| is_evidence) {
            self.rank_failed(pool, address, failure, attempt, now_ms);
        }
    }

    /// Looks for ranks that take requests and never answer.
    pub(super) fn judge_waits(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.judged_ms) < BEAT_MS {
            return;
        }
        self.judged_ms = now_ms;
        for (rank, picker) in self.oldest_waiting() {
            self.judge_wait(rank, picker, now_ms);
        }
    }

    fn judge_wait(&mut self, rank: RankId, picker: u32, now_ms: u64) {
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        let (pool, attempt) = (stream.pool, stream.attempt(now_ms));
        let (since_ms, expected_ms) = (stream.awaited_since_ms(), stream.expected_ms);
        let Some((shared, since_ms)) = self.pools.get_mut(&pool).zip(since_ms) else {
            return;
        };
        let is_hung = shared.pool.is_hung(rank, since_ms, expected_ms, now_ms);
        let address = shared.pool.address(rank).filter(|_| is_hung);
        if let Some(address) = address {
            stream.is_given_up = true;
            self.rank_failed(pool, address, Failure::NoFirstByte, attempt, now_ms);
        }
    }

    /// For each rank the stream that has waited for its first byte the longest. A stream with a prefill leg waits for both of
    /// its ranks: first for those that prefill.
    fn oldest_waiting(&self) -> Vec<(RankId, u32)> {
        let mut oldest: BTreeMap<(bool, u64, RankId), (u64, u32)> = BTreeMap::new();
        let waiting = self
            .streams
            .iter()
            .filter_map(|(picker, stream)| Some((picker, stream, stream.awaited_since_ms()?)));
        for (picker, stream, since_ms) in waiting {
            let leg = stream.leg.as_ref().map(|leg| (false, leg.rank));
            let own = stream.rank().map(|rank| (true, rank));
            for (is_own, rank) in leg.into_iter().chain(own) {
                let wait = (since_ms, *picker);
                let place = oldest.entry((is_own, stream.pool, rank)).or_insert(wait);
                *place = wait.min(*place);
            }
        }
        let oldest = oldest.into_iter();
        oldest
            .map(|((.., rank), (_, picker))| (rank, picker))
            .collect()
    }

    /// The request is on this rank now, and the ranks named before it have failed.
    fn move_to(&mut self, picker: u32, address: SocketAddr, earlier: Earlier, now_ms: u64) {
        let Some(stream) = self.streams.get(&picker) else {
            return;
        };
        if self.is_shadow(stream.pool) {
            return self.follow(picker, address);
        }
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        let place = stream.named.iter().position(|named| *named == address);
        if place == Some(0) {
            return;
        }
        let passed = place.unwrap_or(stream.named.len());
        let tried: Vec<SocketAddr> = stream.named.drain(..passed).collect();
        let failed = match earlier.suspects {
            Suspects::Both => self.suspects(picker, tried),
            Suspects::Tried => tried,
        };
        self.move_leg(picker, passed);
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        let (pool, attempt) = (stream.pool, stream.attempt(now_ms));
        let is_evidence = stream.is_complete();
        self.metrics.moved();
        if let Some(moved) = self.serve(picker, address) {
            self.count_on(picker, pool, moved);
        }
        for address in failed.into_iter().filter(|_| is_evidence) {
            self.rank_failed(pool, address, earlier.failure, attempt, now_ms);
        }
    }

    /// The request is on the rank at `address`, if its pool knows that, and on none before: that failed before it got the prompt, or
    /// lost it with its process.
    pub(super) fn serve(&mut self, picker: u32, address: SocketAddr) -> Option<Moved> {
        let stream = self.streams.get_mut(&picker)?;
        let (pool, before) = (stream.pool, stream.rank());
        let (charge, insertion) = (stream.charge.take(), stream.insertion.take());
        let prompt = stream.prompt.as_deref();
        let shared = self.pools.get_mut(&pool).zip(charge);
        let moved = shared.and_then(|(shared, charge)| shared.pool.serve(charge, address, prompt));
        if let Some(before) = before {
            self.lose(picker, before, insertion);
            self.tell_load(pool, before);
        }
        moved
    }

    pub(super) fn count_on(&mut self, picker: u32, pool: u64, moved: Moved) {
        let rank = moved.charge.rank();
        if let Some(stream) = self.streams.get_mut(&picker) {
            stream.charge = Some(moved.charge);
            stream.insertion = Some(moved.insertion);
            stream.expected = moved.expected;
        }
        self.tell_load(pool, rank);
        self.tell_prompt(pool, rank, &moved.sent);
    }

    fn rank_failed(
        &mut self,
        pool: u64,
        address: SocketAddr,
        failure: Failure,
        attempt: Attempt,
        now_ms: u64,
    ) {
        self.metrics.rank_failed(failure);
        let Some(shared) = self.pools.get_mut(&pool) else {
            return;
        };
        let failed = shared.pool.failed(address, failure, attempt, now_ms);
        let Some((rank, verdict)) = failed else {
            return;
        };
        self.metrics.not_counted(verdict == Verdict::NotCounted);
        if let Some(key) = shared.pool.rank_key(rank) {
            self.peers.failed(key, failure.code(), span(attempt));
        }
    }

    fn rank_answered(
        &mut self,
        pool: u64,
        rank: RankId,
        attempt: Attempt,
        is_streamed: bool,
        now_ms: u64,
    ) {
        let Some(shared) = self.pools.get_mut(&pool) else {
            return;
        };
        shared.pool.answered(rank, attempt, is_streamed, now_ms);
        // Always: a worker whose only request hangs must hear that others are answered.
        if let Some(key) = shared.pool.rank_key(rank) {
            self.peers.answered(key, span(attempt), is_streamed);
        }
    }
}

pub(super) fn span(attempt: Attempt) -> Span {
    Span {
        from_ms: attempt.picked_ms,
        to_ms: attempt.ended_ms,
    }
}
