//! What is watched of one pool: Envoy's endpoints that make its ranks, and their metrics pages.

use std::net::SocketAddr;

use hashbrown::HashMap;
use routing::{
    Config, EndpointDump, EndpointTable, FoundEndpoint, Glob, Membership, MetricsPage, ReportTable,
    SCRAPE_TIMEOUT_MS, Scrapes, hash_bytes,
};

use crate::host::{self, Asked};
use crate::shared::Shared;

/// How often Envoy is asked for its endpoints: ranks appear and vanish within two of these.
const DISCOVERY_INTERVAL_MS: u64 = 1000;
const DISCOVERY_TIMEOUT_MS: u64 = 2000;

/// The longest metrics page that is read. vLLM's has 60 KB; what comes behind is not read.
const PAGE_BYTES: usize = 1024 * 1024;
/// Bytes taken into the VM at once.
const SLICE_BYTES: usize = 64 * 1024;

const METRICS_PATH: &str = "/metrics";

/// What a call was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Endpoints(EndpointTable),
    Metrics(SocketAddr),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) pool: u64,
    pub(super) purpose: Purpose,
    pub(super) asked_ms: u64,
}

/// One of Envoy's two endpoint tables, as it was read last.
#[derive(Debug, Default)]
struct Table {
    answer_hash: u64,
    found: Option<Vec<FoundEndpoint>>,
    asked_ms: Option<u64>,
}

/// What is watched of one pool.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) config: Config,
    dynamic: Table,
    fixed: Table,
    next_ms: u64,
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
            dynamic: Table::default(),
            fixed: Table::default(),
            next_ms: 0,
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
        (self.dynamic, self.fixed) = (Table::default(), Table::default());
        self.next_ms = 0;
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
        let is_early =
            now_ms < self.next_ms && self.next_ms.saturating_sub(now_ms) <= DISCOVERY_INTERVAL_MS;
        if is_early || !self.config.is_discovered() {
            return None;
        }
        self.next_ms = now_ms.saturating_add(DISCOVERY_INTERVAL_MS);
        let mut is_missing = None;
        for table in [EndpointTable::Dynamic, EndpointTable::Static] {
            let path = table.path(self.config.clusters());
            let cluster = self.config.admin_cluster().to_string();
            let own = self.table(table);
            let is_waiting =
                |asked_ms: u64| now_ms.abs_diff(asked_ms) <= DISCOVERY_TIMEOUT_MS.saturating_mul(2);
            if own.asked_ms.is_some_and(is_waiting) {
                continue;
            }
            let asked = host::get(&cluster, &path, None, DISCOVERY_TIMEOUT_MS);
            if let Asked::Waiting(token) = asked {
                own.asked_ms = Some(now_ms);
                let call = Call {
                    pool,
                    purpose: Purpose::Endpoints(table),
                    asked_ms: now_ms,
                };
                calls.insert(token, call);
            }
            is_missing = Some(asked == Asked::NoCluster);
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

    fn table(&mut self, table: EndpointTable) -> &mut Table {
        match table {
            EndpointTable::Dynamic => &mut self.dynamic,
            EndpointTable::Static => &mut self.fixed,
        }
    }

    /// Reads an endpoint table; true when it differs from the last one. What cannot be read changes nothing.
    pub(super) fn take_endpoints(
        &mut self,
        table: EndpointTable,
        body_bytes: Option<usize>,
    ) -> bool {
        let clusters: Vec<Glob> = self.config.clusters().to_vec();
        let own = self.table(table);
        own.asked_ms = None;
        let Some(body_bytes) = body_bytes else {
            return false;
        };
        let body = host::call_body(0, body_bytes);
        let answer_hash = hash_bytes(&body);
        if own.found.is_some() && own.answer_hash == answer_hash {
            return false;
        }
        let Ok(dump) = EndpointDump::parse(&body, &clusters) else {
            return false;
        };
        own.answer_hash = answer_hash;
        own.found = Some(dump.endpoints);
        true
    }

    /// Puts the ranks up, once both tables were read, if they changed.
    pub(super) fn settle(&mut self, shared: &mut Shared, pool: u64, now_ms: u64) {
        let (Some(dynamic), Some(fixed)) = (&self.dynamic.found, &self.fixed.found) else {
            return;
        };
        let found: Vec<FoundEndpoint> = dynamic.iter().chain(fixed).cloned().collect();
        let membership = Membership::from_found(&found, self.config.roles());
        if membership.members().is_empty() {
            // Envoy then has nothing to send to either: what was known before can only be better.
            return;
        }
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
