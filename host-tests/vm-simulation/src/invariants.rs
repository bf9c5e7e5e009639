//! What must hold once a gateway has come to rest. What must hold at every step is checked where the step is made.

mod attacked;

pub(crate) use attacked::{
    Underway, judge_coming_back, judge_moment, judge_old_prompt, judge_past_cache,
    judge_refused_prompt, judge_spread,
};

use crate::envoy::Envoy;
use crate::schedule::MS;
use crate::simulation::Simulation;
use crate::stream::StreamId;

/// Items in one queue: a VM rings itself and takes all when it is called, so a few are left when calls get lost. What
/// grows with the requests is beyond this in a run of many.
const MOST_QUEUED: usize = 64;

/// How long a request may be held while only its VM has to do something: many times the longest idle limit and the
/// slowest timer that a run has.
const LONGEST_HOLD_NS: u64 = 4_000 * MS;

/// Gauges that are 0 when nothing is under way.
const GAUGES: [&str; 3] = [
    "rank_router.requests_held",
    "rank_router.requests_in_flight",
    "rank_router.queued_tokens",
];
/// Keys and bytes of shared data: so many for all VMs, whatever number of requests there was.
const MOST_KEYS: u64 = 1_024;
const MOST_BYTES: u64 = 16 * 1_024 * 1_024;
/// Queues and metrics are never removed. A queue is named by its VM's slot, and there are no more slots than VMs that lived
/// within a lease: a worker can die and be made anew three times in one, and the slot that a stalled one lost is another.
const MOST_QUEUES: u64 = 64;
const MOST_METRICS: u64 = 4_096;

/// Judges a run that has come to rest.
pub(crate) fn judge(simulation: &mut Simulation) {
    judge_streams(simulation);
    judge_counters(simulation);
    judge_gauges(simulation);
    judge_memory(simulation);
}

/// Judges a hold that ends.
pub(crate) fn judge_hold(simulation: &mut Simulation, id: StreamId) {
    let since_ns = simulation.idle_since_ns(id);
    let envoy = simulation.envoy();
    let now_ns = envoy.clock.now_ns();
    let held_ns = now_ns.saturating_sub(since_ns.unwrap_or(now_ns));
    if held_ns < LONGEST_HOLD_NS {
        return;
    }
    let how = format!("stream {} was, for {} ms", id.0, held_ns / MS);
    envoy.findings.violate(
        "no request is held for long while nothing else is awaited",
        how,
    );
}

/// Judges a request whose end has reached a rank. One that answers before it has heard all does not take it in.
pub(crate) fn judge_passed(envoy: &mut Envoy, id: StreamId) {
    let stream = envoy.streams.get(&id);
    if stream.is_some_and(|stream| stream.plan.is_forbidden && stream.code.is_none()) {
        envoy.findings.violate(
            "no rank gets all of a body that says what a client must not say",
            format!("stream {}", id.0),
        );
    }
}

/// Judges a queue that has grown to this length.
pub(crate) fn judge_queue(envoy: &mut Envoy, length: usize) {
    if length > MOST_QUEUED {
        let how = format!("{length} items");
        envoy.findings.violate("queues stay short", how);
    }
}

fn judge_streams(simulation: &mut Simulation) {
    let envoy = simulation.envoy();
    let open = envoy.streams.len();
    if open > 0 {
        envoy
            .findings
            .violate("every request ends", format!("{open} are open"));
    }
}

/// Each request that went on was counted once, by its pick and by its endpoint. What a trap cut off may have been counted
/// just before.
fn judge_counters(simulation: &mut Simulation) {
    let (passed, lost) = (simulation.passed, simulation.lost_to_traps);
    let envoy = simulation.envoy();
    let metrics = &envoy.metrics;
    let gauges = GAUGES
        .map(|name| metrics.get(name))
        .iter()
        .take(2)
        .sum::<i64>();
    let refused = metrics.get("rank_router.requests_refused");
    let by_endpoint = metrics.sum("rank_router.requests_") - gauges - refused;
    let counted = [
        ("picks", metrics.sum("rank_router.picks_")),
        ("requests", by_endpoint),
    ];
    for (what, count) in counted {
        let count = u64::try_from(count).unwrap_or(0);
        if count < passed || count > passed + lost {
            let how = format!("{count} {what} of {passed} requests, {lost} more lost to traps");
            envoy.findings.violate("each request is counted once", how);
        }
    }
}

fn judge_gauges(simulation: &mut Simulation) {
    let envoy = simulation.envoy();
    let left: Vec<String> = GAUGES
        .into_iter()
        .map(|name| (name, envoy.metrics.get(name)))
        .filter(|(_, value)| *value != 0)
        .map(|(name, value)| format!("{name} is {value}"))
        .collect();
    if left.is_empty() {
        return;
    }
    envoy
        .findings
        .violate("gauges are 0 in a gateway at rest", left.join(", "));
}

fn judge_memory(simulation: &mut Simulation) {
    let findings = &mut simulation.envoy().findings;
    for (what, most) in [
        ("keys of shared data", MOST_KEYS),
        ("bytes of shared data", MOST_BYTES),
        ("queues", MOST_QUEUES),
        ("metrics", MOST_METRICS),
    ] {
        let peak = findings.figures.peak(what);
        if peak > most {
            findings.violate("memory is bounded", format!("{peak} {what}"));
        }
    }
}
