//! What this worker hears from the others, and what it does between requests.

use std::time::Duration;

use routing::{BEAT_MS, Heard, News};

use super::{SharedPool, Worker};
use crate::host;
use crate::metrics::{Metrics, RankCounts};

use std::collections::BTreeMap;

use hashbrown::HashMap;

/// How often a worker looks at what the others told: a pick looks by itself, so this is for what others' first bytes and
/// ends free, and it bounds how far a ring can run ahead.
pub(crate) const TICK: Duration = Duration::from_millis(4);

/// How long workers may disagree on which ranks are out.
const SPELLS_INTERVAL_MS: u64 = 1000;

/// How long a new worker may assume the room that ranks report, and know no kinds of requests: 21 bytes a rank and 25 a kind each
/// time, and it learns by itself, too.
const SHARES_INTERVAL_MS: u64 = 10_000;

impl Worker {
    /// A request has come: from now on this VM is one of the workers.
    pub(crate) fn wake(&mut self) {
        if !self.is_awake && !cfg!(feature = "isolated") {
            self.is_awake = true;
            self.meet();
        }
    }

    /// What is to be done often, whatever requests come; true when a decision is due.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        self.expire(now_ms);
        if self.is_awake {
            self.meet();
            self.judge_waits(now_ms);
            self.tell_spells(now_ms);
            self.tell_shares(now_ms);
        }
        self.keep_watch(now_ms);
        self.show(now_ms);
        self.flush();
    }

    /// Says now and then which ranks are out, for workers that missed why.
    fn tell_spells(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.spells_told_ms) < SPELLS_INTERVAL_MS {
            return;
        }
        self.spells_told_ms = now_ms;
        for shared in self.pools.values() {
            for (key, spell) in shared.pool.spells(now_ms) {
                self.peers.standing(key, &spell);
            }
        }
    }

    /// Says now and then how much room was found on ranks and which kinds of requests are answered from caches, for workers that
    /// have come since.
    fn tell_shares(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.shares_told_ms) < SHARES_INTERVAL_MS {
            return;
        }
        self.shares_told_ms = now_ms;
        for shared in self.pools.values() {
            for (key, share) in shared.pool.shares() {
                self.peers.capacity(key, share);
            }
            for (key, kind) in shared.pool.delivering_kinds() {
                self.peers.delivered(key, kind);
            }
        }
    }

    /// Takes part in the watch over the ranks, and takes in what it has put up.
    fn keep_watch(&mut self, now_ms: u64) {
        let pools = self.pools.iter();
        let configs = pools.map(|(key, shared)| (*key, shared.pool.config()));
        let is_eager = !self.is_awake;
        self.watch
            .tick(&mut self.shared, configs, self.vm, is_eager, now_ms);
        self.take_posted(now_ms);
        if self.watch.holds_office() {
            let missing = self.watch.missing();
            self.metrics.show_missing(missing.admin, missing.scrape);
            let failed = self.watch.take_failed_questions();
            self.metrics.discovery_failed(failed);
            let over_limit = self.watch.ranks_over_limit();
            self.metrics.show_over_limit(over_limit);
        }
    }

    /// Takes in what was put up since the last time; a new VM at once, or its first request would find no rank.
    pub(crate) fn take_posted(&mut self, now_ms: u64) {
        let pools = self.pools.keys().copied();
        for posted in self.watch.posted(&mut self.shared, pools) {
            let Some(shared) = self.pools.get_mut(&posted.pool) else {
                continue;
            };
            let pool = &mut shared.pool;
            if let Some(membership) = posted.membership.filter(|_| pool.config().is_discovered()) {
                pool.list(&membership);
            }
            if let Some(reports) = posted.reports {
                pool.reported(&reports, now_ms);
            }
        }
    }

    fn rank_counts(&self, now_ms: u64) -> RankCounts {
        let mut counts = RankCounts::default();
        for shared in self.pools.values() {
            let health = shared.pool.health_counts(now_ms);
            let add = |count: &mut u64, more: usize| {
                *count = count.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
            };
            add(&mut counts.listed, shared.pool.listed());
            add(&mut counts.reported, shared.pool.fresh_reports(now_ms));
            add(&mut counts.coming_back, health.coming_back);
            add(&mut counts.out, health.out_ranks);
        }
        counts
    }

    /// Lets the others see what was told; at the end of each callback that may have told something.
    pub(crate) fn flush(&mut self) {
        if self.peers.has_news() {
            self.peers.flush(&mut self.shared, host::now_us());
        }
    }

    /// Takes in what the others told since the last time.
    pub(super) fn hear(&mut self) {
        if self.is_awake {
            let (peers, shared, mut ears) = self.ears();
            let now_ms = ears.now_ms();
            peers.hear(shared, now_ms, &mut |heard| ears.take(heard));
        }
    }

    /// There is a pool that knows nothing yet: hears everything again.
    pub(super) fn start_over(&mut self) {
        let (peers, _, mut ears) = self.ears();
        peers.start_over(&mut |heard| ears.take(heard));
    }

    fn meet(&mut self) {
        let (peers, shared, mut ears) = self.ears();
        let now_ms = ears.now_ms();
        peers.beat(shared, now_ms, &mut |heard| ears.take(heard));
        peers.hear(shared, now_ms, &mut |heard| ears.take(heard));
        peers.catch_up(shared, &mut |heard| ears.take(heard));
    }

    fn ears(&mut self) -> (&mut routing::Peers, &mut crate::shared::Shared, Ears<'_>) {
        let ears = Ears {
            pools: &mut self.pools,
            totals: &mut self.peer_totals,
            metrics: &self.metrics,
            now_us: host::now_us(),
        };
        (&mut self.peers, &mut self.shared, ears)
    }

    /// Makes what no byte came for due. Not at each tick: it looks at every open request.
    fn expire(&mut self, now_ms: u64) {
        let idle_ms = self
            .pools
            .values()
            .map(|shared| shared.pool.config().decide_after_idle_ms())
            .min();
        let period_ms = idle_ms.unwrap_or(BEAT_MS) / 2;
        if now_ms.abs_diff(self.expired_ms) >= period_ms.max(1) {
            self.expired_ms = now_ms;
            self.exchanges.expire(now_ms);
        }
    }

    /// Shows in gauges what all workers know. Each of them does, and each shows the same once all have heard all.
    ///
    /// A VM that sleeps hears nothing of requests; it shows what it knows only when no worker is there to do it.
    fn show(&mut self, now_ms: u64) {
        if self.is_awake {
            self.metrics.show_load(self.all_totals());
            self.show_ranks(now_ms);
        } else if self.peers.nobody_is_left(&self.shared, now_ms) {
            // The last worker died and took what it had along, or none has had a request.
            self.metrics.show_load(Default::default());
            if self.watch.holds_office() {
                self.show_ranks(now_ms);
            }
        }
    }

    fn all_totals(&self) -> routing::Totals {
        let own = self.peers.totals();
        self.peer_totals
            .values()
            .fold(own, |sum, totals| routing::Totals {
                held: sum.held.saturating_add(totals.held),
                in_flight: sum.in_flight.saturating_add(totals.in_flight),
                incomplete: sum.incomplete.saturating_add(totals.incomplete),
                queued_tokens: sum.queued_tokens.saturating_add(totals.queued_tokens),
            })
    }

    /// Not at each tick: it looks at every rank.
    fn show_ranks(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.shown_ms) >= BEAT_MS {
            self.shown_ms = now_ms;
            self.metrics.show_ranks(self.rank_counts(now_ms));
        }
    }
}

/// Where news go.
struct Ears<'a> {
    pools: &'a mut BTreeMap<u64, SharedPool>,
    totals: &'a mut HashMap<u16, routing::Totals>,
    metrics: &'a Metrics,
    now_us: u64,
}

impl Ears<'_> {
    fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    fn take(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Cleared { slot } => {
                self.totals.remove(&slot);
                for shared in self.pools.values_mut() {
                    shared.pool.heard_nothing_of(slot);
                }
            }
            Heard::News { slot, news } => self.take_news(slot, news),
        }
    }

    fn take_news(&mut self, slot: u16, news: News<'_>) {
        let key = match news {
            News::Totals(totals) => {
                self.totals.insert(slot, totals);
                return;
            }
            News::Told { at_us } => {
                self.metrics.heard_after(self.now_us.saturating_sub(at_us));
                return;
            }
            News::Load { key, .. }
            | News::Prompt { key, .. }
            | News::TakenBack { key, .. }
            | News::Doubted { key }
            | News::Delivered { key, .. }
            | News::Forgotten { key, .. }
            | News::Capacity { key, .. }
            | News::Failed { key, .. }
            | News::Standing { key, .. }
            | News::Answered { key, .. } => key,
        };
        let Some(shared) = self.pools.get_mut(&key.pool) else {
            return;
        };
        let (pool, now_ms) = (&mut shared.pool, self.now_us / 1000);
        match news {
            News::Load { load, .. } => pool.heard_load(slot, key.rank, load),
            News::Prompt {
                at_ms,
                aged_blocks,
                blocks,
                ..
            } => {
                pool.heard_prompt(key.rank, at_ms, aged_blocks, blocks, now_ms);
            }
            News::TakenBack {
                at_ms,
                aged_blocks,
                held,
                blocks,
                ..
            } => pool.heard_taken_back(key.rank, at_ms, aged_blocks, held, blocks),
            News::Doubted { .. } => pool.heard_doubt(key.rank, now_ms),
            News::Delivered { kind, .. } => pool.heard_delivery(key.rank, kind),
            News::Forgotten { at_ms, .. } => pool.heard_forgotten(key.rank, at_ms, now_ms),
            News::Capacity { share, .. } => pool.heard_capacity(key.rank, share),
            News::Failed { code, span, .. } => {
                pool.heard_failure(key.rank, code, span, now_ms);
            }
            News::Standing { spell, .. } => pool.heard_spell(key.rank, &spell, now_ms),
            News::Answered {
                span, is_streamed, ..
            } => pool.heard_answer(key.rank, span, is_streamed, now_ms),
            News::Told { .. } | News::Totals(_) => {}
        }
    }
}
