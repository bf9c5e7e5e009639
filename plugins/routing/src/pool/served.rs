//! What became of a request after its pick: when its body and its answer came, where it was served, and what a rank never took in.

use std::net::SocketAddr;

use super::Pool;
use crate::{Charge, Expected, Inserted, Prompt, RankId, RankKey, Sent, TakenBack};

/// What a prompt changed in the index when it was sent to a rank: enough to take it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insertion {
    /// How often the rank had been forgotten.
    life: u16,
    /// The first block that was told to the other workers.
    told_from: usize,
    /// The first block that the rank did not hold.
    new_from: usize,
    /// How much older it made the rank's other blocks.
    aged_blocks: u32,
}

/// What became of the index when a prompt was known whole that had been picked for by its beginning.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// What holds no more of the beginning, where the whole prompt turned out to begin otherwise.
    pub taken: TakenBack,
    /// Blocks that are news for the other workers.
    pub sent: Sent,
    /// What the whole prompt changed.
    pub insertion: Insertion,
}

/// Where a request went after its pick.
#[derive(Debug)]
pub struct Moved {
    /// What the request counts on the rank that serves it.
    pub charge: Charge,
    /// Blocks that are news for the other workers.
    pub sent: Sent,
    /// What the prompt changed in the index.
    pub insertion: Insertion,
    /// What the answer is expected to say of the cache, where the prompt was read.
    pub expected: Option<Expected>,
}

impl Pool {
    /// The body of a request has ended after `body_bytes`: from now on it weighs what came of its prompt, at most what its rank can
    /// hold. `prefills` says whether the rank prefills the prompt itself. True when that is news.
    pub fn complete(
        &mut self,
        charge: &mut Charge,
        prompt: Option<&Prompt>,
        body_bytes: u64,
        prefills: bool,
    ) -> bool {
        let rank = charge.rank();
        let tokens = prompt.map_or(0, |prompt| {
            let rate = self.rates.of(prompt.model);
            rate.tokens(prompt.bytes_of_body(body_bytes))
        });
        let tokens = tokens.min(self.said_tokens(rank));
        let is_news = self.loads.complete(charge, tokens, prefills);
        self.reported.note_load(rank, self.loads.total(rank));
        is_news
    }

    /// Notes the first byte of a response; gives the tokens that are no longer queued.
    pub fn first_byte(&mut self, charge: &mut Charge) -> u64 {
        self.loads.first_byte(charge)
    }

    /// Notes the end of a stream, whatever ended it; gives the tokens that are no longer queued.
    pub fn end(&mut self, charge: Charge) -> u64 {
        self.loads.end(charge)
    }

    /// A rank has not taken a prompt in: it refused it, or never got it. What the prompt put into the index goes, and how it
    /// aged the rest. Gives what the other workers need to hear. Cost: two probes per block.
    ///
    /// Blocks that the rank held before stay as young as the prompt made them.
    pub fn take_back(&mut self, rank: RankId, prompt: &Prompt, insertion: &Insertion) -> TakenBack {
        let held = insertion.new_from.saturating_sub(insertion.told_from);
        let mut blocks = self.sent_blocks(prompt);
        blocks.drain(..insertion.told_from.min(blocks.len()));
        let taken = TakenBack {
            blocks,
            held: u32::try_from(held).unwrap_or(u32::MAX),
            aged_blocks: insertion.aged_blocks,
        };
        // Where the rank was forgotten since, nothing of the prompt is left here. Another worker may have heard of both in another
        // order, and believe in the prompt.
        if self.index.life(rank) == insertion.life {
            self.index.take_back(rank, &taken);
        }
        taken
    }

    /// Remembers at `now_ms` that a prompt was taken back: a worker that has lost its slot for a while may hear of its own prompt
    /// again. Gives what the other workers call the rank, where they need to hear of it.
    pub fn note_taken_back(
        &mut self,
        rank: RankId,
        taken: &TakenBack,
        now_ms: u64,
    ) -> Option<RankKey> {
        let first_new = taken.first_new()?.chain_hash;
        let key = self.rank_key(rank)?;
        self.taken.note(key.rank, first_new, now_ms);
        Some(key)
    }

    /// All of a prompt is known that a rank was sent and that was picked for by its beginning. `beginning` is that and what it
    /// changed in the index, while it can still be taken back.
    pub fn learn(
        &mut self,
        rank: RankId,
        beginning: Option<(&Prompt, &Insertion)>,
        whole: &Prompt,
    ) -> Learnt {
        let alike = beginning.filter(|(cut, _)| begins_with(whole, cut));
        let taken = match beginning.filter(|_| alike.is_none()) {
            Some((cut, insertion)) => self.take_back(rank, cut, insertion),
            None => TakenBack::default(),
        };
        let added = self.remember(rank, Some(whole));
        Learnt {
            taken,
            insertion: match alike {
                Some((_, insertion)) => insertion.and(&added.insertion),
                None => added.insertion,
            },
            sent: added.sent,
        }
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
        let is_incomplete = charge.is_incomplete();
        let still_queued = self.loads.end(charge) > 0 || is_incomplete;
        let rank = self.seats.rank_of(crate::seats::address_hash(address))?;
        self.look_up(prompt);
        let matched_tokens = self.matched_tokens(prompt, rank);
        let prompt_tokens = self.prompt_tokens(prompt, rank);
        let uncached = prompt_tokens.saturating_sub(matched_tokens);
        let added = self.remember(rank, prompt);
        let expected = prompt.map(|prompt| self.expected(prompt, rank, &added.ages));
        let queued_tokens = if still_queued { uncached } else { 0 };
        let mut charge = self.loads.charge(rank, queued_tokens, prompt_tokens);
        if is_incomplete {
            self.loads.suspend(&mut charge);
        }
        Some(Moved {
            charge,
            sent: added.sent,
            insertion: added.insertion,
            expected,
        })
    }

    /// A second attempt was made with the rank that was named second to prefill: it holds the prompt now. Gives that rank, the
    /// blocks that are news and what changed, if the pool knows it.
    pub fn served_leg(
        &mut self,
        address: SocketAddr,
        prompt: &Prompt,
    ) -> Option<(RankId, Sent, Insertion)> {
        let rank = self.seats.rank_of(crate::seats::address_hash(address))?;
        let added = self.insert(rank, Some(prompt));
        Some((rank, added.sent, added.insertion))
    }
}

impl Insertion {
    pub(super) fn of(inserted: &Inserted, life: u16) -> Self {
        Self {
            life,
            told_from: inserted.young,
            new_from: inserted.held,
            aged_blocks: inserted.aged_blocks,
        }
    }

    /// This and what more of the same prompt changed.
    fn and(&self, more: &Self) -> Self {
        if self.life != more.life {
            return *more;
        }
        Self {
            aged_blocks: self.aged_blocks.saturating_add(more.aged_blocks),
            ..*self
        }
    }
}

/// Whether a prompt begins with the blocks of another one: chain hashes cover all before them.
fn begins_with(whole: &Prompt, cut: &Prompt) -> bool {
    let Some(last) = cut.blocks.len().checked_sub(1) else {
        return true;
    };
    let hash = |prompt: &Prompt| prompt.blocks.get(last).map(|block| block.chain_hash);
    hash(whole) == hash(cut)
}
