//! Where the other gateways, which run this decision too, have probably sent the start of a prompt.
//!
//! Gateways tell each other nothing, so each sees only its share of a conversation's turns. They agree all the same on a *home*
//! for each prompt: the rank that comes first in a fixed order of the prompt's *anchor*, a block of it. The anchor is the first
//! block, at 1 KiB of the prompt or a doubling of that, which is not common: which no more than a rank's share of requests
//! pass through. A system prompt before everything is passed over, and all turns of a conversation and all questions about a
//! document have one anchor. Each gateway counts on its own requests, and as all get the same kinds, all come to the same.
//!
//! A home is expected to hold a part of what this gateway does not know of it. How large that part is, answers tell
//! (`cached_tokens`); where they do not, it stays as it is assumed at first.

use crate::Prompt;
use crate::hash::keyed;

/// Where anchors are looked for first: shorter common starts are no use to anyone.
const FIRST_DEPTH_BYTES: u32 = 1024;
/// Places for counts. Blocks that share one count together, which gives deeper anchors and no wrong ones.
const PLACES: u64 = 4096;
/// Requests after which earlier ones count half.
const MEMORY: u32 = 4096;
/// Uncommon is also what passed so often, however few requests there were.
const SELDOM: u32 = 2;
/// All, as a fixed-point number.
const WHOLE: u32 = 1 << 16;
/// What a home is taken to hold of the unknown before answers tell. In replays 0.4 to 0.9 differ by less than a tenth.
const FOUND_AT_FIRST: u32 = WHOLE / 10 * 6;
/// An answer moves that by a 32nd: prompts differ.
const FOUND_GAIN: u32 = 32;
/// A report moves the others' share by an eighth: requests of one moment are few.
const OTHERS_GAIN: u32 = 8;
/// Below a twentieth there are no others: requests that end while pages are under way look like theirs.
const LEAST_OTHERS: u32 = WHOLE / 20;

/// What a gateway knows of the others' prompts. Memory: 8 KiB.
#[derive(Clone, Debug)]
pub(crate) struct Homes {
    counts: Vec<u16>,
    secret: u64,
    requests: u32,
    found: u32,
    others: u32,
}

impl Default for Homes {
    fn default() -> Self {
        Self {
            counts: vec![0; usize::try_from(PLACES).unwrap_or(0)],
            secret: 0,
            requests: 0,
            found: FOUND_AT_FIRST,
            others: 0,
        }
    }
}

impl Homes {
    /// Counts in places that nobody can choose who does not know `secret`.
    pub(crate) fn keyed(secret: u64) -> Self {
        Self {
            secret,
            ..Self::default()
        }
    }

    /// Counts a prompt and gives its anchor, in a pool of so many ranks; `None` where all of it is common, or it is short.
    /// Cost: one place for each doubling of the prompt's length.
    pub(crate) fn anchor(&mut self, prompt: &Prompt, ranks: usize) -> Option<u64> {
        self.age();
        let ranks = u32::try_from(ranks).unwrap_or(u32::MAX).max(1);
        let most = self.requests.min(MEMORY).checked_div(ranks).unwrap_or(0);
        let most = most.max(SELDOM);
        let (mut depth_bytes, mut anchor) = (FIRST_DEPTH_BYTES, None);
        for block in &prompt.blocks {
            if block.end_bytes < depth_bytes {
                continue;
            }
            depth_bytes = depth_bytes.saturating_mul(2);
            let is_common = self.count(block.chain_hash) > most;
            anchor = anchor.or((!is_common).then_some(block.chain_hash));
        }
        anchor
    }

    /// Requests on the ranks that this gateway sent, and that others did.
    pub(crate) fn note_others(&mut self, own: u32, others: u32) {
        if own.saturating_add(others) > 0 {
            let share = part(others.into(), own.saturating_add(others).into());
            self.others = moved(self.others, share, OTHERS_GAIN);
        }
    }

    /// A home held so many tokens of those that were not known to be there.
    pub(crate) fn note_found(&mut self, found_tokens: u64, unknown_tokens: u64) {
        if unknown_tokens > 0 {
            let share = part(found_tokens, unknown_tokens);
            self.found = moved(self.found, share, FOUND_GAIN);
        }
    }

    /// How many of the tokens that are not known to be there are not there at a home either.
    #[must_use]
    pub(crate) fn uncached(&self, unknown_tokens: u64) -> u64 {
        if self.others < LEAST_OTHERS {
            return unknown_tokens;
        }
        let missing = u64::from(WHOLE.saturating_sub(self.found));
        let left = unknown_tokens.saturating_mul(missing);
        left.checked_div(u64::from(WHOLE)).unwrap_or(unknown_tokens)
    }

    fn age(&mut self) {
        self.requests = self.requests.saturating_add(1);
        if self.requests.is_multiple_of(MEMORY) {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    fn count(&mut self, chain_hash: u64) -> u32 {
        let place = usize::try_from(keyed(self.secret, chain_hash) % PLACES).unwrap_or(0);
        let Some(count) = self.counts.get_mut(place) else {
            return 0;
        };
        *count = count.saturating_add(1);
        u32::from(*count)
    }
}

fn part(count: u64, of: u64) -> u32 {
    let share = count.min(of).saturating_mul(WHOLE.into()).checked_div(of);
    u32::try_from(share.unwrap_or(0)).unwrap_or(WHOLE)
}

/// `share` a part of the way to `now`.
fn moved(share: u32, now: u32, gain: u32) -> u32 {
    let (up, down) = (now.saturating_sub(share), share.saturating_sub(now));
    let step = |way: u32| way.checked_div(gain).unwrap_or(0);
    share.saturating_add(step(up)).saturating_sub(step(down))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Block, BodyEnd, chain};

    /// A prompt of blocks of 256 bytes, each from the words before it.
    fn prompt(words: impl Iterator<Item = u64>) -> Prompt {
        let mut hash = 0;
        let blocks = words.zip(1u32..).map(|(word, place)| {
            hash = chain(hash, word);
            Block {
                chain_hash: hash,
                end_bytes: place * 256,
            }
        });
        let blocks: Vec<Block> = blocks.collect();
        Prompt {
            prompt_bytes: blocks.len() as u64 * 256,
            blocks,
            anchor: 0,
            model: 0,
            bypasses_cache: false,
            kind: 0,
            body_end: BodyEnd::Whole,
            read_bytes: 0,
        }
    }

    /// A turn of a conversation behind a common start of 3,000 bytes.
    fn turn(conversation: u64, turn: u64) -> Prompt {
        prompt((0..12).chain((0..4 * turn).map(|place| 1000 * conversation + place)))
    }

    #[test]
    fn turns_of_a_conversation_have_an_anchor_of_their_own_behind_the_common_start() {
        let mut homes = Homes::default();
        // Each gateway sees other turns, and other conversations.
        (100..200).for_each(|conversation| {
            homes.anchor(&turn(conversation, 5), 8);
        });
        let mut other = Homes::default();
        (300..400).for_each(|conversation| {
            other.anchor(&turn(conversation, 9), 8);
        });
        let anchor = homes.anchor(&turn(1, 2), 8).unwrap();
        assert_eq!(anchor, turn(1, 2).blocks[15].chain_hash, "at 4 KiB");
        assert_eq!(homes.anchor(&turn(1, 7), 8), Some(anchor));
        assert_eq!(other.anchor(&turn(1, 6), 8), Some(anchor));
        assert_ne!(other.anchor(&turn(2, 6), 8), Some(anchor));
    }

    #[test]
    fn a_document_that_all_ask_about_is_spread_by_what_they_ask() {
        let mut homes = Homes::default();
        let question = |number: u64| {
            prompt((0..16u64).chain((0..16u64).map(move |place| 1000 * number + place)))
        };
        let first = homes.anchor(&question(0), 8);
        assert_eq!(
            first,
            Some(question(0).blocks[3].chain_hash),
            "nobody knows yet"
        );
        (1..100).for_each(|number| {
            homes.anchor(&question(number), 8);
        });
        let anchor = homes.anchor(&question(100), 8);
        assert_eq!(anchor, Some(question(100).blocks[31].chain_hash));
    }

    #[test]
    fn what_is_short_or_common_throughout_has_no_anchor() {
        let mut homes = Homes::default();
        assert_eq!(homes.anchor(&prompt(0..3), 8), None);
        let same = || prompt(0..20);
        (0..50).for_each(|_| {
            homes.anchor(&same(), 8);
        });
        assert_eq!(homes.anchor(&same(), 8), None);
    }

    #[test]
    fn what_was_common_long_ago_is_not_any_more() {
        let mut homes = Homes::default();
        (0..1000).for_each(|_| {
            homes.anchor(&prompt(0..4), 8);
        });
        (0..40_000).for_each(|_| {
            homes.anchor(&prompt(90..93), 8);
        });
        assert_eq!(
            homes.anchor(&prompt(0..4), 8),
            Some(prompt(0..4).blocks[3].chain_hash)
        );
    }

    #[test]
    fn a_home_counts_only_while_others_send() {
        let mut homes = Homes::default();
        assert_eq!(homes.uncached(1000), 1000);
        (0..50).for_each(|_| homes.note_others(10, 30));
        assert_eq!(homes.uncached(1000), 400, "0.6 of it is taken to be there");
        (0..50).for_each(|_| homes.note_others(10, 0));
        assert_eq!(homes.uncached(1000), 1000);
        homes.note_others(0, 0);
        assert_eq!(homes.uncached(1000), 1000, "idle ranks say nothing");
    }

    #[test]
    fn answers_tell_what_homes_hold() {
        let mut homes = Homes::default();
        (0..50).for_each(|_| homes.note_others(1, 1));
        (0..500).for_each(|_| homes.note_found(250, 1000));
        assert!(
            (740..760).contains(&homes.uncached(1000)),
            "{}",
            homes.uncached(1000)
        );
        (0..500).for_each(|_| homes.note_found(u64::MAX, 10));
        assert!(homes.uncached(1000) < 10, "{}", homes.uncached(1000));
        homes.note_found(1, 0);
        assert!(homes.uncached(u64::MAX) < u64::MAX);
    }
}
