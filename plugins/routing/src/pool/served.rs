//! What became of a request after its pick: where it was served, and what never got there.

use std::net::SocketAddr;

use super::Pool;
use crate::{Charge, Expected, Prompt, RankId, Sent};

/// Where a request went after its pick.
#[derive(Debug)]
pub struct Moved {
    /// What the request counts on the rank that serves it.
    pub charge: Charge,
    /// Blocks that are news for the other workers.
    pub sent: Sent,
    /// The first block that this rank did not hold.
    pub new_block: Option<u64>,
    /// What the answer is expected to say of the cache, where the prompt was read.
    pub expected: Option<Expected>,
}

impl Pool {
    /// A rank never got the prompt of which this block was new to it.
    pub fn lose(&mut self, rank: RankId, new_block: u64) {
        self.index.lose(rank, new_block);
    }

    /// Moves a request to the rank that serves it, where Envoy sent it on to a fallback; `None` when the pool does not
    /// know that rank, and then the request counts nowhere.
    ///
    /// What the rank does not hold of the prompt is queued on it: the tokens of the first pick no longer say how much.
    pub fn serve(
        &mut self,
        charge: Charge,
        address: SocketAddr,
        prompt: Option<&Prompt>,
    ) -> Option<Moved> {
        let still_queued = self.loads.end(charge) > 0;
        let rank = self.seats.rank_of(crate::seats::address_hash(address))?;
        self.look_up(prompt);
        let matched_tokens = self.matched_tokens(prompt, rank);
        let prompt_tokens = self.prompt_tokens(prompt);
        let uncached = prompt_tokens.saturating_sub(matched_tokens);
        let new_block = self.new_block(prompt, rank);
        let (sent, ages) = self.remember(rank, prompt);
        let expected = prompt.map(|prompt| self.expected(prompt, rank, &ages));
        let queued_tokens = if still_queued { uncached } else { 0 };
        Some(Moved {
            charge: self.loads.charge(rank, queued_tokens, prompt_tokens),
            sent,
            new_block,
            expected,
        })
    }

    /// A second attempt was made with the rank that was named second to prefill: it holds the prompt now. Gives that rank and
    /// the blocks that are news, if the pool knows it.
    pub fn served_leg(&mut self, address: SocketAddr, prompt: &Prompt) -> Option<(RankId, Sent)> {
        let rank = self.seats.rank_of(crate::seats::address_hash(address))?;
        Some((rank, self.insert(rank, Some(prompt)).0))
    }
}
