//! Which questions the ranks of a pool are found by, when each is asked, and what is to be said when answers fail to come.
//!
//! Envoy's admin endpoint takes expressions of a certain size, so many patterns are several questions; what all of them
//! found together are the ranks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::{DumpError, EndpointDump, EndpointTable, FoundEndpoint, Glob, Reach, hash_bytes};

/// How often each question is asked: ranks appear and vanish within two of these.
const INTERVAL_MS: u64 = 1000;
/// How many questions a second there are at most: each costs Envoy's main thread a look at all of its clusters, some
/// milliseconds where it has 12,000 endpoints. More questions are asked less often.
const QUESTIONS_A_SECOND: u64 = 16;
/// How many questions may wait for their answer at once.
const MOST_WAITING: usize = 16;
/// How long an answer may take. The longest that is read, 12,000 endpoints, took more than two seconds in an Envoy without
/// a processor of its own.
pub const DISCOVERY_TIMEOUT_MS: u64 = 5000;
/// A question without an answer for so long has lost it, and is asked again.
const LOST_AFTER_MS: u64 = 2 * DISCOVERY_TIMEOUT_MS;
/// How long something has to go wrong before it is worth a line in the log.
const PATIENCE_MS: u64 = 10_000;
/// What Envoy says to an expression that is too large for it.
const BAD_REQUEST: u16 = 400;

/// A question that was asked; of earlier questions than those of now nothing is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionId {
    round: u32,
    place: usize,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// None came in time, or the connection broke.
    None,
    /// One came with another status than 200.
    Status(u16),
    /// It is no list of endpoints, or too long.
    Unreadable(DumpError),
}

/// What an answer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Nothing.
    Same,
    /// What was found.
    News,
    /// Nothing, and it should not have been so.
    Failed,
}

/// What an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A question has had no answer that could be read for ten seconds, last because of this.
    NoAnswers(NoAnswer),
    /// For ten seconds no cluster of Envoy had a name that one of the patterns matches.
    NoCluster,
}

#[derive(Debug)]
struct Question {
    path: String,
    asked_ms: Option<u64>,
    is_waiting: bool,
    failing_since_ms: Option<u64>,
    last_failure: NoAnswer,
    answer_hash: u64,
    found: Option<EndpointDump>,
}

/// The search for the ranks of one pool.
#[derive(Debug)]
pub struct Discovery {
    clusters: Vec<Glob>,
    reach: Reach,
    round: u32,
    questions: Vec<Question>,
    unmatched_since_ms: Option<u64>,
    told: Option<Trouble>,
}

impl Discovery {
    /// Looks for the endpoints of these clusters.
    #[must_use]
    pub fn new(clusters: &[Glob]) -> Self {
        let mut discovery = Self {
            clusters: clusters.to_vec(),
            reach: Reach::Wide,
            round: 0,
            questions: Vec::new(),
            unmatched_since_ms: None,
            told: None,
        };
        discovery.begin();
        discovery
    }

    /// Looks for those of others from now on, from the beginning.
    pub fn look_for(&mut self, clusters: &[Glob]) {
        self.clusters = clusters.to_vec();
        self.begin();
    }

    fn begin(&mut self) {
        let tables = [EndpointTable::Dynamic, EndpointTable::Static].into_iter();
        let paths = tables.flat_map(|table| table.paths(&self.clusters, self.reach));
        self.questions = paths.map(Question::new).collect();
        self.round = self.round.wrapping_add(1);
        (self.unmatched_since_ms, self.told) = (None, None);
    }

    /// The questions to be asked now, with their paths. A clock that was set back asks early.
    #[must_use]
    pub fn due(&self, now_ms: u64) -> Vec<(QuestionId, String)> {
        let interval_ms = self.interval_ms();
        let is_waiting = |question: &&Question| question.is_waiting(now_ms);
        let waiting = self.questions.iter().filter(is_waiting).count();
        let is_due = |question: &Question| {
            let is_early = |asked_ms: u64| now_ms.abs_diff(asked_ms) < interval_ms;
            !question.is_waiting(now_ms) && !question.asked_ms.is_some_and(is_early)
        };
        let due = (0..).zip(&self.questions).filter(|(_, one)| is_due(one));
        let due = due.take(MOST_WAITING.saturating_sub(waiting));
        due.map(|(place, question)| {
            let id = QuestionId {
                round: self.round,
                place,
            };
            (id, question.path.clone())
        })
        .collect()
    }

    fn interval_ms(&self) -> u64 {
        let questions = u64::try_from(self.questions.len()).unwrap_or(u64::MAX);
        let spread_ms = questions.saturating_mul(INTERVAL_MS) / QUESTIONS_A_SECOND;
        spread_ms.max(INTERVAL_MS)
    }

    /// A question was asked.
    pub fn asked(&mut self, id: QuestionId, now_ms: u64) {
        if let Some(question) = self.question(id) {
            question.asked_ms = Some(now_ms);
            question.is_waiting = true;
        }
    }

    /// An answer is here: its body, or why there is none. Cost: a pass over the body, at most 4 MiB, and a second one over
    /// the endpoints of the pool; where the body is that of the last time, its hash alone.
    pub fn answered(
        &mut self,
        id: QuestionId,
        answer: Result<&[u8], NoAnswer>,
        now_ms: u64,
    ) -> Answered {
        let is_too_wide = answer == Err(NoAnswer::Status(BAD_REQUEST)) && self.reach == Reach::Wide;
        let clusters = std::mem::take(&mut self.clusters);
        let question = self.question(id);
        let is_known = question.is_some();
        let outcome = question.map(|question| question.take(answer, &clusters, now_ms));
        self.clusters = clusters;
        if is_too_wide && is_known {
            self.reach = Reach::Narrow;
            self.begin();
            return Answered::Same;
        }
        self.note_matches(now_ms);
        outcome.unwrap_or(Answered::Same)
    }

    fn question(&mut self, id: QuestionId) -> Option<&mut Question> {
        let is_current = id.round == self.round;
        self.questions.get_mut(id.place).filter(|_| is_current)
    }

    fn note_matches(&mut self, now_ms: u64) {
        let is_unmatched = self
            .dumps()
            .is_some_and(|mut dumps| dumps.all(|dump| dump.clusters == 0));
        self.unmatched_since_ms = match is_unmatched {
            true => self.unmatched_since_ms.or(Some(now_ms)),
            false => None,
        };
    }

    /// All answers, once each question had one.
    fn dumps(&self) -> Option<impl Iterator<Item = &EndpointDump>> {
        let is_whole = self.questions.iter().all(|one| one.found.is_some());
        let dumps = self.questions.iter().filter_map(|one| one.found.as_ref());
        is_whole.then_some(dumps)
    }

    /// The endpoints that were found, once each question had an answer.
    #[must_use]
    pub fn found(&self) -> Option<Vec<FoundEndpoint>> {
        let dumps = self.dumps()?;
        Some(
            dumps
                .flat_map(|dump| dump.endpoints.iter().cloned())
                .collect(),
        )
    }

    /// How many addresses were found, those too that a dump left out; where several left some out, at most.
    #[must_use]
    pub fn addresses(&self) -> usize {
        let Some(dumps) = self.dumps() else { return 0 };
        let mut left_out = 0usize;
        let mut addresses = BTreeSet::<SocketAddr>::new();
        for dump in dumps {
            left_out = left_out.saturating_add(dump.too_many);
            addresses.extend(dump.endpoints.iter().map(|found| found.address));
        }
        addresses.len().saturating_add(left_out)
    }

    /// What is to be told now; each trouble once until it is over.
    pub fn news_of_trouble(&mut self, now_ms: u64) -> Option<Trouble> {
        let now = self.trouble(now_ms);
        let is_news = match (now, self.told) {
            (Some(Trouble::NoAnswers(_)), Some(Trouble::NoAnswers(_))) => false,
            (now, told) => now != told,
        };
        self.told = now;
        now.filter(|_| is_news)
    }

    fn trouble(&self, now_ms: u64) -> Option<Trouble> {
        let is_long = |since_ms: u64| now_ms.abs_diff(since_ms) >= PATIENCE_MS;
        let failing = self
            .questions
            .iter()
            .find(|question| question.failing_since_ms.is_some_and(is_long));
        match failing {
            Some(question) => Some(Trouble::NoAnswers(question.last_failure)),
            None => self
                .unmatched_since_ms
                .is_some_and(is_long)
                .then_some(Trouble::NoCluster),
        }
    }
}

impl Question {
    fn new(path: String) -> Self {
        Self {
            path,
            asked_ms: None,
            is_waiting: false,
            failing_since_ms: None,
            last_failure: NoAnswer::None,
            answer_hash: 0,
            found: None,
        }
    }

    fn is_waiting(&self, now_ms: u64) -> bool {
        let is_recent = |asked_ms: u64| now_ms.abs_diff(asked_ms) <= LOST_AFTER_MS;
        self.is_waiting && self.asked_ms.is_some_and(is_recent)
    }

    /// What cannot be read changes nothing.
    fn take(
        &mut self,
        answer: Result<&[u8], NoAnswer>,
        clusters: &[Glob],
        now_ms: u64,
    ) -> Answered {
        self.is_waiting = false;
        let outcome = answer.and_then(|body| self.read(body, clusters));
        match outcome {
            Ok(answered) => {
                self.failing_since_ms = None;
                answered
            }
            Err(failure) => {
                self.last_failure = failure;
                self.failing_since_ms = self.failing_since_ms.or(Some(now_ms));
                Answered::Failed
            }
        }
    }

    fn read(&mut self, body: &[u8], clusters: &[Glob]) -> Result<Answered, NoAnswer> {
        let answer_hash = hash_bytes(body);
        if self.found.is_some() && self.answer_hash == answer_hash {
            return Ok(Answered::Same);
        }
        let dump = EndpointDump::parse(body, clusters).map_err(NoAnswer::Unreadable)?;
        self.answer_hash = answer_hash;
        // Envoy names clusters in another order each time.
        if self.found.as_ref() == Some(&dump) {
            return Ok(Answered::Same);
        }
        self.found = Some(dump);
        Ok(Answered::News)
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no answer within {DISCOVERY_TIMEOUT_MS} ms"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
