//! Counters and gauges that Envoy shows as `wasmcustom.rank_router.*`.

use hashbrown::HashMap;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use routing::{
    BodyEnd, Change, Due, Endpoint, Failure, LegPlan, Outcome, Pick, Prompt, Reason, Told, Totals,
};

/// Numbers of the metrics at the host; each definition makes a new number, so they are defined once in a VM.
///
/// A metric has one value for all workers of an Envoy.
#[derive(Debug)]
pub(crate) struct Metrics {
    picks_prefix_hit: Option<u32>,
    picks_lowest_cost: Option<u32>,
    picks_no_prompt: Option<u32>,
    picks_no_rank: Option<u32>,
    bodies_whole: Option<u32>,
    bodies_cut_bytes: Option<u32>,
    bodies_cut_idle: Option<u32>,
    bodies_unreadable: Option<u32>,
    reader_missing: Option<u32>,
    prompt_tokens: Option<u32>,
    matched_tokens: Option<u32>,
    usages_read: Option<u32>,
    usages_missing: Option<u32>,
    predicted_cached_tokens: Option<u32>,
    delivered_cached_tokens: Option<u32>,
    prediction_error_percent: Option<u32>,
    caches_lost: Option<u32>,
    prompts_taken_back: Option<u32>,
    requests_in_flight: Option<u32>,
    requests_incomplete: Option<u32>,
    queued_tokens: Option<u32>,
    requests_held: Option<u32>,
    prompts_without_block: Option<u32>,
    news_delay_us: Option<u32>,
    fallbacks_used: Option<u32>,
    prefill_legs: Option<u32>,
    prefill_legs_spared: Option<u32>,
    prefill_legs_no_rank: Option<u32>,
    prefill_legs_moved: Option<u32>,
    shadow_agreed: Option<u32>,
    shadow_differed: Option<u32>,
    shadow_picked_tokens: Option<u32>,
    shadow_served_tokens: Option<u32>,
    failures_connect: Option<u32>,
    failures_reset: Option<u32>,
    failures_server_error: Option<u32>,
    failures_no_first_byte: Option<u32>,
    failures_scrape: Option<u32>,
    failures_not_counted: Option<u32>,
    requests_refused: Option<u32>,
    steering_headers_removed: Option<u32>,
    answers_from_elsewhere: Option<u32>,
    pool_missing: Option<u32>,
    ranks_listed: Option<u32>,
    ranks_reported: Option<u32>,
    ranks_coming_back: Option<u32>,
    ranks_out: Option<u32>,
    ranks_over_limit: Option<u32>,
    discovery_failures: Option<u32>,
    expect_continue_proxied: Option<u32>,
    admin_cluster_missing: Option<u32>,
    scrape_cluster_missing: Option<u32>,
    /// By endpoint, `None` for every other path, and outcome.
    requests: HashMap<(Option<Endpoint>, Outcome), u32>,
}

impl Metrics {
    /// Defines every metric. Any phase.
    pub(crate) fn define() -> Self {
        Self {
            picks_prefix_hit: counter("picks_prefix_hit"),
            picks_lowest_cost: counter("picks_lowest_cost"),
            picks_no_prompt: counter("picks_no_prompt"),
            picks_no_rank: counter("picks_no_rank"),
            bodies_whole: counter("bodies_whole"),
            bodies_cut_bytes: counter("bodies_cut_bytes"),
            bodies_cut_idle: counter("bodies_cut_idle"),
            bodies_unreadable: counter("bodies_unreadable"),
            reader_missing: counter("reader_missing"),
            prompt_tokens: counter("prompt_tokens"),
            matched_tokens: counter("matched_tokens"),
            usages_read: counter("usages_read"),
            usages_missing: counter("usages_missing"),
            predicted_cached_tokens: counter("predicted_cached_tokens"),
            delivered_cached_tokens: counter("delivered_cached_tokens"),
            prediction_error_percent: histogram("prediction_error_percent"),
            caches_lost: counter("caches_lost"),
            prompts_taken_back: counter("prompts_taken_back"),
            requests_in_flight: gauge("requests_in_flight"),
            requests_incomplete: gauge("requests_incomplete"),
            queued_tokens: gauge("queued_tokens"),
            requests_held: gauge("requests_held"),
            prompts_without_block: counter("prompts_without_block"),
            news_delay_us: histogram("news_delay_us"),
            fallbacks_used: counter("fallbacks_used"),
            prefill_legs: counter("prefill_legs"),
            prefill_legs_spared: counter("prefill_legs_spared"),
            prefill_legs_no_rank: counter("prefill_legs_no_rank"),
            prefill_legs_moved: counter("prefill_legs_moved"),
            shadow_agreed: counter("shadow_agreed"),
            shadow_differed: counter("shadow_differed"),
            shadow_picked_tokens: counter("shadow_picked_tokens"),
            shadow_served_tokens: counter("shadow_served_tokens"),
            failures_connect: counter("failures_connect"),
            failures_reset: counter("failures_reset"),
            failures_server_error: counter("failures_server_error"),
            failures_no_first_byte: counter("failures_no_first_byte"),
            failures_scrape: counter("failures_scrape"),
            failures_not_counted: counter("failures_not_counted"),
            requests_refused: counter("requests_refused"),
            steering_headers_removed: counter("steering_headers_removed"),
            answers_from_elsewhere: counter("answers_from_elsewhere"),
            pool_missing: counter("pool_missing"),
            ranks_listed: gauge("ranks_listed"),
            ranks_reported: gauge("ranks_reported"),
            ranks_coming_back: gauge("ranks_coming_back"),
            ranks_out: gauge("ranks_out"),
            ranks_over_limit: gauge("ranks_over_limit"),
            discovery_failures: counter("discovery_failures"),
            expect_continue_proxied: counter("expect_continue_proxied"),
            admin_cluster_missing: gauge("admin_cluster_missing"),
            scrape_cluster_missing: gauge("scrape_cluster_missing"),
            requests: requests(),
        }
    }

    /// A body was read as far as it was waited for.
    pub(crate) fn body_read(&self, due: Due, body_end: BodyEnd) {
        let metric = match (body_end, due) {
            (BodyEnd::Unreadable, _) => self.bodies_unreadable,
            (_, Due::IdleLimit) => self.bodies_cut_idle,
            (BodyEnd::Cut, _) => self.bodies_cut_bytes,
            (BodyEnd::Whole, _) => self.bodies_whole,
        };
        add(metric, 1);
    }

    /// A request of an endpoint, `None` for a path that is not known, was understood so far.
    pub(crate) fn request(&self, endpoint: Option<Endpoint>, outcome: Outcome) {
        add(self.requests.get(&(endpoint, outcome)).copied(), 1);
    }

    /// A prompt too short for a block is understood and yet has no prefix.
    pub(crate) fn blocks(&self, prompt: &Prompt) {
        let is_short = prompt.prompt_bytes > 0 && prompt.blocks.is_empty();
        add(self.prompts_without_block, i64::from(is_short));
    }

    /// A rank was picked and counted.
    pub(crate) fn picked(&self, pick: &Pick) {
        let metric = match pick.reason {
            Reason::PrefixHit => self.picks_prefix_hit,
            Reason::LowestCost => self.picks_lowest_cost,
            Reason::NoPrompt => self.picks_no_prompt,
        };
        add(metric, 1);
        add(self.prompt_tokens, signed(pick.prompt_tokens));
        add(self.matched_tokens, signed(pick.matched_tokens));
        self.planned(&pick.plan);
    }

    /// Whether another rank prefills for the one that was picked.
    fn planned(&self, plan: &LegPlan) {
        let metric = match plan {
            LegPlan::Whole => None,
            LegPlan::Leg(_) => self.prefill_legs,
            LegPlan::Cheaper | LegPlan::NoPrompt => self.prefill_legs_spared,
            LegPlan::NoRank => self.prefill_legs_no_rank,
        };
        add(metric, 1);
    }

    /// A request with a prefill leg was tried again, with another leg or with none.
    pub(crate) fn leg_moved(&self) {
        add(self.prefill_legs_moved, 1);
    }

    /// An answer to a prompt ended well and said nothing of its tokens.
    pub(crate) fn usage_missing(&self) {
        add(self.usages_missing, 1);
    }

    /// An answer said how many tokens its prompt had, and perhaps how many of them were cached. Predicted and delivered
    /// tokens count only together, so that they can be compared.
    pub(crate) fn told(&self, told: &Told) {
        add(self.usages_read, 1);
        if let Some(delivered_tokens) = told.delivered_tokens {
            add(self.predicted_cached_tokens, signed(told.predicted_tokens));
            add(self.delivered_cached_tokens, signed(delivered_tokens));
        }
        if let Some((metric, percent)) = self.prediction_error_percent.zip(told.error_percent) {
            let _ = hostcalls::record_metric(metric, percent);
        }
        add(
            self.caches_lost,
            i64::from(told.change == Change::Forgotten),
        );
    }

    /// A pick that steers nothing was compared with where the request went: tokens of the prompt that were believed to be on
    /// the picked rank, and on the one that served.
    pub(crate) fn shadowed(&self, agrees: bool, picked_tokens: u64, served_tokens: u64) {
        let metric = match agrees {
            true => self.shadow_agreed,
            false => self.shadow_differed,
        };
        add(metric, 1);
        add(self.shadow_picked_tokens, signed(picked_tokens));
        add(self.shadow_served_tokens, signed(served_tokens));
    }

    /// A rank has not taken in a prompt that it was sent.
    pub(crate) fn taken_back(&self) {
        add(self.prompts_taken_back, 1);
    }

    /// Envoy had to send a request to another rank than the first that was named.
    pub(crate) fn moved(&self) {
        add(self.fallbacks_used, 1);
    }

    /// An attempt on a rank failed.
    pub(crate) fn rank_failed(&self, failure: Failure) {
        let metric = match failure {
            Failure::Connect => self.failures_connect,
            Failure::Reset => self.failures_reset,
            Failure::ServerError => self.failures_server_error,
            Failure::NoFirstByte => self.failures_no_first_byte,
            Failure::Scrape => self.failures_scrape,
        };
        add(metric, 1);
    }

    /// A server error would have put its rank out, but is taken to be the request's.
    pub(crate) fn not_counted(&self, is_so: bool) {
        add(self.failures_not_counted, i64::from(is_so));
    }

    /// A request was refused for what its body says.
    pub(crate) fn refused(&self) {
        add(self.requests_refused, 1);
    }

    /// Headers were taken from a request that no client may set.
    pub(crate) fn headers_removed(&self) {
        add(self.steering_headers_removed, 1);
    }

    /// A request was answered, or broke off, at an address that is no rank of the pool that was picked for.
    pub(crate) fn answered_elsewhere(&self) {
        add(self.answers_from_elsewhere, 1);
    }

    /// A request went to a cluster that no pool is for.
    pub(crate) fn no_pool(&self) {
        add(self.pool_missing, 1);
    }

    /// What another worker told was heard so long after.
    pub(crate) fn heard_after(&self, delay_us: u64) {
        if let Some(metric) = self.news_delay_us {
            let _ = hostcalls::record_metric(metric, delay_us);
        }
    }

    /// Shows what all workers have now.
    pub(crate) fn show_load(&self, totals: Totals) {
        show(self.requests_held, u64::from(totals.held));
        show(self.requests_in_flight, u64::from(totals.in_flight));
        show(self.requests_incomplete, u64::from(totals.incomplete));
        show(self.queued_tokens, totals.queued_tokens);
    }

    /// Shows how the ranks of all pools stand.
    pub(crate) fn show_ranks(&self, ranks: RankCounts) {
        show(self.ranks_listed, ranks.listed);
        show(self.ranks_reported, ranks.reported);
        show(self.ranks_coming_back, ranks.coming_back);
        show(self.ranks_out, ranks.out);
    }

    /// Shows which clusters are missing that the module asks others through.
    pub(crate) fn show_missing(&self, admin: bool, scrape: bool) {
        show(self.admin_cluster_missing, u64::from(admin));
        show(self.scrape_cluster_missing, u64::from(scrape));
    }

    /// Shows how many ranks are not used because there are too many.
    pub(crate) fn show_over_limit(&self, ranks: u64) {
        show(self.ranks_over_limit, ranks);
    }

    /// Questions for endpoints had no answer that can be read.
    pub(crate) fn discovery_failed(&self, questions: u32) {
        add(self.discovery_failures, i64::from(questions));
    }

    /// The body of a request comes only when a rank has said that it may.
    pub(crate) fn expect_continue_proxied(&self) {
        add(self.expect_continue_proxied, 1);
    }

    /// There was no rank to pick.
    pub(crate) fn no_rank(&self) {
        add(self.picks_no_rank, 1);
    }

    /// A request with a prompt reached a picker without having passed a reader.
    pub(crate) fn reader_missing(&self) {
        add(self.reader_missing, 1);
    }
}

/// How many ranks of all pools stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RankCounts {
    pub(crate) listed: u64,
    /// Those whose last report is fresh.
    pub(crate) reported: u64,
    pub(crate) coming_back: u64,
    pub(crate) out: u64,
}

/// `requests_<endpoint>_<outcome>` for each of both, and `requests_other_not_a_prompt`.
fn requests() -> HashMap<(Option<Endpoint>, Outcome), u32> {
    let known = Endpoint::ALL.into_iter().flat_map(|endpoint| {
        Outcome::ALL
            .into_iter()
            .map(move |outcome| (Some(endpoint), outcome))
    });
    let all = known.chain([(None, Outcome::NotAPrompt)]);
    let defined = all.filter_map(|(endpoint, outcome)| {
        let kind = endpoint.map_or("other", Endpoint::name);
        let metric = counter(&format!("requests_{kind}_{}", outcome.name()))?;
        Some(((endpoint, outcome), metric))
    });
    defined.collect()
}

fn counter(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Counter, &format!("rank_router.{name}")).ok()
}

fn gauge(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Gauge, &format!("rank_router.{name}")).ok()
}

fn histogram(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Histogram, &format!("rank_router.{name}")).ok()
}

fn add(metric: Option<u32>, amount: i64) {
    if let Some(metric) = metric.filter(|_| amount != 0) {
        let _ = hostcalls::increment_metric(metric, amount);
    }
}

/// Sets a gauge that does not show this yet: reading it costs less than writing it.
fn show(metric: Option<u32>, value: u64) {
    let Some(metric) = metric else { return };
    if hostcalls::get_metric(metric) != Ok(value) {
        let _ = hostcalls::record_metric(metric, value);
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
