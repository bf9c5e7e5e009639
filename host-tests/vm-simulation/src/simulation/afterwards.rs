//! What hostile clients left behind: a gateway at rest is asked again.
//!
//! Only where nothing but clients made trouble: elsewhere ranks may be out, and VMs have died with what they knew.

use super::Simulation;
use crate::hostile;
use crate::invariants;
use crate::schedule::MS;
use crate::stream::ClientPlan;
use crate::traffic;
use crate::vm_record::MAIN_THREAD;

/// How long the end of an answer may take to be known to all workers: some ticks of a gateway at rest.
const NEWS_NS: u64 = 1_500 * MS;
/// As long as a request without others beside it takes at most.
const ANSWER_NS: u64 = 500 * MS;
/// Longer than Envoy waits for a stream that stands still.
const GIVEN_UP_NS: u64 = 13_000 * MS;
/// As long as a late body takes, and its answer.
const LATE_ANSWER_NS: u64 = 300 * MS;
/// Prompts that are asked again; each costs virtual time of all VMs.
const MOST_AGAIN: usize = 3;
/// A prompt of about 1,000 tokens: less than the part of a cache that is young.
const OLD_BYTES: usize = 4_000;
/// Its beginning, repeated.
const OLD_PROMPT: &str = "an old conversation ";
/// Two of about this size fill a rank's cache.
const FILLING_BYTES: usize = 40_000;
/// Of these for each rank: twice what fills them all.
const FILLING_PROMPTS: usize = 4;
/// Requests without a look into the cache: two in a row are enough to take a rank's cache for lost.
const PAST_CACHE: u64 = 4;
/// Ticks while bodies are late, as in a gateway that is not busy.
const TICK_NS: u64 = 40 * MS;
/// Late bodies: enough that no chance sends three quarters of them to one of four ranks.
const LATE: usize = 24;

/// What a request that was asked showed.
struct Asked {
    matched_tokens: i64,
    rank: Option<String>,
}

impl Simulation {
    /// Asks and judges; false when an invariant broke.
    pub(super) fn ask_afterwards(&mut self) -> bool {
        if !self.envoy().ranks.are_truthful {
            return true;
        }
        self.envoy().findings.count("gateways asked afterwards");
        self.ask_refused_again()
            .and_then(|()| self.ask_old_prompt())
            .and_then(|()| self.ask_late())
            .and_then(|()| self.see_rank_come_back())
            .and_then(|()| self.wait_for_the_last())
            .is_some()
    }

    /// Prompts that no rank served are unknown to every worker. Refused again, they stay so.
    fn ask_refused_again(&mut self) -> Option<()> {
        let mut refused = std::mem::take(&mut self.refused);
        refused.truncate(MOST_AGAIN);
        for body in refused {
            for thread in MAIN_THREAD + 1..self.threads.len() {
                let mut plan = traffic::whole("/v1/completions", body.clone());
                plan.verdict = Some(400);
                let asked = self.ask(thread, plan, NEWS_NS)?;
                self.envoy().findings.count("refused prompts asked again");
                invariants::judge_refused_prompt(self, asked.matched_tokens, &body);
            }
        }
        self.is_well()
    }

    /// What was served is known, until others that were served take its room.
    fn ask_old_prompt(&mut self) -> Option<()> {
        let old = || hostile::served(OLD_PROMPT, OLD_BYTES);
        let thread = MAIN_THREAD + 1;
        self.ask(thread, old(), NEWS_NS)?;
        let before = self.ask(thread, old(), NEWS_NS)?.matched_tokens;
        if before == 0 || !self.has_reports() {
            return Some(());
        }
        self.envoy().findings.count("old prompts known");
        let lost = self.metric("caches_lost");
        for number in 0..PAST_CACHE {
            let plan = hostile::served_past_cache(OLD_PROMPT, OLD_BYTES, number);
            self.ask(thread, plan, NEWS_NS)?;
        }
        let after = self.ask(thread, old(), NEWS_NS)?.matched_tokens;
        let lost = self.metric("caches_lost") - lost;
        invariants::judge_past_cache(self, lost, before, after);
        self.is_well()?;
        for number in 0..FILLING_PROMPTS * self.ranks_listed() {
            let start = format!("refused afterwards {number} ");
            self.ask(
                thread,
                hostile::refused(&start, FILLING_BYTES, 400),
                ANSWER_NS,
            )?;
        }
        let after = self.ask(thread, old(), NEWS_NS)?.matched_tokens;
        invariants::judge_old_prompt(self, before, after);
        self.is_well()
    }

    /// Different prompts that are picked for before their bodies have come.
    fn ask_late(&mut self) -> Option<()> {
        let floor_ns = self.envoy().chaos.tick_floor_ns;
        // Only a tick notices that no byte comes.
        self.envoy().chaos.tick_floor_ns = TICK_NS;
        let mut went_to = Vec::new();
        for number in 0..LATE as u64 {
            let asked = self.ask(
                MAIN_THREAD + 1,
                hostile::late(1_000 + number),
                LATE_ANSWER_NS,
            )?;
            went_to.extend(asked.rank);
        }
        self.envoy().chaos.tick_floor_ns = floor_ns;
        let (out, back) = (self.metric("ranks_out"), self.metric("ranks_coming_back"));
        if out == 0 && back == 0 {
            self.envoy().findings.count("late bodies judged");
            let ranks = self.ranks_listed();
            invariants::judge_spread(self, &went_to, ranks);
        }
        self.is_well()
    }

    /// Sends a request and lets so much time pass; none when an invariant broke.
    fn ask(&mut self, thread: usize, plan: ClientPlan, wait_ns: u64) -> Option<Asked> {
        let before = self.metric("matched_tokens");
        let end_ns = self.envoy().clock.now_ns() + wait_ns;
        let id = self.send(thread, plan);
        let mut rank = None;
        while rank.is_none() && self.envoy().clock.now_ns() < end_ns {
            let soon_ns = (self.envoy().clock.now_ns() + 10 * MS).min(end_ns);
            self.pass(soon_ns)?;
            let stream = id.and_then(|id| self.envoy().streams.get(&id).map(|it| &it.exchange));
            rank = stream.and_then(|exchange| exchange.address.clone());
        }
        self.pass(end_ns)?;
        Some(Asked {
            matched_tokens: self.metric("matched_tokens") - before,
            rank,
        })
    }

    /// Whatever was sent last ends, or Envoy gives it up.
    fn wait_for_the_last(&mut self) -> Option<()> {
        let wait_ns = match self.envoy().streams.is_empty() {
            true => NEWS_NS,
            false => GIVEN_UP_NS,
        };
        let end_ns = self.envoy().clock.now_ns() + wait_ns;
        self.pass(end_ns)
    }

    pub(super) fn pass(&mut self, end_ns: u64) -> Option<()> {
        let is_well = self.run_until(end_ns);
        self.envoy().clock.advance_to(end_ns);
        is_well.then_some(())
    }

    pub(super) fn is_well(&mut self) -> Option<()> {
        self.envoy().findings.violations.is_empty().then_some(())
    }

    pub(super) fn metric(&mut self, name: &str) -> i64 {
        self.envoy().metrics.get(&format!("rank_router.{name}"))
    }

    pub(super) fn ranks_listed(&mut self) -> usize {
        usize::try_from(self.metric("ranks_listed")).unwrap_or(0)
    }

    /// Whether every rank has told how much it holds.
    fn has_reports(&mut self) -> bool {
        self.metric("ranks_listed") > 0
            && self.metric("ranks_reported") == self.metric("ranks_listed")
    }
}
