//! Whether server errors speak against a rank or against the requests that got them.
//!
//! A client that sends what makes every server fail must not put ranks out. Its errors come to ranks that answer others
//! meanwhile, and that is what tells them from those of a broken rank: a row of errors that an answer ends was the requests'.
//! So it is remembered how long such rows get, how many errors they held, and how often each rank answers beside the others.
//! Everything is counted and not timed, so that it depends neither on how fast requests come nor on the clock. Ranks are
//! compared with ranks of their own kind: those that only prefill get other requests than the rest.

use super::spell::CLOCK_STEP_MS;
use crate::RankId;

/// A row counts when it is this many times as long as rows that were the requests' of late: chance makes one of some
/// hundred rows twice as long as the rest.
const FACTOR: u32 = 2;
/// A remembered row counts half after this: what clients send changes within minutes.
const HALF_LIFE_MS: u64 = 60_000;
/// Rows longer than this are remembered as this.
const LONGEST_ROW: u16 = 10_000;
/// A rank that misses so many of the answers it usually gives has stopped answering: by chance that happens to one row of
/// e^7, about a thousand.
const MISSED_ANSWERS: u32 = 7;
/// While errors of other ranks were the requests', so many times as many on one rank can be, too.
const EXPLAINED: u32 = 4;
/// The answers of others between two of a rank that has given none.
const NEVER: u32 = u32::MAX;
/// The usual gap moves towards the last one by an eighth.
const EIGHTHS: u32 = 8;

/// What ranks of one kind have given, over all.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    /// Good answers. Like all counts here it wraps; only differences matter.
    answers: u32,
    /// Errors in rows that an answer of the same rank ended.
    excused: u32,
    /// The longest such row of late, and when it ended.
    longest: u16,
    ended_ms: u64,
}

/// What one rank has given beside the others of its kind. 20 bytes.
#[derive(Clone, Copy, Debug)]
struct Record {
    answers: u32,
    /// How many answers the others usually give between two of this rank, in eighths.
    gap_eighths: u32,
    /// What the others had given when this rank gave its last answer, and when its row of errors began.
    others_at_answer: u32,
    others_at_row: u32,
    /// What had been excused when its row began.
    excused_at_row: u32,
}

/// What is known of the ranks' answers and server errors. Constant cost for each call.
#[derive(Debug, Default)]
pub(crate) struct ServerErrors {
    serving: Kind,
    prefilling: Kind,
    records: Vec<Record>,
}

impl Kind {
    fn longest(&self, now_ms: u64) -> u16 {
        if self.ended_ms > now_ms.saturating_add(CLOCK_STEP_MS) {
            return 0;
        }
        let age_ms = now_ms.saturating_sub(self.ended_ms);
        let halvings = age_ms.checked_div(HALF_LIFE_MS).unwrap_or(0);
        let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
        self.longest.checked_shr(halvings).unwrap_or(0)
    }

    fn excuse(&mut self, errors: u16, now_ms: u64) {
        self.excused = self.excused.wrapping_add(u32::from(errors));
        if errors > 0 && errors >= self.longest(now_ms) {
            self.longest = errors.min(LONGEST_ROW);
            self.ended_ms = now_ms;
        }
    }
}

impl Record {
    fn new(kind: &Kind) -> Self {
        Self {
            answers: 0,
            gap_eighths: NEVER,
            others_at_answer: kind.answers,
            others_at_row: kind.answers,
            excused_at_row: kind.excused,
        }
    }

    fn others(&self, kind: &Kind) -> u32 {
        kind.answers.wrapping_sub(self.answers)
    }

    fn usual_gap(&self) -> u32 {
        match self.gap_eighths {
            NEVER => NEVER,
            usual => usual / EIGHTHS,
        }
    }

    fn answered(&mut self, others: u32) {
        let gap = others.wrapping_sub(self.others_at_answer);
        self.gap_eighths = match self.gap_eighths {
            NEVER => gap.saturating_mul(EIGHTHS),
            usual => usual.saturating_sub(usual / EIGHTHS).saturating_add(gap),
        };
        self.others_at_answer = others;
        self.answers = self.answers.wrapping_add(1);
    }
}

impl ServerErrors {
    /// A rank takes a seat, or another part: nothing is known of it.
    pub(crate) fn seat(&mut self, rank: RankId, only_prefills: bool) {
        let record = Record::new(self.kind(only_prefills));
        let needed = rank.index().saturating_add(1);
        if self.records.len() < needed {
            self.records.resize(needed, record);
        }
        if let Some(place) = self.records.get_mut(rank.index()) {
            *place = record;
        }
    }

    /// A row of errors begins.
    pub(crate) fn row_begins(&mut self, rank: RankId, only_prefills: bool) {
        let kind = *self.kind(only_prefills);
        if let Some(record) = self.records.get_mut(rank.index()) {
            record.others_at_row = record.others(&kind);
            record.excused_at_row = kind.excused;
        }
    }

    /// A rank gave a good answer, which ended a row of `errors`; 0 when there was none.
    pub(crate) fn answered(&mut self, rank: RankId, only_prefills: bool, errors: u16, now_ms: u64) {
        let Some(record) = self.records.get_mut(rank.index()) else {
            return;
        };
        let kind = match only_prefills {
            true => &mut self.prefilling,
            false => &mut self.serving,
        };
        record.answered(record.others(kind));
        kind.answers = kind.answers.wrapping_add(1);
        kind.excuse(errors, now_ms);
    }

    /// Whether a row is longer than rows of late that were the requests'.
    pub(crate) fn is_long(&self, only_prefills: bool, errors: u16, now_ms: u64) -> bool {
        let longest = u32::from(self.kind(only_prefills).longest(now_ms));
        u32::from(errors) >= longest.saturating_mul(FACTOR)
    }

    /// Whether a row may be the requests': others had a part of as many errors meanwhile that were.
    pub(crate) fn is_explained(&self, rank: RankId, only_prefills: bool, errors: u16) -> bool {
        let excused = self.records.get(rank.index()).map_or(0, |record| {
            let all = self.kind(only_prefills).excused;
            all.wrapping_sub(record.excused_at_row)
        });
        u32::from(errors) <= excused.saturating_mul(EXPLAINED)
    }

    /// Whether a rank has given no answer during its row of errors, while `others` of its kind gave so many that some were to
    /// be expected of it.
    ///
    /// As many as each of the others gave. But a rank whose row is explained may get nothing but such requests: one that is
    /// seldom used is to answer as seldom as ever, and one that never answered need not.
    pub(crate) fn is_silent(
        &self,
        rank: RankId,
        only_prefills: bool,
        others: u32,
        is_explained: bool,
    ) -> bool {
        let kind = self.kind(only_prefills);
        let Some(record) = self.records.get(rank.index()).filter(|_| others > 0) else {
            return false;
        };
        let gap = match is_explained {
            true => others.max(record.usual_gap()),
            false => others,
        };
        let given = record.others(kind).wrapping_sub(record.others_at_row);
        given >= gap.saturating_mul(MISSED_ANSWERS)
    }

    fn kind(&self, only_prefills: bool) -> &Kind {
        match only_prefills {
            true => &self.prefilling,
            false => &self.serving,
        }
    }
}
