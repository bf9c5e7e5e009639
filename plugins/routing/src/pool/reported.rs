//! What the ranks of a pool say of themselves, as far as a pick uses it.

use super::Pool;
use crate::reports::Process;
use crate::{RankId, RankLoad, RankReport, ReportTable};

/// Reports older than this many intervals say nothing.
const FRESH_INTERVALS: u64 = 3;

/// The last report of a rank.
#[derive(Clone, Copy, Debug, Default)]
struct LastReport {
    taken_ms: Option<u64>,
    tried_ms: u64,
    failures: u32,
    life: Option<u32>,
    /// The table of reports forgets a rank that leaves, its seat does not.
    process: Process,
    capacity_tokens: Option<u64>,
    /// Requests on the rank that none of this gateway's workers sent, and until when that counts.
    foreign: Option<(u32, u64)>,
    /// The most requests that this gateway had on the rank since the report before.
    peak: u32,
    /// When the rank was last known to hold nothing.
    cold_ms: u64,
}

/// The last reports of all ranks. Constant memory a rank.
#[derive(Debug, Default)]
pub(super) struct Reported {
    ranks: Vec<LastReport>,
}

impl Reported {
    /// A rank takes its seat: nothing is known of it.
    pub(super) fn seat(&mut self, rank: RankId) {
        let needed = rank.index().saturating_add(1).max(self.ranks.len());
        self.ranks.resize(needed, LastReport::default());
        if let Some(last) = self.ranks.get_mut(rank.index()) {
            *last = LastReport::default();
        }
    }

    /// Notes how much this gateway has on a rank.
    pub(super) fn note_load(&mut self, rank: RankId, load: RankLoad) {
        if let Some(last) = self.ranks.get_mut(rank.index()) {
            last.peak = last.peak.max(load.complete());
        }
    }

    /// From what was sent to a rank before `at_ms` nothing is left.
    pub(super) fn note_cold(&mut self, rank: RankId, at_ms: u64) {
        if let Some(last) = self.ranks.get_mut(rank.index()) {
            last.cold_ms = last.cold_ms.max(at_ms);
        }
    }

    /// Whether a rank has lost what it was sent at `at_ms`. A time that is still to come was measured before the clock was
    /// set back, and says nothing.
    pub(super) fn was_lost(&self, rank: RankId, at_ms: u64, now_ms: u64) -> bool {
        let cold_ms = self.ranks.get(rank.index()).map_or(0, |last| last.cold_ms);
        at_ms <= cold_ms && cold_ms <= now_ms
    }

    /// Whether the last time that a rank was asked for its metrics page it showed none.
    pub(super) fn is_failing(&self, rank: RankId) -> bool {
        self.ranks
            .get(rank.index())
            .is_some_and(|last| last.failures > 0)
    }

    /// Requests on a rank that this gateway did not send, as far as that is known now.
    pub(super) fn foreign(&self, rank: RankId, now_ms: u64) -> Option<u32> {
        let (requests, until_ms) = self.ranks.get(rank.index())?.foreign?;
        (now_ms < until_ms).then_some(requests)
    }

    /// Tokens that a rank's cache holds, as it said last.
    pub(super) fn capacity_tokens(&self, rank: RankId) -> Option<u64> {
        self.ranks.get(rank.index())?.capacity_tokens
    }
}

impl LastReport {
    /// Takes a new page in; `load` is what this gateway has on the rank.
    ///
    /// What a rank reports beyond the most that this gateway had on it since the page before is others' work. That may
    /// be too little, and is never a request of our own that ended in between.
    fn take(&mut self, rank: &RankReport, load: RankLoad, max_age_ms: u64) {
        let report = &rank.report;
        let requests = report.running.zip(report.waiting);
        let until_ms = rank
            .taken_ms
            .map(|taken_ms| taken_ms.saturating_add(max_age_ms));
        self.foreign = requests
            .zip(until_ms)
            .map(|((running, waiting), until_ms)| {
                let reported = running.saturating_add(waiting);
                (reported.saturating_sub(self.peak), until_ms)
            });
        // The rank knows nothing yet of requests whose body has not ended.
        self.peak = load.complete();
        self.capacity_tokens = report.capacity_tokens.or(self.capacity_tokens);
    }

    /// Whether the rank is another process than it was, and so cold; then it is not said again.
    fn has_restarted(&mut self, rank: &RankReport) -> bool {
        let is_known = self.process.is_known_to(&rank.report);
        let life_before = self.life.replace(rank.life);
        let has_new_life = life_before.is_some_and(|life| life != rank.life);
        self.process.see(&rank.report) || (has_new_life && !is_known)
    }
}

impl Pool {
    /// Takes in what the elected worker learnt from the ranks. A rank that has restarted is cold at once. Cost: one pass
    /// over the ranks.
    pub fn reported(&mut self, reports: &ReportTable, now_ms: u64) {
        let max_age_ms = self
            .config
            .scrape_interval_ms()
            .saturating_mul(FRESH_INTERVALS);
        for (hash, report) in reports.iter() {
            if let Some(rank) = self.seats.rank_of(hash) {
                self.rank_reported(rank, report, max_age_ms, now_ms);
            }
        }
        self.note_others(now_ms);
        self.set_capacities();
    }

    fn rank_reported(&mut self, rank: RankId, report: &RankReport, max_age_ms: u64, now_ms: u64) {
        let load = self.loads.total(rank);
        let Some(last) = self.reported.ranks.get_mut(rank.index()) else {
            return;
        };
        let has_restarted = last.has_restarted(report);
        let has_page = last.taken_ms != report.taken_ms && report.taken_ms.is_some();
        let has_failed = last.tried_ms != report.tried_ms && report.failures > last.failures;
        (last.taken_ms, last.tried_ms) = (report.taken_ms, report.tried_ms);
        last.failures = report.failures;
        if has_page {
            last.take(report, load, max_age_ms);
            self.health.scrape_answered(rank, now_ms);
        }
        // A new worker was not there when it restarted.
        let mut cold_ms = report.born_ms;
        if has_restarted {
            self.index.forget(rank);
            cold_ms = cold_ms.max(report.taken_ms.unwrap_or(0));
        }
        self.reported.note_cold(rank, cold_ms);
        if has_failed {
            let attempt = crate::Attempt {
                picked_ms: report.tried_ms,
                ended_ms: now_ms,
            };
            self.note_failure(rank, crate::Failure::Scrape, attempt, now_ms);
        }
    }

    /// How many listed ranks have a report that counts.
    #[must_use]
    pub fn fresh_reports(&self, now_ms: u64) -> usize {
        let listed = self.seats.all().filter(|(_, seat)| seat.is_listed);
        listed
            .filter(|(rank, _)| self.reported.foreign(*rank, now_ms).is_some())
            .count()
    }
}
