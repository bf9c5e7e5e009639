//! One run: requests, routers and ranks of both kinds on one list of events.

use anyhow::{Result, ensure};
use fastrand::Rng;

use super::policy::{Leg, Pair, PairPolicy, PairView};
use super::ranks::Ranks;
use super::ratio::Ratio;
use super::transfer::Transfer;
use crate::engine::Served;
use crate::events::Events;
use crate::policy::Usage;
use crate::profile::Profile;
use crate::reports::{ReportTiming, Reports};
use crate::simulation::Record;
use crate::workload::Request;

/// The ranks of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// What decode ranks are, and prefill ranks but for decoding.
    pub profile: Profile,
    /// How many there are.
    pub ratio: Ratio,
    /// What is between them.
    pub transfer: Transfer,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What became of each request, in the order of the trace; the rank is the decode rank.
    pub records: Vec<Record>,
    /// The ranks of each request.
    pub pairs: Vec<Pair>,
    /// Tokens that each prefill rank computed.
    pub prefill_tokens: Vec<u64>,
    /// Tokens that each decode rank computed, of prompts and answers.
    pub decode_tokens: Vec<u64>,
    /// Sequences that were thrown back.
    pub preemptions: u64,
}

/// In the order in which events of one time happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    StepsEnd { leg: Leg, group: usize },
    Join { leg: Leg, rank: usize },
    Prefilled { number: usize },
    ReportsArrive { gateway: usize },
    ReportsTaken { gateway: usize },
    Arrival { number: usize },
}

/// One router, with what it got to know of the ranks.
struct Gateway {
    policy: Box<dyn PairPolicy>,
    prefill: Reports,
    decode: Reports,
}

struct Run<'a> {
    requests: &'a [Request],
    profile: Profile,
    ranks: Ranks,
    gateways: Vec<Gateway>,
    random: Rng,
    timing: ReportTiming,
    events: Events<Event>,
    ended: usize,
    gateway_of: Vec<usize>,
    /// What the prefill rank of a request had cached of it.
    prefill_cached: Vec<Option<u64>>,
    records: Vec<Record>,
    pairs: Vec<Pair>,
    served: Vec<Served>,
}

/// Runs the requests through routers with these policies, which they are dealt to at random.
///
/// # Errors
/// When a request never ended, which the workload rules out, or a policy named a rank that is not there.
pub fn run(
    requests: &[Request],
    site: &Site,
    policies: Vec<Box<dyn PairPolicy>>,
    timing: ReportTiming,
    seed: u64,
) -> Result<Outcome> {
    let gateway = |policy| Gateway {
        policy,
        prefill: Reports::new(site.ratio.prefill),
        decode: Reports::new(site.ratio.decode),
    };
    let mut run = Run {
        requests,
        profile: site.profile,
        ranks: Ranks::new(site.profile, site.ratio, site.transfer),
        gateways: policies.into_iter().map(gateway).collect(),
        random: Rng::with_seed(seed),
        timing,
        events: Events::default(),
        ended: 0,
        gateway_of: vec![0; requests.len()],
        prefill_cached: vec![None; requests.len()],
        records: vec![Record::default(); requests.len()],
        pairs: vec![Pair::default(); requests.len()],
        served: Vec::new(),
    };
    run.begin();
    run.until_all_ended()?;
    Ok(run.outcome(site.ratio))
}

impl Run<'_> {
    fn begin(&mut self) {
        // Routers ask at different times, as they were started.
        let count = self.gateways.len();
        for gateway in 0..count {
            let first_ms = self.timing.interval_ms * gateway as f64 / count as f64;
            self.events.at(first_ms, Event::ReportsTaken { gateway });
        }
        self.await_arrival(0);
    }

    fn await_arrival(&mut self, number: usize) {
        if let Some(request) = self.requests.get(number) {
            self.events.at(request.at_ms, Event::Arrival { number });
        }
    }

    fn until_all_ended(&mut self) -> Result<()> {
        while self.ended < self.requests.len() {
            let Some((now_ms, event)) = self.events.take_next() else {
                break;
            };
            self.ranks.set_time(now_ms);
            self.happen(event, now_ms)?;
        }
        let left = self.requests.len() - self.ended;
        ensure!(
            left == 0,
            "{left} of {} requests never ended",
            self.requests.len()
        );
        Ok(())
    }

    fn happen(&mut self, event: Event, now_ms: f64) -> Result<()> {
        match event {
            Event::Arrival { number } => self.arrive(number, now_ms)?,
            Event::Join { leg, rank } => self.join(leg, rank),
            Event::Prefilled { number } => self.prefilled(number, now_ms),
            Event::StepsEnd { leg, group } => self.end_steps(leg, group, now_ms),
            Event::ReportsTaken { gateway } => self.take_reports(gateway, now_ms),
            Event::ReportsArrive { gateway } => self.reports_arrive(gateway),
        }
        Ok(())
    }

    fn take_reports(&mut self, place: usize, now_ms: f64) {
        let gateway = &mut self.gateways[place];
        gateway.prefill.taken(self.ranks.pages(Leg::Prefill));
        gateway.decode.taken(self.ranks.pages(Leg::Decode));
        let ReportTiming {
            interval_ms,
            delay_ms,
        } = self.timing;
        let arrive = Event::ReportsArrive { gateway: place };
        self.events.at(now_ms + delay_ms, arrive);
        let again = Event::ReportsTaken { gateway: place };
        self.events.at(now_ms + interval_ms, again);
    }

    fn reports_arrive(&mut self, gateway: usize) {
        let gateway = &mut self.gateways[gateway];
        for (leg, pages) in [
            (Leg::Prefill, gateway.prefill.arrive()),
            (Leg::Decode, gateway.decode.arrive()),
        ] {
            for (rank, page) in pages.iter().enumerate() {
                gateway.policy.reported(leg, rank, page);
            }
        }
    }

    fn arrive(&mut self, number: usize, now_ms: f64) -> Result<()> {
        self.await_arrival(number + 1);
        let request = &self.requests[number];
        let dealt = self.random.usize(0..self.gateways.len());
        let gateway = &mut self.gateways[dealt];
        let view = PairView {
            now_ms,
            prefill: gateway.prefill.arrived(),
            decode: gateway.decode.arrived(),
            truth: &self.ranks,
        };
        let pair = gateway.policy.pick(&request.arrival, &view);
        let is_there = |leg, rank| rank < self.ranks.of(leg).ranks();
        let prefills = pair.prefill.is_none_or(|rank| is_there(Leg::Prefill, rank));
        ensure!(
            prefills && is_there(Leg::Decode, pair.decode),
            "a policy picked {pair:?}"
        );
        self.gateway_of[number] = dealt;
        self.pairs[number] = pair;
        let record = &mut self.records[number];
        (record.arrived_ms, record.rank) = (now_ms, pair.decode);
        let (leg, rank, joins_ms) = self.ranks.send(request, pair);
        self.events.at(joins_ms, Event::Join { leg, rank });
        Ok(())
    }

    /// The next request on its way to a rank reaches its queue.
    fn join(&mut self, leg: Leg, rank: usize) {
        self.ranks.of_mut(leg).join(rank);
        self.schedule(leg, self.ranks.of(leg).group_of(rank));
    }

    fn prefilled(&mut self, number: usize, now_ms: f64) {
        let gateway = &mut self.gateways[self.gateway_of[number]];
        gateway.policy.prefilled(number, now_ms);
    }

    /// Puts the end of a group's steps on the list. Ends that were put there before and come too early or late are passed
    /// over.
    fn schedule(&mut self, leg: Leg, group: usize) {
        if let Some(ends_ms) = self.ranks.of(leg).ends_ms(group) {
            self.events.at(ends_ms, Event::StepsEnd { leg, group });
        }
    }

    fn end_steps(&mut self, leg: Leg, group: usize, now_ms: f64) {
        if self.ranks.of(leg).ends_ms(group) != Some(now_ms) {
            return;
        }
        let mut served = std::mem::take(&mut self.served);
        served.clear();
        self.ranks.of_mut(leg).end_steps(group, &mut served);
        self.schedule(leg, group);
        for event in &served {
            match (leg, *event) {
                (Leg::Prefill, Served::FirstToken { .. }) => {}
                (Leg::Prefill, Served::End { number, usage }) => {
                    self.hand_over(number, usage, now_ms)
                }
                (Leg::Decode, Served::FirstToken { number }) => self.first_token(number, now_ms),
                (Leg::Decode, Served::End { number, usage }) => self.end(number, usage, now_ms),
            }
        }
        self.served = served;
    }

    /// The decode rank's front end reads the request and sends response headers, then it fetches what was computed.
    fn hand_over(&mut self, number: usize, usage: Usage, now_ms: f64) {
        self.prefill_cached[number] = Some(usage.cached_tokens);
        let request = &self.requests[number];
        let rank = self.pairs[number].decode;
        let joins_ms = self.ranks.hand_over(request, rank);
        let leg = Leg::Decode;
        self.events.at(joins_ms, Event::Join { leg, rank });
        let frontend_ms = self.profile.frontend_ms(request.arrival.prompt_tokens);
        self.events
            .at(now_ms + frontend_ms, Event::Prefilled { number });
    }

    fn first_token(&mut self, number: usize, now_ms: f64) {
        self.records[number].first_token_ms = now_ms;
        let gateway = &mut self.gateways[self.gateway_of[number]];
        gateway.policy.first_token(number, now_ms);
    }

    fn end(&mut self, number: usize, usage: Usage, now_ms: f64) {
        self.ended += 1;
        let usage = Usage {
            cached_tokens: self.prefill_cached[number].unwrap_or(usage.cached_tokens),
            ..usage
        };
        let record = &mut self.records[number];
        (record.ended_ms, record.usage) = (now_ms, usage);
        let gateway = &mut self.gateways[self.gateway_of[number]];
        gateway.policy.end(number, usage, now_ms);
    }

    fn outcome(self, ratio: Ratio) -> Outcome {
        let (prefill, decode) = (self.ranks.of(Leg::Prefill), self.ranks.of(Leg::Decode));
        let tokens = |engines: &crate::engines::Engines, count: usize| {
            let ranks = (0..count).map(|rank| engines.rank(rank).computed_tokens());
            ranks.collect()
        };
        let thrown_back = |rank| decode.rank(rank).preemptions();
        Outcome {
            prefill_tokens: tokens(prefill, ratio.prefill),
            decode_tokens: tokens(decode, ratio.decode),
            preemptions: (0..ratio.decode).map(thrown_back).sum(),
            records: self.records,
            pairs: self.pairs,
        }
    }
}

#[cfg(test)]
mod tests;
