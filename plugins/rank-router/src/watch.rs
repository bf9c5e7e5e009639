//! Finds the ranks and asks them for reports, for all workers: the work of the one VM that holds the office.
//!
//! What it learns is put up in shared data; every worker, this one too, takes it from there.

use std::net::SocketAddr;

use hashbrown::HashMap;
use routing::{
    BEAT_MS, Config, EndpointDump, EndpointTable, FoundEndpoint, Glob, Membership, MetricsPage,
    Office, ReportTable, SCRAPE_TIMEOUT_MS, Scrapes, SharedMemory, chain, hash_bytes,
};

use crate::host::{self, Asked};
use crate::shared::Shared;

/// How often Envoy is asked for its endpoints: ranks appear and vanish within two of these.
const DISCOVERY_INTERVAL_MS: u64 = 1000;
const DISCOVERY_TIMEOUT_MS: u64 = 2000;

/// How often something is asked for again that Envoy has no cluster for.
const MISSING_INTERVAL_MS: u64 = 10_000;

/// How often reports are put up: each time is a decoding of all of them in each worker.
const POST_INTERVAL_MS: u64 = 100;

/// The longest metrics page that is read. vLLM's has 60 KB; what comes behind is not read.
const PAGE_BYTES: usize = 1024 * 1024;
/// Bytes taken into the VM at once.
const SLICE_BYTES: usize = 64 * 1024;

const METRICS_PATH: &str = "/metrics";

/// What a call was for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Endpoints(EndpointTable),
    Metrics(SocketAddr),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    pool: u64,
    purpose: Purpose,
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
struct Watched {
    config: Config,
    dynamic: Table,
    fixed: Table,
    next_ms: u64,
    membership: Membership,
    /// Whether that was found, by whichever VM; until then it is the static list.
    is_found: bool,
    scrapes: Scrapes,
    reports: ReportTable,
    is_news: bool,
    posted_ms: u64,
}

/// Which clusters are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) admin: bool,
    pub(crate) scrape: bool,
}

/// The watch over all pools of this VM.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pools: HashMap<u64, Watched>,
    office: Option<Office>,
    holds_office: bool,
    beat_ms: Option<u64>,
    was_vacant: bool,
    calls: HashMap<u32, Call>,
    missing: Missing,
    retry_ms: u64,
    warned: Missing,
    seen_posted: Option<u64>,
    /// By key: the hash of what was taken in last.
    seen: HashMap<String, u64>,
}

/// What was put up for a pool.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) pool: u64,
    pub(crate) membership: Option<Membership>,
    pub(crate) reports: Option<ReportTable>,
}

impl Watch {
    /// Forgets what was taken in of what is put up: there is a pool that knows nothing of it.
    pub(crate) fn look_again(&mut self) {
        self.seen_posted = None;
        self.seen.clear();
        self.beat_ms = None;
    }

    /// Whether this VM watches for all.
    pub(crate) fn holds_office(&self) -> bool {
        self.holds_office
    }

    /// Clusters that Envoy does not have.
    pub(crate) fn missing(&self) -> Missing {
        self.missing
    }

    /// What is to be done often. `is_eager` says that this VM has nothing better to do than to watch. Only in a root's
    /// callbacks.
    pub(crate) fn tick<'a>(
        &mut self,
        shared: &mut Shared,
        pools: impl Iterator<Item = (u64, &'a Config)>,
        vm: u64,
        is_eager: bool,
        now_ms: u64,
    ) {
        let is_early = |last_ms: u64| now_ms.abs_diff(last_ms) < BEAT_MS;
        if !self.beat_ms.is_some_and(is_early) {
            self.beat_ms = Some(now_ms);
            self.beat(shared, pools, vm, is_eager, now_ms);
        }
        if self.holds_office {
            self.ask(now_ms);
            self.post(shared, now_ms);
        }
    }

    /// Holds the office, if it is to be had.
    fn beat<'a>(
        &mut self,
        shared: &mut Shared,
        pools: impl Iterator<Item = (u64, &'a Config)>,
        vm: u64,
        is_eager: bool,
        now_ms: u64,
    ) {
        let pools: Vec<(u64, &Config)> = pools.collect();
        self.watch_over(&pools, shared, now_ms);
        let Some(office) = self.office.clone() else {
            self.holds_office = false;
            return;
        };
        // Who has requests to serve leaves a beat's time to who has none.
        let is_vacant = office.is_vacant(shared, now_ms);
        let is_left = is_vacant && self.was_vacant;
        self.was_vacant = is_vacant;
        let is_candidate = self.holds_office || is_eager || is_left;
        self.holds_office = is_candidate && office.hold(shared, vm, now_ms);
    }

    /// Watches over these pools from now on; those that stay keep what is known of them.
    fn watch_over(&mut self, pools: &[(u64, &Config)], shared: &Shared, now_ms: u64) {
        self.pools
            .retain(|key, _| pools.iter().any(|(pool, _)| pool == key));
        for (key, config) in pools {
            match self.pools.get_mut(key) {
                Some(watched) if watched.config == **config => {}
                Some(watched) => watched.reconfigure((*config).clone(), now_ms),
                None => {
                    let watched = Watched::new((*config).clone(), *key, shared, now_ms);
                    self.pools.insert(*key, watched);
                }
            }
        }
        let mut keys: Vec<u64> = self.pools.keys().copied().collect();
        keys.sort_unstable();
        // VMs with other pools hold an office of their own.
        let name = keys.iter().fold(0, |name, key| chain(name, *key));
        self.office = (!keys.is_empty()).then(|| Office::new(&format!("{name:016x}")));
    }

    /// Asks for what is due; rarely where a cluster is missing.
    fn ask(&mut self, now_ms: u64) {
        let Self {
            pools,
            calls,
            missing,
            warned,
            retry_ms,
            ..
        } = self;
        let is_retry = now_ms >= *retry_ms || retry_ms.saturating_sub(now_ms) > MISSING_INTERVAL_MS;
        if is_retry {
            *retry_ms = now_ms.saturating_add(MISSING_INTERVAL_MS);
        }
        for (pool, watched) in pools {
            if is_retry || !missing.admin {
                let is_missing = watched.ask_for_endpoints(*pool, calls, now_ms);
                missing.admin = is_missing.unwrap_or(missing.admin);
            }
            if is_retry || !missing.scrape {
                let is_missing = watched.ask_for_reports(*pool, calls, now_ms);
                missing.scrape = is_missing.unwrap_or(missing.scrape);
            }
            warn(watched, *missing, warned);
        }
    }

    /// Puts up what is new.
    fn post(&mut self, shared: &mut Shared, now_ms: u64) {
        for (pool, watched) in &mut self.pools {
            let is_early = now_ms.abs_diff(watched.posted_ms) < POST_INTERVAL_MS;
            if watched.is_news && !is_early {
                watched.is_news = false;
                watched.posted_ms = now_ms;
                shared.post(&reports_key(*pool), &watched.reports.encode());
            }
        }
    }

    /// The answer to a call is here; `has_headers` is false when it was reset. Only in its callback.
    pub(crate) fn answered(
        &mut self,
        shared: &mut Shared,
        token: u32,
        has_headers: bool,
        body_bytes: usize,
        now_ms: u64,
    ) {
        let Some(call) = self.calls.remove(&token) else {
            return;
        };
        let Some(watched) = self.pools.get_mut(&call.pool) else {
            return;
        };
        let is_good = has_headers && host::call_status() == Some(200);
        let body_bytes = if is_good { Some(body_bytes) } else { None };
        match call.purpose {
            Purpose::Endpoints(table) => {
                if watched.take_endpoints(table, body_bytes) {
                    watched.settle(shared, call.pool, now_ms);
                }
            }
            Purpose::Metrics(address) => watched.take_page(address, body_bytes, now_ms),
        }
    }

    /// What was put up since the last time, for these pools.
    pub(crate) fn posted(
        &mut self,
        shared: &mut Shared,
        pools: impl Iterator<Item = u64>,
    ) -> Vec<Posted> {
        let posted = shared.posted();
        if self.seen_posted == Some(posted) {
            return Vec::new();
        }
        self.seen_posted = Some(posted);
        let mut news = Vec::new();
        for pool in pools {
            let ranks = self.news(shared, ranks_key(pool));
            let reports = self.news(shared, reports_key(pool));
            news.push(Posted {
                pool,
                membership: ranks.and_then(|bytes| Membership::decode(&bytes).ok()),
                reports: reports.and_then(|bytes| ReportTable::decode(&bytes).ok()),
            });
        }
        news
    }

    /// What stands under a key, unless it was seen before.
    fn news(&mut self, shared: &Shared, key: String) -> Option<Vec<u8>> {
        let bytes = shared.get(&key).bytes;
        let hash = hash_bytes(&bytes);
        let before = self.seen.insert(key, hash);
        (before != Some(hash)).then_some(bytes)
    }
}

impl Watched {
    /// Goes on from what another VM has put up.
    fn new(config: Config, key: u64, shared: &Shared, now_ms: u64) -> Self {
        let membership = Membership::decode(&shared.get(&ranks_key(key)).bytes);
        let is_found = membership.is_ok() && config.is_discovered();
        let reports = ReportTable::decode(&shared.get(&reports_key(key)).bytes);
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

    fn reconfigure(&mut self, config: Config, now_ms: u64) {
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
    fn ask_for_endpoints(
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
                let purpose = Purpose::Endpoints(table);
                calls.insert(token, Call { pool, purpose });
            }
            is_missing = Some(asked == Asked::NoCluster);
        }
        is_missing
    }

    /// Whether Envoy has no such cluster; `None` where there was nothing to ask.
    fn ask_for_reports(
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
                let purpose = Purpose::Metrics(address);
                calls.insert(token, Call { pool, purpose });
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
    fn take_endpoints(&mut self, table: EndpointTable, body_bytes: Option<usize>) -> bool {
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
    fn settle(&mut self, shared: &mut Shared, pool: u64, now_ms: u64) {
        let (Some(dynamic), Some(fixed)) = (&self.dynamic.found, &self.fixed.found) else {
            return;
        };
        let found: Vec<FoundEndpoint> = dynamic.iter().chain(fixed).cloned().collect();
        let membership = Membership::from_found(&found, self.config.roles());
        let is_posted = shared.get(&ranks_key(pool)).version.is_some();
        if membership != self.membership || !is_posted {
            log::info!(
                "rank-router: pool {} has {} ranks",
                self.config.pool(),
                membership.members().len()
            );
            shared.post(&ranks_key(pool), &membership.encode());
            self.membership = membership;
            self.is_found = true;
            self.follow(now_ms);
        }
    }

    fn take_page(&mut self, address: SocketAddr, body_bytes: Option<usize>, now_ms: u64) {
        let rank = hash_bytes(address.to_string().as_bytes());
        self.scrapes.end(rank);
        if !self.scrapes.has(rank) {
            return;
        }
        match body_bytes {
            Some(body_bytes) => self.reports.answered(rank, read_page(body_bytes), now_ms),
            None => self.reports.failed(rank, now_ms),
        }
        self.is_news = true;
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

fn ranks_key(pool: u64) -> String {
    format!("rank_router.1.pool.{pool:016x}.ranks")
}

fn reports_key(pool: u64) -> String {
    format!("rank_router.1.pool.{pool:016x}.reports")
}

/// Says once what is missing and how to add it.
fn warn(watched: &Watched, missing: Missing, warned: &mut Missing) {
    if missing.admin && !std::mem::replace(&mut warned.admin, true) {
        log::warn!(
            "rank-router: Envoy has no cluster {:?}, so ranks are not found and only a static list can be used: add a \
             static cluster of that name that points to Envoy's admin port, or set adminCluster",
            watched.config.admin_cluster()
        );
    }
    if missing.scrape && !std::mem::replace(&mut warned.scrape, true) {
        log::warn!(
            "rank-router: Envoy has no cluster {:?}, so ranks are not asked for reports and only this gateway's own \
             requests count: add a cluster of that name of type ORIGINAL_DST with use_http_header, or set scrapeCluster",
            watched.config.scrape_cluster()
        );
    }
}
