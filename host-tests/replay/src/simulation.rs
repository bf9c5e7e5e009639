//! One run: requests, routers and ranks on one list of events.

use anyhow::{Result, ensure};

use crate::engine::{Sequence, Served};
use crate::engines::Engines;
use crate::events::Events;
use crate::gateways::Gateways;
use crate::policy::{Usage, View};
use crate::profile::Profile;
use crate::reports::ReportTiming;
use crate::unknowns::Resets;
use crate::workload::Request;

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Record {
    /// When it reached the router.
    pub arrived_ms: f64,
    /// When the first token of its answer came.
    pub first_token_ms: f64,
    /// When its answer ended.
    pub ended_ms: f64,
    /// The rank that answered.
    pub rank: usize,
    /// What the answer said of it; all zero until it ended.
    pub usage: Usage,
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// At their times.
    Open,
    /// So many at once; whenever one ends the next comes.
    Closed(usize),
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What became of each request, in the order of the trace.
    pub records: Vec<Record>,
    /// Tokens that each rank computed.
    pub computed_tokens: Vec<u64>,
    /// Sequences that were thrown back.
    pub preemptions: u64,
}

/// In the order in which events of one time happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    StepsEnd { group: usize },
    Join { rank: usize },
    CacheLost { rank: usize },
    ReportsArrive { gateway: usize },
    ReportsTaken { gateway: usize },
    Arrival { number: usize },
}

struct Run<'a> {
    requests: &'a [Request],
    profile: Profile,
    engines: Engines,
    gateways: Gateways,
    timing: ReportTiming,
    feed: Feed,
    resets: Resets,
    events: Events<Event>,
    next_fed: usize,
    ended: usize,
    records: Vec<Record>,
    gateway_of: Vec<usize>,
    served: Vec<Served>,
}

/// Runs the requests through the routers.
///
/// # Errors
/// When a request never ended, which the workload rules out, or a policy named a rank that is not there.
pub fn run(
    requests: &[Request],
    profile: Profile,
    ranks: usize,
    gateways: Gateways,
    timing: ReportTiming,
    feed: Feed,
) -> Result<Outcome> {
    run_with(
        requests,
        profile,
        ranks,
        gateways,
        timing,
        feed,
        Resets::never(),
    )
}

/// As [`run`], before ranks whose caches are emptied now and then.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    requests: &[Request],
    profile: Profile,
    ranks: usize,
    gateways: Gateways,
    timing: ReportTiming,
    feed: Feed,
    resets: Resets,
) -> Result<Outcome> {
    let mut run = Run {
        requests,
        profile,
        engines: Engines::new(profile, ranks),
        gateways,
        timing,
        feed,
        resets,
        events: Events::default(),
        next_fed: 0,
        ended: 0,
        records: vec![Record::default(); requests.len()],
        gateway_of: vec![0; requests.len()],
        served: Vec::new(),
    };
    run.begin();
    run.until_all_ended()?;
    let ranks = 0..ranks;
    Ok(Outcome {
        computed_tokens: ranks
            .clone()
            .map(|rank| run.engines.rank(rank).computed_tokens())
            .collect(),
        preemptions: ranks.map(|rank| run.engines.rank(rank).preemptions()).sum(),
        records: run.records,
    })
}

impl Run<'_> {
    fn begin(&mut self) {
        // Routers ask at different times, as they were started.
        let count = self.gateways.count();
        for gateway in 0..count {
            let first_ms = self.timing.interval_ms * gateway as f64 / count as f64;
            self.at(first_ms, Event::ReportsTaken { gateway });
        }
        let at_once = match self.feed {
            Feed::Open => 1,
            Feed::Closed(count) => count,
        };
        (0..at_once).for_each(|_| self.feed_next(0.0));
        self.await_reset(0.0);
    }

    fn await_reset(&mut self, now_ms: f64) {
        if let Some((at_ms, rank)) = self.resets.next(now_ms, self.engines.ranks()) {
            self.at(at_ms, Event::CacheLost { rank });
        }
    }

    fn at(&mut self, time_ms: f64, event: Event) {
        self.events.at(time_ms, event);
    }

    fn feed_next(&mut self, now_ms: f64) {
        let number = self.next_fed;
        let Some(request) = self.requests.get(number) else {
            return;
        };
        self.next_fed += 1;
        let time_ms = match self.feed {
            Feed::Open => request.at_ms,
            Feed::Closed(_) => now_ms,
        };
        self.at(time_ms, Event::Arrival { number });
    }

    fn until_all_ended(&mut self) -> Result<()> {
        while self.ended < self.requests.len() {
            let Some((now_ms, event)) = self.events.take_next() else {
                break;
            };
            self.engines.set_time(now_ms);
            self.happen(event, now_ms)?;
        }
        ensure!(
            self.ended == self.requests.len(),
            "{} of {} requests never ended",
            self.requests.len() - self.ended,
            self.requests.len()
        );
        Ok(())
    }

    fn happen(&mut self, event: Event, now_ms: f64) -> Result<()> {
        match event {
            Event::Arrival { number } => self.arrive(number, now_ms)?,
            Event::Join { rank } => {
                self.engines.join(rank);
                self.schedule_group(self.engines.group_of(rank));
            }
            Event::StepsEnd { group } => self.end_steps(group, now_ms),
            Event::CacheLost { rank } => {
                self.engines.lose_cache(rank);
                self.await_reset(now_ms);
            }
            Event::ReportsTaken { gateway } => {
                let pages = self.engines.pages();
                self.gateways.get(gateway).reports.taken(pages);
                self.at(
                    now_ms + self.timing.delay_ms,
                    Event::ReportsArrive { gateway },
                );
                self.at(
                    now_ms + self.timing.interval_ms,
                    Event::ReportsTaken { gateway },
                );
            }
            Event::ReportsArrive { gateway } => self.reports_arrive(gateway),
        }
        Ok(())
    }

    fn reports_arrive(&mut self, gateway: usize) {
        let gateway = self.gateways.get(gateway);
        for (rank, page) in gateway.reports.arrive().iter().enumerate() {
            gateway.policy.reported(rank, page);
        }
    }

    fn arrive(&mut self, number: usize, now_ms: f64) -> Result<()> {
        if self.feed == Feed::Open {
            self.feed_next(now_ms);
        }
        let request = &self.requests[number];
        let dealt = self.gateways.deal();
        let gateway = self.gateways.get(dealt);
        let view = View {
            now_ms,
            reports: gateway.reports.arrived(),
            truth: &self.engines,
        };
        let rank = gateway.policy.pick(&request.arrival, &view);
        ensure!(rank < self.engines.ranks(), "a policy picked rank {rank}");
        self.gateway_of[number] = dealt;
        let record = &mut self.records[number];
        (record.arrived_ms, record.rank) = (now_ms, rank);
        let sequence = Sequence::new(
            number,
            request.arrival.blocks.clone(),
            request.arrival.prompt_tokens,
            self.profile.output_tokens(request.output_tokens),
        );
        let sequence = match self.profile.is_decode_only {
            true => sequence.received(),
            false => sequence,
        };
        let joins_ms = self.engines.send(rank, sequence);
        self.at(joins_ms, Event::Join { rank });
        Ok(())
    }

    /// Puts the end of a group's steps on the list. Ends that were put there before and come too early or late are passed
    /// over.
    fn schedule_group(&mut self, group: usize) {
        if let Some(ends_ms) = self.engines.ends_ms(group) {
            self.at(ends_ms, Event::StepsEnd { group });
        }
    }

    fn end_steps(&mut self, group: usize, now_ms: f64) {
        if self.engines.ends_ms(group) != Some(now_ms) {
            return;
        }
        let mut served = std::mem::take(&mut self.served);
        served.clear();
        self.engines.end_steps(group, &mut served);
        self.schedule_group(group);
        for event in &served {
            match *event {
                Served::FirstToken { number } => self.first_token(number, now_ms),
                Served::End { number, usage } => self.end(number, usage, now_ms),
            }
        }
        self.served = served;
    }

    fn first_token(&mut self, number: usize, now_ms: f64) {
        let record = &mut self.records[number];
        record.first_token_ms = now_ms;
        let gateway = self.gateways.get(self.gateway_of[number]);
        gateway.policy.first_token(number, record.rank, now_ms);
    }

    fn end(&mut self, number: usize, usage: Usage, now_ms: f64) {
        self.ended += 1;
        let record = &mut self.records[number];
        (record.ended_ms, record.usage) = (now_ms, usage);
        let gateway = self.gateways.get(self.gateway_of[number]);
        gateway.policy.end(number, record.rank, usage, now_ms);
        if matches!(self.feed, Feed::Closed(_)) {
            self.feed_next(now_ms);
        }
    }
}

#[cfg(test)]
mod tests;
