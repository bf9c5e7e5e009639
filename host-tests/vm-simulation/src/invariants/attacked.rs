//! What must hold whatever clients send: seen from outside, by metrics and by where requests go.

use std::collections::BTreeMap;

use crate::backend::RANK_TOKENS;
use crate::schedule::MS;
use crate::simulation::Simulation;

/// What a rank is taken to hold as long as it has not reported: the module's default.
const UNREPORTED_TOKENS: u64 = 500_000;
/// How long what has ended may still be counted: a worker shows what it has last heard of the others.
const NEWS_NS: u64 = 5_000 * MS;
/// A pool that an update has replaced is still there beside the new one.
const POOLS: u64 = 2;
/// With fewer ranks, or fewer requests for each, it may be chance that most go to one.
const FEWEST_RANKS: usize = 4;

/// Requests of which all has come, at the moment.
#[derive(Debug, Default)]
pub(crate) struct Underway {
    /// When some of them ended, in order.
    ends_ns: Vec<u64>,
}

impl Underway {
    /// One has ended.
    pub(crate) fn ended(&mut self, now_ns: u64) {
        self.ends_ns.push(now_ns);
    }

    /// Those that ended since.
    fn since(&self, since_ns: u64) -> u64 {
        let before = self.ends_ns.partition_point(|end_ns| *end_ns < since_ns);
        self.ends_ns.len().saturating_sub(before) as u64
    }
}

/// Judges a moment of a run.
pub(crate) fn judge_moment(simulation: &mut Simulation) {
    judge_weight(simulation);
    if simulation.spares_ranks {
        judge_ranks_out(simulation);
        judge_failures(simulation);
    }
}

/// A request weighs nothing until all of it has come, and then at most what a rank can hold.
fn judge_weight(simulation: &mut Simulation) {
    // Another plugin that writes into what workers tell can make any count of it, until the next word.
    if simulation.envoy().findings.figures.count("junk written") > 0 {
        return;
    }
    let spares_ranks = simulation.spares_ranks;
    let now_ns = simulation.envoy().clock.now_ns();
    // Where VMs die and clocks jump, news of an end may never come.
    let since_ns = match spares_ranks {
        true => now_ns.saturating_sub(NEWS_NS),
        false => 0,
    };
    let ended = simulation.underway.since(since_ns) + simulation.lost_to_traps;
    let envoy = simulation.envoy();
    let open = envoy.streams.values().filter(|stream| stream.is_whole);
    let requests = ended + open.count() as u64;
    let most = requests.saturating_mul(UNREPORTED_TOKENS.max(RANK_TOKENS));
    let queued = envoy.metrics.get("rank_router.queued_tokens");
    if u64::try_from(queued).unwrap_or(0) > most {
        let how = format!("{queued} queued tokens of {requests} whole requests");
        envoy
            .findings
            .violate("no request weighs more than a rank", how);
    }
}

/// A rank that has done nothing wrong is in.
fn judge_ranks_out(simulation: &mut Simulation) {
    let envoy = simulation.envoy();
    let at_fault = envoy.ranks.ranks.iter().filter(|rank| rank.errors > 0);
    let at_fault = at_fault.count() as u64;
    let out = envoy.metrics.get("rank_router.ranks_out");
    if u64::try_from(out).unwrap_or(0) > POOLS * at_fault {
        let how = format!("{out} are out, and {at_fault} ever answered with an error");
        envoy.findings.violate("no rank out that answers", how);
    }
}

/// Ranks that answer have no failures but the errors that they answered with.
fn judge_failures(simulation: &mut Simulation) {
    let envoy = simulation.envoy();
    let errors: u64 = envoy.ranks.ranks.iter().map(|rank| rank.errors).sum();
    for (kind, most) in [
        ("connect", 0),
        ("reset", 0),
        ("no_first_byte", 0),
        ("server_error", errors),
    ] {
        let name = format!("rank_router.failures_{kind}");
        let failures = envoy.metrics.get(&name);
        if u64::try_from(failures).unwrap_or(0) > most {
            let how = format!("{name} is {failures}, and ranks failed {most} times");
            envoy
                .findings
                .violate("no rank that answers is charged with a failure", how);
        }
    }
}

/// Judges a prompt that no rank has served and that was asked again.
pub(crate) fn judge_refused_prompt(simulation: &mut Simulation, matched_tokens: i64, body: &[u8]) {
    if matched_tokens > 0 {
        let start = String::from_utf8_lossy(body);
        let start: String = start.chars().take(60).collect();
        let how = format!("{matched_tokens} tokens of {start} are believed to be cached");
        let findings = &mut simulation.envoy().findings;
        findings.violate("what was refused leaves no trace", how);
    }
}

/// Whether fewer blocks are believed to be cached than before. Answers teach tokens of a byte, so the same blocks can come to a few
/// tokens less; one block of this prompt is a sixteenth of it.
fn is_less(before: i64, after: i64) -> bool {
    after < before - before / 20
}

/// Judges a prompt that was served, and asked again after so many others were refused.
pub(crate) fn judge_old_prompt(simulation: &mut Simulation, before: i64, after: i64) {
    if is_less(before, after) {
        let how = format!(
            "{after} tokens of a prompt are believed to be cached and not {before} after others were refused"
        );
        let findings = &mut simulation.envoy().findings;
        findings.violate("what was refused leaves no trace", how);
    }
}

/// Judges a prompt that is cached and was served without a look into the cache.
pub(crate) fn judge_past_cache(
    simulation: &mut Simulation,
    caches_lost: i64,
    before: i64,
    after: i64,
) {
    if caches_lost > 0 || is_less(before, after) {
        let how = format!(
            "caches_lost rose by {caches_lost}, and {after} tokens are believed to be cached and not {before}"
        );
        simulation
            .envoy()
            .findings
            .violate("requests that bypass the prefix cache teach nothing", how);
    }
}

/// Judges where requests went that told nothing of their prompt, one after the other, before idle ranks.
pub(crate) fn judge_spread(simulation: &mut Simulation, went_to: &[String], ranks: usize) {
    let mut by_rank: BTreeMap<&String, usize> = BTreeMap::new();
    for rank in went_to {
        *by_rank.entry(rank).or_default() += 1;
    }
    let busiest = by_rank.values().copied().max().unwrap_or(0);
    if ranks >= FEWEST_RANKS && busiest * 4 > went_to.len() * 3 {
        let how = format!(
            "{busiest} of {} went to one of {ranks} ranks",
            went_to.len()
        );
        simulation
            .envoy()
            .findings
            .violate("picks that know nothing are spread", how);
    }
}

/// Judges how many ranks are not in after enough answers for each that was to come back, beside clients that stop in bodies.
pub(crate) fn judge_coming_back(simulation: &mut Simulation, not_in: i64) {
    if not_in > 0 {
        let how = format!("{not_in} ranks that answer are not in");
        simulation
            .envoy()
            .findings
            .violate("clients that stop keep no rank from coming back", how);
    }
}
