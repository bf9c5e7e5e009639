//! Which kinds of requests are answered from the ranks' caches.
//!
//! A miss shows that a rank has lost something only if such requests are answered from caches at all: servers have ever more
//! fields that make them compute a prompt anew, and not all are known here. So the answers to each kind of request are counted:
//! a kind that never delivers what is expected teaches nothing; one that delivers as a rule is believed when it does not.
//!
//! A client can invent kinds, by fields that nobody knows. Only a kind that delivers takes a place, that of the kind with the least
//! weight, and takes that weight over (the *space-saving* count of Metwally, Agrawal and El Abbadi, 2005). So a kind that makes
//! more than one in [`MOST_KINDS`] of the deliveries always has its place, whatever is invented beside it; of a kind that lost it,
//! misses teach nothing until it delivers once more.

use super::Evidence;
use crate::RankId;

/// Kinds that are remembered: a gateway's clients have some ten, for each model.
const MOST_KINDS: usize = 128;
/// Answers after which earlier ones fade.
const MEMORY: u32 = 32;
/// What the first delivery counts as. So two misses right behind it are believed, as those of a kind that always delivered.
const FIRST: u32 = 4;
/// After so many answers all weights are halved: kinds that come no more make room.
const FADING: u64 = 4096;
/// All, as a fixed-point number.
const WHOLE: u32 = 1 << 16;
/// A kind that delivers less often hardly ever does: nothing of it is believed.
const LEAST_SHARE: u32 = WHOLE / 8;
/// Misses in a row are proof only of a kind that delivers so often: of one that delivers every second time two misses are usual.
const PROOF_SHARE: u32 = WHOLE / 4 * 3;

/// A rank that delivered, and how often it had been forgotten by then.
type Deliverer = (RankId, u16);

/// What became of the answers to one kind.
#[derive(Clone, Copy, Debug)]
struct Record {
    kind: u64,
    /// How many answers delivered, of all.
    share: u32,
    /// How many there were, as far as they count.
    answers: u32,
    /// Deliveries, and what the kind took over from the one before it in its place.
    weight: u64,
    used: u64,
    /// The rank that delivered last, and the last one but that.
    last: Deliverer,
    other: Option<Deliverer>,
}

/// The kinds of one pool, as one worker met them. Memory: 8 KiB.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    records: Vec<Record>,
    clock: u64,
}

impl Kinds {
    /// Whether a kind was found to deliver, and has its place still.
    pub(crate) fn knows(&self, kind: u64) -> bool {
        self.records.iter().any(|record| record.kind == kind)
    }

    /// Another worker found that a kind delivers.
    pub(crate) fn hear(&mut self, kind: u64, by: (RankId, u16)) {
        if !self.knows(kind) {
            self.count(kind, by, true);
        }
    }

    /// The kinds that are believed, and the rank that delivered last. Cost: one pass over the kinds.
    pub(crate) fn believable(&self) -> impl Iterator<Item = (u64, RankId)> {
        let records = self.records.iter();
        let believed = records.filter(|record| record.share >= PROOF_SHARE);
        believed.map(|record| (record.kind, record.last.0))
    }

    /// Counts an answer from a rank that was forgotten `life` times, and gives what of its evidence can be believed. Cost: one
    /// pass over the kinds.
    pub(crate) fn judge(
        &mut self,
        kind: u64,
        (rank, life): (RankId, u16),
        evidence: Evidence,
    ) -> Evidence {
        let believed = self.believed(kind, (rank, life), evidence);
        if evidence != Evidence::None {
            self.count(kind, (rank, life), evidence.is_delivery());
        }
        believed
    }

    fn believed(&self, kind: u64, by: Deliverer, evidence: Evidence) -> Evidence {
        let Evidence::Missing(missing) = evidence else {
            return evidence;
        };
        let record = self.records.iter().find(|record| record.kind == kind);
        let Some(record) = record.filter(|record| record.share >= LEAST_SHARE) else {
            return match missing.is_below_half {
                true => Evidence::None,
                false => evidence,
            };
        };
        let is_proof = record.share >= PROOF_SHARE && record.delivers_beside(by);
        Evidence::Missing(super::Missing {
            is_below_half: missing.is_below_half && is_proof,
            ..missing
        })
    }

    fn count(&mut self, kind: u64, by: Deliverer, is_delivery: bool) {
        self.clock = self.clock.saturating_add(1);
        if self.clock.is_multiple_of(FADING) {
            self.records
                .iter_mut()
                .for_each(|record| record.weight /= 2);
        }
        let used = self.clock;
        match self.records.iter_mut().find(|record| record.kind == kind) {
            Some(record) => {
                record.used = used;
                record.count(by, is_delivery);
            }
            None if is_delivery => self.remember(Record {
                kind,
                share: WHOLE,
                answers: FIRST,
                weight: 1,
                used,
                last: by,
                other: None,
            }),
            None => {}
        }
    }

    /// Puts a new kind in the place of the one with the least weight, of these the one that was not met for longest.
    fn remember(&mut self, record: Record) {
        if self.records.len() < MOST_KINDS {
            self.records.push(record);
            return;
        }
        let least = self.records.iter_mut().min_by_key(|r| (r.weight, r.used));
        if let Some(least) = least {
            let weight = least.weight.saturating_add(record.weight);
            *least = Record { weight, ..record };
        }
    }
}

impl Record {
    fn count(&mut self, by: Deliverer, is_delivery: bool) {
        self.answers = self.answers.saturating_add(1).min(MEMORY);
        let now = if is_delivery { WHOLE } else { 0 };
        let (up, down) = (
            now.saturating_sub(self.share),
            self.share.saturating_sub(now),
        );
        let step = |way: u32| way.checked_div(self.answers).unwrap_or(0);
        self.share = self
            .share
            .saturating_add(step(up))
            .saturating_sub(step(down));
        if is_delivery {
            self.weight = self.weight.saturating_add(1);
            if self.last.0 != by.0 {
                self.other = Some(self.last);
            }
            self.last = by;
        }
    }

    /// Whether another rank delivered, or this one since it was last forgotten.
    fn delivers_beside(&self, by: Deliverer) -> bool {
        let mut deliverers = self.other.into_iter().chain([self.last]);
        deliverers.any(|(rank, life)| rank != by.0 || life == by.1)
    }
}

#[cfg(test)]
mod tests;
