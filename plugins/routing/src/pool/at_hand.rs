//! The prompt at hand: how much of it each rank holds, and how many tokens that is.

use std::net::SocketAddr;

use super::{Arrival, Pick, Pool};
use crate::{Prompt, RankId, SentBlock};

impl Pool {
    /// As [`pick`](Self::pick), by what ranks are known to hold and not by what the index believes: how many of the prompt's
    /// first blocks are in the cache of each. Ranks that are not named hold nothing. A measure for the index: replay has
    /// the truth.
    pub fn pick_knowing(
        &mut self,
        prompt: &Prompt,
        depths: impl IntoIterator<Item = (SocketAddr, u32)>,
        seed: u64,
        now_ms: u64,
    ) -> Option<Pick> {
        self.look_up(Some(prompt));
        self.depths.fill(0);
        for (address, depth) in depths {
            let rank = self.seats.rank_of(crate::seats::address_hash(address));
            let known = rank.and_then(|rank| self.depths.get_mut(rank.index()));
            if let Some(known) = known {
                *known = depth;
            }
        }
        self.pick_at_hand(Some(prompt), Arrival::Complete, seed, now_ms)
    }

    pub(super) fn matched_tokens(&self, prompt: Option<&Prompt>, rank: RankId) -> u64 {
        let bytes = prompt.map_or(0, |prompt| self.matched_bytes(prompt, rank));
        self.rate.whole_tokens(bytes)
    }

    /// Bytes of the prompt at hand that a rank need not compute: what it holds, unless the request asks it to compute all.
    pub(super) fn matched_bytes(&self, prompt: &Prompt, rank: RankId) -> u64 {
        if prompt.bypasses_cache {
            return 0;
        }
        prompt.bytes_in(self.depth(rank))
    }

    /// Tokens of the prompt at hand, at most what the rank can hold: a longer one it refuses, and nothing that a client announces
    /// weighs more.
    pub(super) fn prompt_tokens(&self, prompt: Option<&Prompt>, rank: RankId) -> u64 {
        let tokens = prompt.map_or(0, |prompt| self.rate.tokens(prompt.prompt_bytes));
        tokens.min(self.said_tokens(rank))
    }

    /// Takes a prompt at hand: how much of it each rank holds, and how many tokens its bytes are.
    pub(super) fn look_up(&mut self, prompt: Option<&Prompt>) {
        let blocks = prompt.map_or(&[][..], |prompt| &prompt.blocks);
        let hashes = blocks.iter().map(|block| block.chain_hash);
        self.index.match_depths(hashes, &mut self.depths);
        self.home = None;
        self.rate = prompt.map_or(self.rate, |prompt| self.rates.of(prompt.model));
    }

    /// How many of the first blocks of the prompt at hand a rank holds.
    pub(super) fn depth(&self, rank: RankId) -> usize {
        let depth = self.depths.get(rank.index()).copied().unwrap_or(0);
        usize::try_from(depth).unwrap_or(0)
    }

    pub(super) fn sent_blocks(&self, prompt: &Prompt) -> Vec<SentBlock> {
        let unit_bytes = u32::try_from(self.config.block_bytes()).unwrap_or(u32::MAX);
        let ends = prompt.blocks.iter().map(|block| block.end_bytes);
        let starts = std::iter::once(0).chain(ends);
        let sent = prompt
            .blocks
            .iter()
            .zip(starts)
            .map(|(block, start_bytes)| SentBlock {
                chain_hash: block.chain_hash,
                start: start_bytes.checked_div(unit_bytes).unwrap_or(start_bytes),
            });
        sent.collect()
    }
}
