//! What other workers tell of this pool.

use super::Pool;
use crate::{Attempt, Failure, RankLoad, SentBlock, SentBlocks, Span, TakenBack};

impl Pool {
    /// Another worker has this on a rank from now on.
    pub fn heard_load(&mut self, slot: u16, rank: u64, load: RankLoad) {
        self.peer_loads.set(slot, rank, load);
        self.add_up(rank);
    }

    /// Another worker has nothing more on any rank: it is gone, or will say anew what it has.
    pub fn heard_nothing_of(&mut self, slot: u16) {
        for rank in self.peer_loads.clear(slot) {
            self.add_up(rank);
        }
    }

    /// Another worker sent a prompt to a rank, at `at_ms`. What is heard of late, as by a new worker, may have been lost
    /// since.
    pub fn heard_prompt(
        &mut self,
        rank: u64,
        at_ms: u64,
        aged_blocks: u32,
        blocks: SentBlocks<'_>,
        now_ms: u64,
    ) {
        let address_hash = rank;
        let rank = self.seats.rank_of(address_hash);
        if let Some(rank) = rank.filter(|rank| !self.reported.was_lost(*rank, at_ms, now_ms)) {
            let mut blocks: Vec<SentBlock> = blocks.iter().collect();
            self.taken.cut(address_hash, at_ms, &mut blocks);
            self.index.tell(rank, &blocks, aged_blocks);
        }
    }

    /// A rank has not taken in a prompt of another worker, which took it back at `at_ms`: these blocks of it, of which the rank
    /// held so many before.
    pub fn heard_taken_back(
        &mut self,
        rank: u64,
        at_ms: u64,
        aged_blocks: u32,
        held: u32,
        blocks: SentBlocks<'_>,
    ) {
        let taken = TakenBack {
            blocks: blocks.iter().collect(),
            held,
            aged_blocks,
        };
        if let Some(first_new) = taken.first_new() {
            self.taken.note(rank, first_new.chain_hash, at_ms);
        }
        if let Some(rank) = self.seats.rank_of(rank) {
            self.index.take_back(rank, &taken);
        }
    }

    /// An attempt of another worker on a rank failed.
    pub fn heard_failure(&mut self, rank: u64, code: u8, span: Span, now_ms: u64) {
        let rank = self.seats.rank_of(rank);
        if let (Some(rank), Some(failure)) = (rank, Failure::from_code(code)) {
            self.note_failure(rank, failure, attempt(span), now_ms);
        }
    }

    /// Another worker had an answer from a rank.
    pub fn heard_answer(&mut self, rank: u64, span: Span, is_streamed: bool, now_ms: u64) {
        if let Some(rank) = self.seats.rank_of(rank) {
            self.answered(rank, attempt(span), is_streamed, now_ms);
        }
    }

    fn add_up(&mut self, rank: u64) {
        if let Some(seated) = self.seats.rank_of(rank) {
            self.loads.set_others(seated, self.peer_loads.of(rank));
            self.reported.note_load(seated, self.loads.total(seated));
        }
    }
}

fn attempt(span: Span) -> Attempt {
    Attempt {
        picked_ms: span.from_ms,
        ended_ms: span.to_ms,
    }
}
