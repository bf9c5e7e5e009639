//! What is known of the health of one rank.

use super::failure::OUT_POINTS;
use super::pod::PodId;
use super::spell::{CLOCK_STEP_MS, Cause, Spell};
use super::{Attempt, Failure, Standing};

/// Failures further apart are no row: the rank was hardly used in between, and restarts take less.
const ROW_MS: u64 = 60_000;
/// Failed scrapes in a row that put a rank out: one may be a slow page, two a busy second.
const OUT_SCRAPES: u8 = 3;

/// One rank's health, in at most 64 bytes: its last time out, the failures since the last answer, the last answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RankHealth {
    pub(crate) spell: Spell,
    /// When the last failure of the row came.
    failed_ms: u64,
    /// When the last first byte came.
    answered_ms: u64,
    /// When the latest request that was answered had been picked.
    answered_pick_ms: u64,
    /// Makes the jitter of this rank.
    pub(crate) seed: u32,
    pub(crate) pod: PodId,
    /// Points of the failures in the row that are no server errors.
    points: u8,
    has_connect: bool,
    failed_scrapes: u8,
    /// Server errors in the row.
    errors: u16,
    /// Whether its metrics page can be read at all, as far as is known.
    is_scraped: bool,
    pub(crate) is_seated: bool,
    /// Whether the pool has it now.
    pub(crate) is_listed: bool,
    /// Whether it is never a destination.
    pub(crate) only_prefills: bool,
}

/// What the failure of a request comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, or a row that is too short.
    #[default]
    None,
    /// A row of so many server errors: it puts the rank out if they are not the requests'.
    Suspect { errors: u16, is_in: bool },
    /// The rank is out.
    Out,
}

/// What a good answer comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Whether the other workers need to hear of it.
    pub(crate) is_news: bool,
    /// Server errors in the row that it ended.
    pub(crate) errors: u16,
}

impl RankHealth {
    /// A rank that has just taken its seat.
    pub(crate) fn seated(seed: u32, pod: PodId) -> Self {
        Self {
            seed,
            pod,
            is_seated: true,
            is_listed: true,
            ..Self::default()
        }
    }

    pub(crate) fn standing(&self, now_ms: u64) -> Standing {
        self.spell.standing(now_ms)
    }

    /// Whether scrapes of this rank can count.
    pub(crate) fn is_scraped(&self) -> bool {
        self.is_scraped
    }

    /// Whether the last scrape of a rank whose page was read before has failed.
    pub(crate) fn is_unscraped(&self) -> bool {
        self.is_scraped && self.failed_scrapes > 0
    }

    /// A request failed.
    pub(crate) fn failed(&mut self, failure: Failure, attempt: Attempt, now_ms: u64) -> Step {
        self.settle(now_ms);
        let standing = self.standing(now_ms);
        let is_known = self.spell.is_known_to(attempt) || standing == Standing::Out;
        if is_known || self.is_disproved(failure, attempt.ended_ms) {
            return Step::None;
        }
        self.add(failure, attempt.ended_ms);
        let is_in = standing == Standing::In;
        let is_error = failure == Failure::ServerError;
        if self.points >= OUT_POINTS || !(is_in || is_error) {
            self.go_out_for(failure, attempt.ended_ms);
            return Step::Out;
        }
        let weight = u16::from(self.points).saturating_add(self.error_points());
        if is_in && weight < u16::from(OUT_POINTS) {
            return Step::None;
        }
        let errors = weight.checked_div(u16::from(Failure::ServerError.points()));
        let errors = errors.unwrap_or(0);
        Step::Suspect { errors, is_in }
    }

    /// Whether it has a row of server errors that would put it out if it were alone, or is out for one.
    pub(crate) fn is_failing(&self, now_ms: u64) -> bool {
        let has_row = self.error_points() >= u16::from(OUT_POINTS) && !self.is_row_old(now_ms);
        let is_out = self.spell.cause == Cause::Own(Failure::ServerError)
            && self.standing(now_ms) != Standing::In;
        has_row || is_out
    }

    /// Whether it has answered since `since_ms`.
    pub(crate) fn has_answered_since(&self, since_ms: u64) -> bool {
        self.answered_ms > since_ms
    }

    /// A first byte came.
    pub(crate) fn answered(&mut self, attempt: Attempt, now_ms: u64) -> Proof {
        self.settle(now_ms);
        self.answered_ms = self.answered_ms.max(attempt.ended_ms);
        self.answered_pick_ms = self.answered_pick_ms.max(attempt.picked_ms);
        let has_row = self.points > 0 || self.errors > 0;
        let ends_row = has_row && self.is_row_disproved();
        let errors = if ends_row { self.errors } else { 0 };
        if ends_row {
            self.end_row();
        }
        let ends_scrapes = self.end_scrapes_by_answer();
        let steps_in = self.spell.answered(attempt, now_ms);
        let is_news = ends_row || ends_scrapes || steps_in;
        Proof { is_news, errors }
    }

    /// A scrape failed; true when that would put the rank out.
    ///
    /// A half-open rank whose requests failed too is put out again, so no request needs to probe it. One that is out for
    /// scrapes alone is left to a request: perhaps only its page was closed.
    pub(crate) fn scrape_failed(&mut self, now_ms: u64) -> bool {
        self.settle(now_ms);
        if !self.is_scraped {
            return false;
        }
        self.failed_scrapes = self.failed_scrapes.saturating_add(1);
        let goes_out = match self.standing(now_ms) {
            Standing::In | Standing::Ramping { .. } => true,
            Standing::Probe { .. } => self.spell.cause != Cause::Own(Failure::Scrape),
            Standing::Out => false,
        };
        goes_out && self.failed_scrapes >= OUT_SCRAPES
    }

    /// Its metrics page was read; true when that is news.
    pub(crate) fn scrape_answered(&mut self, now_ms: u64) -> bool {
        self.settle(now_ms);
        let was_down = self.failed_scrapes >= OUT_SCRAPES;
        let is_news = !self.is_scraped || self.failed_scrapes > 0;
        self.is_scraped = true;
        self.failed_scrapes = 0;
        let is_only_guess = matches!(self.spell.cause, Cause::Own(Failure::Scrape) | Cause::Pod);
        if (was_down || is_only_guess) && self.spell.is_waiting(now_ms) {
            self.spell.open(now_ms);
            return true;
        }
        is_news
    }

    /// Takes what another worker knows of the rank's last time out; true when it knew more.
    pub(crate) fn join(&mut self, spell: Spell, now_ms: u64) -> bool {
        self.settle(now_ms);
        let is_greater = self.is_seated && self.spell.join(spell, now_ms);
        if is_greater {
            self.end_row();
        }
        is_greater
    }

    /// Puts the rank out for its scrapes. What it was out for before, if it has not answered since, stays the reason.
    pub(crate) fn go_out_for_scrapes(&mut self, now_ms: u64) {
        let cause = match self.standing(now_ms) {
            Standing::Probe { .. } => self.spell.cause,
            _ => Cause::Own(Failure::Scrape),
        };
        self.go_out(cause, now_ms);
    }

    /// Its pod has died: it goes out with it unless it is out.
    pub(crate) fn follow_pod(&mut self, at_ms: u64, now_ms: u64) {
        self.settle(now_ms);
        if self.is_seated && self.standing(now_ms) != Standing::Out {
            self.go_out(Cause::Pod, at_ms);
        }
    }

    /// Puts the rank out for its row, the last failure of which was this.
    pub(crate) fn go_out_for(&mut self, failure: Failure, at_ms: u64) {
        let counted = if self.has_connect {
            Failure::Connect
        } else {
            failure
        };
        self.go_out(Cause::Own(counted), at_ms);
    }

    /// Its errors are the requests': if they put it out, it is in. Else such requests would take the places of those that
    /// could show it.
    pub(crate) fn pardon(&mut self, at_ms: u64) {
        if self.spell.cause == Cause::Own(Failure::ServerError) {
            self.spell.end(at_ms);
            self.end_row();
        }
    }

    /// Puts the rank out; what led there is used up.
    pub(crate) fn go_out(&mut self, cause: Cause, at_ms: u64) {
        self.spell.go_out(cause, at_ms, self.seed);
        self.end_row();
    }

    fn add(&mut self, failure: Failure, at_ms: u64) {
        match failure {
            Failure::ServerError => self.errors = self.errors.saturating_add(1),
            _ => self.points = self.points.saturating_add(failure.points()),
        }
        self.has_connect |= failure == Failure::Connect;
        self.failed_ms = self.failed_ms.max(at_ms);
    }

    /// Forgets the failures since the last answer.
    pub(crate) fn end_row(&mut self) {
        self.points = 0;
        self.errors = 0;
        self.has_connect = false;
    }

    /// Whether there are server errors in the row.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    fn error_points(&self) -> u16 {
        self.errors
            .saturating_mul(u16::from(Failure::ServerError.points()))
    }

    fn is_row_old(&self, now_ms: u64) -> bool {
        let latest_ms = now_ms.saturating_add(CLOCK_STEP_MS);
        self.failed_ms > latest_ms || now_ms.saturating_sub(self.failed_ms) >= ROW_MS
    }

    /// A failure that is heard of after an answer that came later says nothing any more.
    fn is_disproved(&self, failure: Failure, failed_ms: u64) -> bool {
        match failure {
            Failure::Connect => self.answered_pick_ms > failed_ms,
            _ => self.answered_ms > failed_ms,
        }
    }

    fn is_row_disproved(&self) -> bool {
        let failure = if self.has_connect {
            Failure::Connect
        } else {
            Failure::Reset
        };
        self.is_disproved(failure, self.failed_ms)
    }

    /// A rank that answers requests is alive; if its page was unreadable meanwhile, the page is closed, not the rank.
    fn end_scrapes_by_answer(&mut self) -> bool {
        let is_news = self.is_scraped && self.failed_scrapes > 0;
        self.is_scraped &= self.failed_scrapes < OUT_SCRAPES;
        self.failed_scrapes = 0;
        is_news
    }

    /// Ends what time or the clock has made meaningless; before every change.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        self.spell.settle(now_ms);
        let latest_ms = now_ms.saturating_add(CLOCK_STEP_MS);
        if self.is_row_old(now_ms) {
            self.end_row();
            self.failed_ms = 0;
        }
        if self.answered_ms > latest_ms {
            self.answered_ms = 0;
        }
        if self.answered_pick_ms > latest_ms {
            self.answered_pick_ms = 0;
        }
    }
}
