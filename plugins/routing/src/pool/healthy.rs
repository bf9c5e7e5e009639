//! What requests and scrapes tell of the health of a pool's ranks.

use std::net::SocketAddr;

use super::Pool;
use crate::seats::address_hash;
use crate::{Attempt, Counts, Failure, RankId, RankKey, Spell, Verdict, Waiting};

impl Pool {
    /// An attempt of this worker on a rank failed. Gives the rank, if it is known, and what that came to.
    pub fn failed(
        &mut self,
        address: SocketAddr,
        failure: Failure,
        attempt: Attempt,
        now_ms: u64,
    ) -> Option<(RankId, Verdict)> {
        let rank = self.seats.rank_of(address_hash(address))?;
        Some((rank, self.note_failure(rank, failure, attempt, now_ms)))
    }

    /// A rank gave the first byte of a good answer to a request of this worker.
    pub fn answered(&mut self, rank: RankId, attempt: Attempt, is_streamed: bool, now_ms: u64) {
        // How long an answer took that is not streamed says nothing of the prefill.
        let waited_ms = attempt.ended_ms.saturating_sub(attempt.picked_ms);
        let waited_ms = if is_streamed { waited_ms } else { 0 };
        self.patience
            .heard(rank, waited_ms, attempt.ended_ms, now_ms);
        self.health.answered(rank, attempt, now_ms);
    }

    /// A request of this worker that the rank was to prefill for another one has had the first byte of a good answer. True where
    /// that speaks for the rank.
    ///
    /// A sidecar of llm-d 0.8 prefills on the decode rank when the leg fails, and says nothing of it. So an answer says nothing
    /// of a rank that does not show its metrics page: one that is dead would look well for ever.
    pub fn leg_answered(
        &mut self,
        rank: RankId,
        attempt: Attempt,
        is_streamed: bool,
        now_ms: u64,
    ) -> bool {
        let speaks = !self.reported.is_failing(rank);
        if speaks {
            self.answered(rank, attempt, is_streamed, now_ms);
        }
        speaks
    }

    /// Who of two ranks is to be blamed for a request that both had part in: who has answered nothing for longer. If that is
    /// even, the one that prefills: its part comes first.
    ///
    /// The answer does not tell: a sidecar passes the error of the prefill on as its own. But of two ranks, one of which is
    /// well, that one soon has an answer with another partner.
    #[must_use]
    pub fn suspect(&self, decodes: RankId, prefills: RankId) -> RankId {
        let last = |rank| self.patience.answered_ms(rank);
        if last(prefills) <= last(decodes) {
            prefills
        } else {
            decodes
        }
    }

    /// Whether a request of this worker, the oldest on its rank without a first byte, shows that the rank hangs.
    pub fn is_hung(&mut self, rank: RankId, picked_ms: u64, expected_ms: u64, now_ms: u64) -> bool {
        let oldest = Waiting {
            rank,
            picked_ms,
            expected_ms,
        };
        self.patience.is_hung(oldest, now_ms)
    }

    /// The times out of all ranks that are not plainly in, for workers that missed an event. Cost: one pass over the ranks.
    #[must_use]
    pub fn spells(&self, now_ms: u64) -> Vec<(RankKey, Spell)> {
        let spell = |(rank, _)| Some((self.rank_key(rank)?, self.health.spell(rank, now_ms)?));
        self.seats.all().filter_map(spell).collect()
    }

    /// Another worker knows this of a rank's time out.
    pub fn heard_spell(&mut self, rank: u64, spell: &[u8], now_ms: u64) {
        let rank = self.seats.rank_of(rank);
        if let (Some(rank), Some(spell)) = (rank, Spell::decode(spell)) {
            self.health.join(rank, spell, now_ms);
        }
    }

    /// How many of the listed ranks stand how. Cost: one pass over the ranks.
    #[must_use]
    pub fn health_counts(&self, now_ms: u64) -> Counts {
        let listed = self.seats.all().filter(|(_, seat)| seat.is_listed);
        self.health.counts(listed.map(|(rank, _)| rank), now_ms)
    }

    /// Who refuses connections has no process, and so no cache.
    pub(super) fn note_failure(
        &mut self,
        rank: RankId,
        failure: Failure,
        attempt: Attempt,
        now_ms: u64,
    ) -> Verdict {
        let verdict = self.health.failed(rank, failure, attempt, now_ms);
        if verdict == Verdict::GoesOut && failure == Failure::Connect {
            self.index.forget(rank);
            self.reported.note_cold(rank, attempt.ended_ms);
        }
        verdict
    }
}
