//! Counters and gauges that Envoy shows as `wasmcustom.rank_router.*`.

use hashbrown::HashMap;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use routing::{BodyEnd, Due, Endpoint, Outcome, Pick, Prompt, Reason};

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
    requests_in_flight: Option<u32>,
    queued_tokens: Option<u32>,
    requests_held: Option<u32>,
    prompts_without_block: Option<u32>,
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
            requests_in_flight: gauge("requests_in_flight"),
            queued_tokens: gauge("queued_tokens"),
            requests_held: gauge("requests_held"),
            prompts_without_block: counter("prompts_without_block"),
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
        add(self.requests_in_flight, 1);
        add(self.queued_tokens, signed(pick.charge.queued_tokens()));
    }

    /// There was no rank to pick.
    pub(crate) fn no_rank(&self) {
        add(self.picks_no_rank, 1);
    }

    /// A request with a prompt reached a picker without having passed a reader.
    pub(crate) fn reader_missing(&self) {
        add(self.reader_missing, 1);
    }

    /// These tokens are no longer queued.
    pub(crate) fn unqueued(&self, tokens: u64) {
        add(self.queued_tokens, signed(tokens).saturating_neg());
    }

    /// A request ended on its rank.
    pub(crate) fn ended(&self) {
        add(self.requests_in_flight, -1);
    }

    /// The headers of a request are held.
    pub(crate) fn held(&self) {
        add(self.requests_held, 1);
    }

    /// The headers of a request are no longer held.
    pub(crate) fn released(&self) {
        add(self.requests_held, -1);
    }
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

fn add(metric: Option<u32>, amount: i64) {
    if let Some(metric) = metric.filter(|_| amount != 0) {
        let _ = hostcalls::increment_metric(metric, amount);
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
