//! How far one rank's cache is what it says it is.

use super::{Change, Evidence, Granule, Missing};

/// The room that a rank reports or is configured to have.
pub(super) const WHOLE: u32 = 1024;

/// The least share of it: below, something else is wrong than the room.
const LEAST: u32 = WHOLE / 16;

/// The most where it is only configured.
const MOST: u32 = WHOLE * 16;

/// A share that is too small goes half of the way to what an answer shows: what is not believed in is hardly asked for.
const STEP_UP: u32 = 2;
/// One that is too large goes a quarter of the way: two misses are often something else, and to believe a little too much
/// costs less than too little. Half of the way gives 1 to 2 % fewer hits in `scripts/replay --loop`.
const STEP_DOWN: u32 = 4;

/// A hit near the end of the room adds a 32nd: of what a rank is not believed to hold it is hardly ever asked.
const GROW: u32 = 32;

/// It adds an eighth where the rank reports its room, which then bounds it: a cache that was emptied soon has all of it
/// again. A 32nd gives 1 to 2 % fewer hits in `scripts/replay --loop`.
const GROW_AS_REPORTED: u32 = 8;

/// The end of the room: the blocks that are lost next.
const END_SHARE: u32 = 4;

/// A block that was sent within this share of the room cannot have been lost for want of it, even if the room is four
/// times smaller than said or thought.
const YOUNG_SHARE: u32 = 8;

/// What misses in a row must come to until a rank is forgotten: two of young blocks.
const FORGETTING_DOUBT: u8 = 4;
const YOUNG_DOUBT: u8 = 2;
const OLD_DOUBT: u8 = 1;

/// What is believed of one rank's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheBelief {
    share: u32,
    /// Whether answers tell what was cached. Then the rank is believed to hold all that it was sent, as far as it does not
    /// say itself how much that can be: too much belief is told at once.
    is_telling: bool,
    /// What the misses since the last hit come to, and the share before them: what is lost says nothing of the room.
    doubt: u8,
    undoubted_share: u32,
    /// When the rank was forgotten last.
    forgotten_ms: u64,
    pub(super) granule: Granule,
}

impl Default for CacheBelief {
    fn default() -> Self {
        Self {
            share: WHOLE,
            is_telling: false,
            doubt: 0,
            undoubted_share: WHOLE,
            forgotten_ms: 0,
            granule: Granule::default(),
        }
    }
}

impl CacheBelief {
    /// The room to assume where the rank is said to have so many tokens.
    pub(crate) fn scaled(self, tokens: u64, is_reported: bool) -> u64 {
        let share = self.share.min(most(is_reported));
        let scaled = tokens.saturating_mul(u64::from(share));
        scaled.checked_div(u64::from(WHOLE)).unwrap_or(tokens)
    }

    /// Another worker found this share.
    pub(crate) fn set_share(&mut self, share: u32, is_reported: bool) {
        self.share = share.clamp(LEAST, most(is_reported));
        self.is_telling = true;
    }

    /// Another worker met a miss of young blocks; true when it is one too many.
    pub(crate) fn doubted(&mut self) -> bool {
        self.note_doubt(YOUNG_DOUBT)
    }

    /// The rank is forgotten, whoever found that out.
    pub(crate) fn forgotten(&mut self, now_ms: u64) {
        if self.doubt > 0 {
            self.share = self.undoubted_share;
        }
        self.doubt = 0;
        self.forgotten_ms = now_ms;
    }

    /// Whether a loss that a request picked at `at_ms` met is another than the one that was noticed last. A time that is
    /// still to come was measured before the clock was set back, and says nothing.
    pub(crate) fn is_news(&self, at_ms: u64, now_ms: u64) -> bool {
        at_ms > self.forgotten_ms || self.forgotten_ms > now_ms
    }

    /// The share of the room, where it is not the whole.
    pub(crate) fn share(&self) -> Option<u32> {
        (self.share != WHOLE).then_some(self.share)
    }

    /// Learns from one answer; `is_reported` says that the rank itself told its room, which then is the most there is.
    pub(crate) fn learn(&mut self, evidence: Evidence, is_reported: bool) -> Change {
        if !std::mem::replace(&mut self.is_telling, true) {
            // Not told: others may know better.
            self.share = most(is_reported);
        }
        let before = *self;
        match evidence {
            Evidence::Missing(missing) => {
                if self.miss(missing) {
                    return Change::Forgotten;
                }
            }
            Evidence::There { share } => {
                self.doubt = 0;
                self.grow(share, is_reported);
            }
            Evidence::None => {}
        }
        if self.share != before.share {
            Change::Capacity(self.share)
        } else if self.doubt > before.doubt {
            Change::Doubted
        } else {
            Change::None
        }
    }

    /// Takes a miss; true when it is one too many.
    fn miss(&mut self, missing: Missing) -> bool {
        // More room than for all that was ever sent is not believed in, nor denied.
        let assumed = self.share.min(missing.sent_share);
        let is_young = missing.share < self.share.min(WHOLE) / YOUNG_SHARE;
        let doubt = if is_young { YOUNG_DOUBT } else { OLD_DOUBT };
        let is_too_much = missing.is_below_half && self.note_doubt(doubt);
        if !is_young {
            let less = assumed.saturating_sub(missing.share) / STEP_DOWN;
            self.share = assumed.saturating_sub(less).max(LEAST);
        }
        is_too_much
    }

    fn note_doubt(&mut self, more: u8) -> bool {
        if self.doubt == 0 {
            self.undoubted_share = self.share;
        }
        self.doubt = self.doubt.saturating_add(more);
        self.doubt >= FORGETTING_DOUBT
    }

    fn grow(&mut self, share: u32, is_reported: bool) {
        let is_near_end = share >= self.share.saturating_sub(self.share / END_SHARE);
        let little = match (is_near_end, is_reported) {
            (false, _) => 0,
            (true, true) => self.share / GROW_AS_REPORTED,
            (true, false) => self.share / GROW,
        };
        let more = share
            .saturating_sub(self.share)
            .div_ceil(STEP_UP)
            .max(little);
        let larger = self.share.saturating_add(more).min(most(is_reported));
        self.share = self.share.max(larger);
    }
}

fn most(is_reported: bool) -> u32 {
    if is_reported { WHOLE } else { MOST }
}
