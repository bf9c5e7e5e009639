//! What answers teach about the ranks' caches: how much of what the index believes is true.
//!
//! The index is a model of each rank's cache: least recently used, of the size that the rank reports. The real one may be
//! smaller (requests under way take their part, another gateway sends prompts, too), may be larger where nothing is
//! reported, and may have been emptied without a word. The number of cached tokens in an answer shows which:
//!
//! - *Clearly less* than expected, and the first block that is missing was sent long ago: there is less room than thought.
//!   What the rank was sent since then did not fit beside it, so the assumed capacity goes half of the way down to that.
//! - Less than half of what was expected, of blocks so young that no want of room explains it: such misses in a row mean
//!   that the rank has lost everything, and it is forgotten. One alone means nothing, nor do two of a kind of request that
//!   is not answered from caches elsewhere: some requests skip the cache ([`Kinds`]).
//! - *Clearly more*, of blocks that were given up for want of room: what the rank was sent since then did fit beside them,
//!   and the assumed capacity goes half of the way up to that. So it settles where misses and such hits balance.
//! - *As expected*, of a block near the end of the assumed capacity: it grows by an eighth up to what the rank reports, or by a 32nd.
//!   Of what a rank is not believed to hold it is hardly ever asked, so too little belief would not be found out.
//!
//! The prompt itself needs no correction: once its answer has ended, the rank holds it, whatever was there before.
//!
//! What an answer says is only used where it can be compared. A block may be expected that a request ahead still has to
//! compute: unless all prefill that was queued at the pick is younger than the block, a miss says nothing. Cached tokens
//! come in multiples of the engine's own block, 16 tokens as a rule and a thousand in models with state layers; the
//! greatest number that divides all that were seen bounds it, and less than one of these is no miss.

mod ages;
mod cache_belief;
mod granule;
mod kinds;

pub use ages::Ages;
pub(crate) use cache_belief::CacheBelief;
use granule::Granule;
pub(crate) use kinds::Kinds;

use crate::{RankId, Sent, Usage};

/// A prompt of which all but a sixteenth is cached may have come over the network: short prompts lose their last block.
const RECEIVED_REST: u64 = 16;

/// What a pick expects an answer to say of a rank's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whose cache the number of cached tokens means: the rank that prefills the prompt. That is the one that answers, unless
    /// a sidecar sends the prompt to another rank first and passes that one's number on.
    pub rank: RankId,
    /// Whether other gateways are taken to send such prompts to it, too.
    pub(crate) is_home: bool,
    /// Whether that rank prefills for another one, which answers.
    pub(crate) is_leg: bool,
    /// Tokens that were believed to be there.
    pub matched_tokens: u64,
    pub(crate) matched_bytes: u64,
    pub(crate) life: u16,
    pub(crate) ages: Ages,
    /// Blocks that the rank still had to compute.
    pub(crate) queued_blocks: u32,
    /// All that the rank was ever sent, in blocks.
    pub(crate) sent_blocks: u32,
    /// The room that the rank is said to have, in blocks.
    pub(crate) whole_blocks: u32,
}

/// What of a worker's beliefs an answer changed; the other workers need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The room assumed on the rank: its new share, in 1,024ths of what it reports or is configured to have.
    Capacity(u32),
    /// The rank may have lost everything: one more such miss, here or in another worker, and it is forgotten.
    Doubted,
    /// The rank holds nothing but the prompt of this answer.
    Forgotten,
}

/// What an answer told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Cached tokens that were expected at the pick.
    pub predicted_tokens: u64,
    /// Cached tokens that the rank counted, if it says.
    pub delivered_tokens: Option<u64>,
    /// By how much of the prompt both differ, in percent.
    pub error_percent: Option<u64>,
    /// What changed.
    pub change: Change,
    /// The kind of the request, where it was found for the first time to be answered from caches: news for the other workers.
    pub new_kind: Option<u64>,
    /// Blocks that are news for the other workers.
    pub sent: Sent,
}

/// What was delivered, beside what was expected; in bytes of the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    pub(crate) tolerance: u64,
}

/// What a delivery shows of a rank's room, as a share of what it is said to have, in 1,024ths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// Nothing.
    None,
    /// As much or more than expected was there: there is at least this much room.
    There { share: u32 },
    /// Something was not there.
    Missing(Missing),
}

/// Something that was not there, and would be if the rank had more room than this share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) share: u32,
    /// The share that would hold all that the rank was sent.
    pub(crate) sent_share: u32,
    pub(crate) is_below_half: bool,
}

impl Evidence {
    /// Whether the rank's cache delivered at least half of what was expected.
    fn is_delivery(self) -> bool {
        match self {
            Self::None => false,
            Self::There { .. } => true,
            Self::Missing(missing) => !missing.is_below_half,
        }
    }
}

impl Expected {
    /// What an answer says, as far as it is about the rank that is meant.
    ///
    /// Of a request with a prefill leg the sidecar gives the count of the rank that prefilled (llm-d from 0.9 on) or that of the
    /// decode rank (0.8), which counts what it received as cached: the whole prompt but for its end. That much says nothing.
    pub(crate) fn comparable(&self, usage: &Usage) -> Usage {
        let rest = usage
            .prompt_tokens
            .saturating_sub(usage.cached_tokens.unwrap_or(0));
        let is_received = self.is_leg && rest <= usage.prompt_tokens / RECEIVED_REST;
        Usage {
            cached_tokens: usage.cached_tokens.filter(|_| !is_received),
            ..*usage
        }
    }

    /// The same of a rank that prefills for another one.
    pub(crate) fn of_leg(self) -> Self {
        Self {
            is_leg: true,
            ..self
        }
    }

    /// What a delivery shows; blocks are of `unit_bytes`.
    pub(crate) fn evidence(&self, delivery: Delivery, unit_bytes: u64) -> Evidence {
        let Delivery {
            expected,
            delivered,
            tolerance,
        } = delivery;
        if delivered.saturating_add(tolerance) < expected {
            let age = self.ages.at(delivered);
            // What was still to be computed is not missing.
            return match age.filter(|age| *age >= self.queued_blocks) {
                Some(age) => Evidence::Missing(Missing {
                    share: self.share(age, delivered, unit_bytes),
                    sent_share: self.share(self.sent_blocks, 0, unit_bytes),
                    is_below_half: delivered < expected / 2,
                }),
                None => Evidence::None,
            };
        }
        let last = delivered.checked_sub(1);
        match last.and_then(|last| Some((last, self.ages.at(last)?))) {
            Some((last, age)) => Evidence::There {
                share: self.share(age, last, unit_bytes),
            },
            None if delivered > 0 => Evidence::There { share: 0 },
            None => Evidence::None,
        }
    }

    /// The room that holds a block of this age at this place, beside all that came since: a prompt loses its end first.
    fn share(&self, age: u32, at_bytes: u64, unit_bytes: u64) -> u32 {
        let place = at_bytes.checked_div(unit_bytes).unwrap_or(0);
        let blocks = place.saturating_add(u64::from(age));
        let share = blocks.saturating_mul(u64::from(cache_belief::WHOLE));
        let share = share.checked_div(u64::from(self.whole_blocks));
        u32::try_from(share.unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

/// What answers taught about each rank of a pool. A few bytes a rank.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    ranks: Vec<CacheBelief>,
    /// Of all ranks together: for those that told no count yet.
    granule: Granule,
}

impl Caches {
    /// A rank takes its seat: nothing is known of it.
    pub(crate) fn seat(&mut self, rank: RankId) {
        let needed = rank.index().saturating_add(1).max(self.ranks.len());
        self.ranks.resize(needed, CacheBelief::default());
        if let Some(belief) = self.get_mut(rank) {
            *belief = CacheBelief::default();
        }
    }

    /// The room to assume on a rank that says it has so many tokens.
    pub(crate) fn scaled(&self, rank: RankId, tokens: u64, is_reported: bool) -> u64 {
        let belief = self.ranks.get(rank.index()).copied();
        belief.unwrap_or_default().scaled(tokens, is_reported)
    }

    /// A rank counted so many cached tokens; gives the step in which it counts, 0 while nothing is known.
    pub(crate) fn step_tokens(&mut self, rank: RankId, cached_tokens: u64) -> u64 {
        self.granule.see(cached_tokens);
        let all = self.granule.tokens();
        let Some(belief) = self.get_mut(rank) else {
            return all;
        };
        belief.granule.see(cached_tokens);
        match belief.granule.tokens() {
            0 => all,
            own => own,
        }
    }

    /// The share of a rank's room, where it is not the whole.
    pub(crate) fn share(&self, rank: RankId) -> Option<u32> {
        self.ranks.get(rank.index())?.share()
    }

    pub(crate) fn get_mut(&mut self, rank: RankId) -> Option<&mut CacheBelief> {
        self.ranks.get_mut(rank.index())
    }
}

#[cfg(test)]
mod tests;
