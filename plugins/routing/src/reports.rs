//! The last report of every rank, how long ago it was, and whether the rank is still the same process.

mod codec;

use std::collections::BTreeMap;

use crate::Report;
use crate::config::MAX_RANKS;

pub use codec::ReportsError;

/// Start times of one process may differ by this much: Go's process collector adds a process' age to the boot time that
/// the kernel computes anew at each scrape, in whole seconds. No model server is up again within it.
const START_TIME_TOLERANCE_MS: u64 = 1000;

/// What is known of one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RankReport {
    /// What its last page said. A field that the last page does not hold is unknown, though an earlier page had it: the
    /// value may be another process' by now, and a reader that wants to go on with an old capacity knows that best.
    pub report: Report,
    /// When that page came, milliseconds; `None` while there was none.
    pub taken_ms: Option<u64>,
    /// When the rank was asked last, whether it answered or not, milliseconds.
    pub tried_ms: u64,
    /// Scrapes that failed since the last page.
    pub failures: u32,
    /// Counts restarts, wrapping. A reader that sees another value knows that the rank's cache is empty and its counters
    /// began anew.
    pub life: u32,
    /// When the page came that showed the last restart, milliseconds; 0 while there was none.
    pub born_ms: u64,
    process: Process,
}

/// What tells one process from the next. Kept over pages that leave it out, so that a half page while a server comes up
/// does not hide its restart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    start_time_ms: Option<u64>,
    prompt_tokens_total: Option<u64>,
}

impl RankReport {
    /// The report, if it is younger than `max_age_ms`. Clocks jump: one from the future counts as new, unless it lies
    /// further ahead than `max_age_ms`.
    #[must_use]
    pub fn fresh(&self, now_ms: u64, max_age_ms: u64) -> Option<&Report> {
        let taken_ms = self.taken_ms?;
        let is_fresh = match now_ms.checked_sub(taken_ms) {
            Some(age_ms) => age_ms < max_age_ms,
            None => taken_ms.abs_diff(now_ms) <= max_age_ms,
        };
        is_fresh.then_some(&self.report)
    }

    fn answered(&mut self, report: Report, now_ms: u64) {
        if self.process.see(&report) {
            self.life = self.life.wrapping_add(1);
            self.born_ms = now_ms;
        }
        self.report = report;
        (self.taken_ms, self.tried_ms) = (Some(now_ms), now_ms);
        self.failures = 0;
    }

    fn failed(&mut self, now_ms: u64) {
        self.tried_ms = now_ms;
        self.failures = self.failures.saturating_add(1);
    }
}

impl Process {
    /// Takes a report in; true when it is of a later process than the one before.
    pub(crate) fn see(&mut self, report: &Report) -> bool {
        let has_ended = self.has_ended(report);
        if has_ended {
            *self = Self::default();
        }
        self.note(report);
        has_ended
    }

    /// Whether both this process and a report say when they started: then lives need not be counted.
    pub(crate) fn is_known_to(&self, report: &Report) -> bool {
        self.start_time_ms.is_some() && report.start_time_ms.is_some()
    }

    /// Whether a report is of a later process: another start time, or a counter that fell.
    fn has_ended(&self, report: &Report) -> bool {
        let start_times = self.start_time_ms.zip(report.start_time_ms);
        let counts = self.prompt_tokens_total.zip(report.prompt_tokens_total);
        start_times.is_some_and(|(before, now)| before.abs_diff(now) > START_TIME_TOLERANCE_MS)
            || counts.is_some_and(|(before, now)| now < before)
    }

    fn note(&mut self, report: &Report) {
        self.start_time_ms = report.start_time_ms.or(self.start_time_ms);
        self.prompt_tokens_total = report.prompt_tokens_total.or(self.prompt_tokens_total);
    }
}

/// The reports of all ranks of a gateway, by the hash of the rank's address.
///
/// Holds at most 1,024 ranks, as a configuration does; further ones are left out. A rank that was dropped and comes back
/// starts at life 0 again, so who drops a rank forgets what it knew of it. Cost: logarithmic in the ranks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportTable {
    ranks: BTreeMap<u64, RankReport>,
}

impl ReportTable {
    /// Notes a page. The first of a rank is no restart.
    pub fn answered(&mut self, address_hash: u64, report: Report, now_ms: u64) {
        if let Some(rank) = self.entry(address_hash) {
            rank.answered(report, now_ms);
        }
    }

    /// Notes a scrape that failed: no connection, no answer in time, no status 200, a page that broke off.
    pub fn failed(&mut self, address_hash: u64, now_ms: u64) {
        if let Some(rank) = self.entry(address_hash) {
            rank.failed(now_ms);
        }
    }

    /// Drops the ranks that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        self.ranks.retain(|address_hash, _| keep(*address_hash));
    }

    /// What is known of a rank, however old.
    #[must_use]
    pub fn get(&self, address_hash: u64) -> Option<&RankReport> {
        self.ranks.get(&address_hash)
    }

    /// A rank's report, if it is [fresh](RankReport::fresh).
    #[must_use]
    pub fn fresh(&self, address_hash: u64, now_ms: u64, max_age_ms: u64) -> Option<&Report> {
        self.get(address_hash)?.fresh(now_ms, max_age_ms)
    }

    /// All ranks, by rising hash.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &RankReport)> {
        self.ranks
            .iter()
            .map(|(address_hash, rank)| (*address_hash, rank))
    }

    /// How many ranks are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Whether no rank is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    fn entry(&mut self, address_hash: u64) -> Option<&mut RankReport> {
        let has_room = self.ranks.len() < MAX_RANKS || self.ranks.contains_key(&address_hash);
        has_room.then(|| self.ranks.entry(address_hash).or_default())
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests;
