//! Finds the ranks and asks them for reports, for all workers: the work of the one VM that holds the office.
//!
//! What it learns is put up in shared data; every worker, this one too, takes it from there.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use routing::{Answered, BEAT_MS, Config, Membership, Office, ReportTable, chain, hash_bytes};

use crate::host;
use crate::shared::Shared;

mod watched;

use watched::{Call, Purpose, Watched, ranks_key, reports_key};

/// Calls that have no answer after so long get none: the root that made them went with its configuration.
const LOST_AFTER_MS: u64 = 10_000;

/// How often something is asked for again that Envoy has no cluster for.
const MISSING_INTERVAL_MS: u64 = 10_000;

/// How often reports are put up: each time is a decoding of all of them in each worker.
const POST_INTERVAL_MS: u64 = 100;

/// Which clusters are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) admin: bool,
    pub(crate) scrape: bool,
}

/// The watch over all pools of this VM.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// In an order, so that the same inputs make the same calls.
    pools: BTreeMap<u64, Watched>,
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

    /// Ranks of all pools that are not used because there are too many.
    pub(crate) fn ranks_over_limit(&self) -> u64 {
        let over = self.pools.values().map(Watched::over_limit);
        over.fold(0, |sum, over| {
            u64::try_from(over).map_or(u64::MAX, |over| sum.saturating_add(over))
        })
    }

    /// How many questions for endpoints failed since the last time.
    pub(crate) fn take_failed_questions(&mut self) -> u32 {
        let failed = self.pools.values_mut().map(Watched::take_failed_questions);
        failed.fold(0, u32::saturating_add)
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
        let is_lost = |call: &Call| now_ms.abs_diff(call.asked_ms) > LOST_AFTER_MS;
        self.calls.retain(|_, call| !is_lost(call));
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
        for (key, watched) in self.pools.iter().filter(|_| self.holds_office) {
            watched.keep_posted(shared, *key);
        }
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
            watched.warn_of_trouble(now_ms);
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

    /// The answer to a call is here; `has_headers` is false when it was reset. Gives whether it is a scrape that failed.
    /// Only in its callback.
    pub(crate) fn answered(
        &mut self,
        shared: &mut Shared,
        token: u32,
        has_headers: bool,
        body_bytes: usize,
        now_ms: u64,
    ) -> bool {
        let Some(call) = self.calls.remove(&token) else {
            return false;
        };
        let Some(watched) = self.pools.get_mut(&call.pool) else {
            return false;
        };
        let status = if has_headers {
            host::call_status()
        } else {
            None
        };
        match call.purpose {
            Purpose::Endpoints(question) => {
                let answered = watched.take_endpoints(question, status, body_bytes, now_ms);
                if answered == Answered::News {
                    watched.settle(shared, call.pool, now_ms);
                }
                false
            }
            Purpose::Metrics(address) => {
                let body_bytes = (status == Some(200)).then_some(body_bytes);
                !watched.take_page(address, body_bytes, now_ms)
            }
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
        let bytes = shared.posting(&key)?;
        let hash = hash_bytes(&bytes);
        let before = self.seen.insert(key, hash);
        (before != Some(hash)).then_some(bytes)
    }
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
