//! What is watched of one pool: Envoy's endpoints that make its ranks, and their metrics pages.

use std::net::SocketAddr;

use hashbrown::HashMap;
use routing::{
    Answered, Config, DISCOVERY_TIMEOUT_MS, Discovery, DumpError, MAX_DUMP_BYTES, Membership,
    MetricsPage, NoAnswer, QuestionId, ReportTable, SCRAPE_TIMEOUT_MS, Scrapes, Trouble,
    hash_bytes,
};

use crate::host::{self, Asked};
use crate::shared::Shared;

/// The longest metrics page that is read. vLLM's has 60 KB; what comes behind is not read.
const PAGE_BYTES: usize = 1024 * 1024;
/// Bytes taken into the VM at once.
const SLICE_BYTES: usize = 64 * 1024;

const METRICS_PATH: &str = "/metrics";

/// What a call was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Endpoints(QuestionId),
    Metrics(SocketAddr),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) pool: u64,
    pub(super) purpose: Purpose,
    pub(super) asked_ms: u64,
}

/// What is watched of one pool.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) config: Config,
    discovery: Discovery,
    /// Ranks beyond those that a pool may have.
    over_limit: usize,
    failed_questions: u32,
    membership: Membership,
    /// Whether that was found, by whichever VM; until then it is the static list.
    is_found: bool,
    scrapes: Scrapes,
    pub(super) reports: ReportTable,
    pub(super) is_news: bool,
    pub(super) posted_ms: u64,
}

impl Watched {
    /// Goes on from what another VM has put up.
    pub(super) fn new(config: Config, key: u64, shared: &Shared, now_ms: u64) -> Self {
        let ranks = shared.posting(&ranks_key(key));
        let membership = ranks.and_then(|bytes| Membership::decode(&bytes).ok());
        let is_found = membership.is_some() && config.is_discovered();
        let reports = shared.posting(&reports_key(key));
        let reports = reports.and_then(|bytes| ReportTable::decode(&bytes).ok());
        let mut watched = Self {
            config: config.clone(),
            discovery: Discovery::new(config.clusters()),
            over_limit: 0,
            failed_questions: 0,
            membership: membership.unwrap_or_default(),
            is_found,
            scrapes: Scrapes::default(),
            reports: reports.unwrap_or_default(),
            is_news: false,
            posted_ms: 0,
        };
        watched.reconfigure(config, now_ms);
        watched
    }

    pub(super) fn reconfigure(&mut self, config: Config, now_ms: u64) {
        self.is_found &= config.is_discovered();
        if !self.is_found {
            self.membership = Membership::from_static(config.ranks());
        }
        self.config = config;
        // The names and roles may be others now.
        self.discovery.look_for(self.config.clusters());
        self.follow(now_ms);
    }

    fn follow(&mut self, now_ms: u64) {
        let addresses = self
            .membership
            .members()
            .iter()
            .map(|member| member.address);
        let interval_ms = self.config.scrape_interval_ms();
        self.scrapes.follow(addresses, interval_ms, now_ms);
        let scrapes = &self.scrapes;
        self.reports.retain(|rank| scrapes.has(rank));
    }

    /// Whether Envoy has no such cluster; `None` where there was nothing to ask.
    pub(super) fn ask_for_endpoints(
        &mut self,
        pool: u64,
        calls: &mut HashMap<u32, Call>,
        now_ms: u64,
    ) -> Option<bool> {
        if !self.config.is_discovered() {
            return None;
        }
        let mut is_missing = None;
        for (question, path) in self.discovery.due(now_ms) {
            self.discovery.asked(question, now_ms);
            let cluster = self.config.admin_cluster();
            let asked = host::get(cluster, &path, None, DISCOVERY_TIMEOUT_MS);
            is_missing = Some(asked == Asked::NoCluster);
            match asked {
                Asked::Waiting(token) => {
                    let call = Call {
                        pool,
                        purpose: Purpose::Endpoints(question),
                        asked_ms: now_ms,
                    };
                    calls.insert(token, call);
                }
                Asked::NoCluster => break,
                Asked::Unreachable => {
                    let _ = self.note_answer(question, Err(NoAnswer::None), now_ms);
                }
            }
        }
        is_missing
    }

    /// Whether Envoy has no such cluster; `None` where there was nothing to ask.
    pub(super) fn ask_for_reports(
        &mut self,
        pool: u64,
        calls: &mut HashMap<u32, Call>,
        now_ms: u64,
    ) -> Option<bool> {
        let mut is_missing = None;
        for address in self.scrapes.start(self.config.scrape_interval_ms(), now_ms) {
            let name = address.to_string();
            let cluster = self.config.scrape_cluster();
            let asked = host::get(cluster, METRICS_PATH, Some(&name), SCRAPE_TIMEOUT_MS);
            if let Asked::Waiting(token) = asked {
                let call = Call {
                    pool,
                    purpose: Purpose::Metrics(address),
                    asked_ms: now_ms,
                };
                calls.insert(token, call);
            } else {
                self.scrapes.end(hash_bytes(name.as_bytes()));
            }
            is_missing = Some(asked == Asked::NoCluster);
        }
        is_missing
    }

    /// Takes the answer to a question for endpoints.
    pub(super) fn take_endpoints(
        &mut self,
        question: QuestionId,
        status: Option<u16>,
        body_bytes: usize,
        now_ms: u64,
    ) -> Answered {
        let answer = match status {
            None => Err(NoAnswer::None),
            // Not taken into the VM.
            Some(200) if body_bytes > MAX_DUMP_BYTES => {
                Err(NoAnswer::Unreadable(DumpError::TooLong {
                    bytes: body_bytes,
                }))
            }
            Some(200) => Ok(host::call_body(0, body_bytes)),
            Some(status) => Err(NoAnswer::Status(status)),
        };
        self.note_answer(question, answer.as_deref().map_err(|none| *none), now_ms)
    }

    fn note_answer(
        &mut self,
        question: QuestionId,
        answer: Result<&[u8], NoAnswer>,
        now_ms: u64,
    ) -> Answered {
        let answered = self.discovery.answered(question, answer, now_ms);
        if answered == Answered::Failed {
            self.failed_questions = self.failed_questions.saturating_add(1);
        }
        answered
    }

    /// How many questions for endpoints had no answer that can be read, since the last time.
    pub(super) fn take_failed_questions(&mut self) -> u32 {
        std::mem::take(&mut self.failed_questions)
    }

    /// Puts the ranks up, once all questions were answered, if they changed.
    pub(super) fn settle(&mut self, shared: &mut Shared, pool: u64, now_ms: u64) {
        let Some(found) = self.discovery.found() else {
            return;
        };
        let membership = Membership::from_found(&found, self.config.roles());
        if membership.members().is_empty() {
            // Envoy then has nothing to send to either: what was known before can only be better.
            return;
        }
        self.note_limit(membership.members().len());
        if membership != self.membership {
            log::info!(
                "rank-router: pool {} has {} ranks",
                self.config.pool(),
                membership.members().len()
            );
            self.membership = membership;
            self.follow(now_ms);
        }
        self.is_found = true;
        self.keep_posted(shared, pool);
    }

    /// Says once when there are more ranks than are used.
    fn note_limit(&mut self, used: usize) {
        let all = self.discovery.addresses();
        let before = std::mem::replace(&mut self.over_limit, all.saturating_sub(used));
        if before == 0 && self.over_limit > 0 {
            log::warn!(
                "rank-router: pool {} has {all} ranks, of which {used} are used, those of the lowest addresses: split it \
                 into pools with clusters of their own",
                self.config.pool()
            );
        }
    }

    /// Ranks that are not used because there are too many.
    pub(super) fn over_limit(&self) -> usize {
        self.over_limit
    }

    /// Says what keeps ranks from being found: each trouble once.
    pub(super) fn warn_of_trouble(&mut self, now_ms: u64) {
        let (pool, admin) = (self.config.pool(), self.config.admin_cluster());
        match self.discovery.news_of_trouble(now_ms) {
            Some(Trouble::NoAnswers(reason)) => log::warn!(
                "rank-router: pool {pool} cannot read Envoy's endpoints through cluster {admin:?} ({reason}), so its ranks \
                 stay those that are known: narrow clusters, if that is too long, or see whether Envoy's admin port answers"
            ),
            Some(Trouble::NoCluster) => log::warn!(
                "rank-router: pool {pool} has no ranks from Envoy, because no cluster of Envoy matches {:?}",
                self.config
                    .clusters()
                    .iter()
                    .map(routing::Glob::as_str)
                    .collect::<Vec<_>>()
            ),
            None => {}
        }
    }

    /// Puts the ranks up where something else stands.
    pub(super) fn keep_posted(&self, shared: &mut Shared, pool: u64) {
        let (key, bytes) = (ranks_key(pool), self.membership.encode());
        if self.is_found && shared.posting(&key).as_ref() != Some(&bytes) {
            shared.post(&key, &bytes);
        }
    }

    /// Takes a page, or that there is none; false when that is a failure of one of the pool's ranks.
    pub(super) fn take_page(
        &mut self,
        address: SocketAddr,
        body_bytes: Option<usize>,
        now_ms: u64,
    ) -> bool {
        let rank = hash_bytes(address.to_string().as_bytes());
        self.scrapes.end(rank);
        if !self.scrapes.has(rank) {
            return true;
        }
        match body_bytes {
            Some(body_bytes) => self.reports.answered(rank, read_page(body_bytes), now_ms),
            None => self.reports.failed(rank, now_ms),
        }
        self.is_news = true;
        body_bytes.is_some()
    }
}

fn read_page(body_bytes: usize) -> routing::Report {
    let mut page = MetricsPage::default();
    let body_bytes = body_bytes.min(PAGE_BYTES);
    for start in (0..body_bytes).step_by(SLICE_BYTES) {
        let bytes = SLICE_BYTES.min(body_bytes.saturating_sub(start));
        page.feed(&host::call_body(start, bytes));
    }
    page.finish()
}

pub(super) fn ranks_key(pool: u64) -> String {
    format!("rank_router.1.pool.{pool:016x}.ranks")
}

pub(super) fn reports_key(pool: u64) -> String {
    format!("rank_router.1.pool.{pool:016x}.reports")
}
