//! The prefill leg of a request, from its pick to the answer.
//!
//! Envoy speaks to the decode rank alone, and its sidecar to the rank that prefills. So what becomes of the leg is known from
//! the answer of both, and who is to blame for a bad one is a matter of who answers others
//! ([`suspect`](routing::Pool::suspect)).

use std::net::SocketAddr;

use routing::{Attempt, RankId};

use super::Worker;
use crate::stream::StreamLeg;

impl Worker {
    /// The answer of a request has begun, or never will: nothing is queued for it any more.
    pub(super) fn end_leg(&mut self, pool: u64, leg: Option<Box<StreamLeg>>) {
        let charge = leg.and_then(|mut leg| leg.charge.take());
        let shared = self.pools.get_mut(&pool);
        if let (Some(shared), Some(charge)) = (shared, charge) {
            let rank = charge.rank();
            shared.pool.end(charge);
            self.tell_load(pool, rank);
        }
    }

    /// The headers of an answer are here: the prefill is over, whatever they say.
    pub(super) fn release_leg(&mut self, picker: u32) {
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        let pool = stream.pool;
        let charge = stream.leg.as_mut().and_then(|leg| leg.charge.take());
        let shared = self.pools.get_mut(&pool);
        if let (Some(shared), Some(charge)) = (shared, charge) {
            let rank = charge.rank();
            shared.pool.end(charge);
            self.tell_load(pool, rank);
        }
    }

    /// The rank to be blamed for a bad answer of the rank at `address`, or for none: that rank, or the one that was to
    /// prefill.
    pub(super) fn suspect(&self, picker: u32, address: SocketAddr) -> SocketAddr {
        let found = self.streams.get(&picker).and_then(|stream| {
            let leg = stream.leg.as_ref()?;
            let pool = &self.pools.get(&stream.pool)?.pool;
            let decodes = pool.rank_at(address)?;
            pool.address(pool.suspect(decodes, leg.rank))
        });
        found.unwrap_or(address)
    }

    /// The ranks to be blamed for failed attempts on these ranks: each with the rank that was named to prefill for it.
    pub(super) fn suspects(&self, picker: u32, failed: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let stream = self.streams.get(&picker);
        let named = stream.and_then(|stream| Some((stream.pool, stream.leg.as_ref()?)));
        let Some((pool, leg)) = named else {
            return failed;
        };
        let suspect = |(place, address): (usize, SocketAddr)| {
            let pool = &self.pools.get(&pool)?.pool;
            let prefills = pool.rank_at(*leg.named.get(place)?)?;
            pool.address(pool.suspect(pool.rank_at(address)?, prefills))
        };
        let blame = |attempt: (usize, SocketAddr)| suspect(attempt).unwrap_or(attempt.1);
        failed.into_iter().enumerate().map(blame).collect()
    }

    /// The answer to a request with a leg is good, and so was the rank that prefilled.
    pub(super) fn leg_answered(
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
        let speaks = shared.pool.leg_answered(rank, attempt, is_streamed, now_ms);
        if let Some(key) = shared.pool.rank_key(rank).filter(|_| speaks) {
            self.peers
                .answered(key, super::outcome::span(attempt), is_streamed);
        }
    }

    /// Envoy made so many attempts before the one that was answered: the second goes to the rank that was named second to
    /// prefill, further ones do without. What was sent to a rank that failed is not believed to be there.
    pub(super) fn move_leg(&mut self, picker: u32, failed_attempts: usize) {
        self.release_leg(picker);
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        let (pool, prompt) = (stream.pool, stream.prompt.as_deref());
        let Some(leg) = stream.leg.as_mut() else {
            return;
        };
        let (before, insertion) = (leg.rank, leg.insertion.take());
        let next = leg.named.get(failed_attempts).copied();
        let shared = self.pools.get_mut(&pool);
        let moved = shared.and_then(|shared| shared.pool.served_leg(next?, prompt?));
        match &moved {
            Some((rank, _, insertion)) => {
                leg.rank = *rank;
                leg.insertion = Some(*insertion);
            }
            None => stream.leg = None,
        }
        self.metrics.leg_moved();
        self.lose(picker, before, insertion);
        if let Some((rank, sent, _)) = moved {
            self.tell_prompt(pool, rank, &sent);
        }
    }
}
