//! The router behind the filters: where a request goes, and what its rank does with it.

use super::Simulation;
use crate::envoy::Envoy;
use crate::invariants;
use crate::ranks::{self, Flag, Mood, RankStep};
use crate::schedule::Event;
use crate::stream::{LocalReply, StreamId, Way};
use crate::traffic::{SPOOFED, SPOOFED_VALUE};

/// The header that names where a request goes.
const DESTINATION: &[u8] = b"x-gateway-destination-endpoint";
/// What Envoy's retry policy allows in all.
const MOST_ATTEMPTS: u32 = 3;

impl Simulation {
    /// The router has the headers.
    pub(super) fn arrive_at_router(&mut self, id: StreamId) -> Option<()> {
        self.passed += 1;
        let envoy = self.envoy();
        let stream = envoy.streams.get_mut(&id)?;
        stream.way = Way::Passed;
        check_destination(envoy, id);
        let local_reply = envoy.streams.get(&id)?.plan.local_reply;
        if local_reply == LocalReply::BehindPicker {
            self.local_reply(id, 429, None);
            return None;
        }
        self.start_attempt(id);
        self.is_open(id).then_some(())
    }

    /// A rank gets the request; it usually waits for all of it.
    fn start_attempt(&mut self, id: StreamId) -> Option<()> {
        let envoy = self.envoy();
        let stream = envoy.streams.get_mut(&id)?;
        let exchange = &mut stream.exchange;
        exchange.attempt += 1;
        let named = stream.request_headers.get(DESTINATION).unwrap_or_default();
        let named = String::from_utf8_lossy(named).into_owned();
        let address = envoy.ranks.destination(&named, exchange.attempt);
        exchange.address.clone_from(&address);
        let Some(address) = address else {
            self.local_reply(id, 503, None);
            return None;
        };
        let mood = envoy.ranks.get(&address)?.mood;
        // What a client stops in the middle of no rank can answer.
        let is_endless = !stream.plan.has_end();
        let waits =
            matches!(mood, Mood::Well | Mood::Slow) && (is_endless || envoy.chance.hits(0.9));
        exchange.steps = match (mood, stream.plan.verdict) {
            (Mood::Well | Mood::Slow, Some(code)) => ranks::told(code, &mut envoy.chance),
            (_, verdict) => ranks::steps(mood, verdict, &mut envoy.chance),
        };
        exchange.waits_for_request = waits && !exchange.is_request_over;
        let is_waiting = exchange.waits_for_request;
        envoy.findings.count("attempts at ranks");
        if !is_waiting {
            self.plan_rank_step(id);
        }
        Some(())
    }

    pub(super) fn request_reached_rank(&mut self, id: StreamId, is_over: bool) -> Option<()> {
        let stream = self.envoy().streams.get_mut(&id)?;
        stream.exchange.is_request_over |= is_over;
        if is_over {
            invariants::judge_passed(self.envoy(), id);
        }
        let stream = self.envoy().streams.get_mut(&id)?;
        let is_awaited = is_over && std::mem::take(&mut stream.exchange.waits_for_request);
        if is_awaited {
            self.plan_rank_step(id);
        }
        Some(())
    }

    fn plan_rank_step(&mut self, id: StreamId) {
        let envoy = self.envoy();
        let Some(stream) = envoy.streams.get(&id) else {
            return;
        };
        let attempt = stream.exchange.attempt;
        if let Some((wait_ns, _)) = stream.exchange.steps.last().copied() {
            envoy.after(
                wait_ns,
                Event::RankStep {
                    stream: id,
                    attempt,
                },
            );
        }
    }

    pub(super) fn rank_step(&mut self, id: StreamId, attempt: u32) {
        let stream = self.envoy().streams.get_mut(&id);
        let Some(stream) = stream.filter(|stream| stream.exchange.attempt == attempt) else {
            return;
        };
        let is_answered = stream.code.is_some();
        let address = stream.exchange.address.clone();
        let Some((_, step)) = stream.exchange.steps.pop() else {
            return;
        };
        if let (RankStep::Headers { code, .. }, Some(address)) = (step, address) {
            self.envoy().ranks.note_answer(&address, code);
        }
        match step {
            RankStep::Refuse => self.failed(id, Flag::UpstreamConnectionFailure),
            RankStep::Reset if is_answered => self.break_off(id, Flag::UpstreamRemoteReset),
            RankStep::Reset => self.failed(id, Flag::UpstreamRemoteReset),
            RankStep::Headers { code: 503, .. } if attempt < MOST_ATTEMPTS => self.retry(id),
            RankStep::Headers { code, is_end } => self.answer_headers(id, code, is_end),
            RankStep::Chunk { bytes, is_end } => self.answer_body(id, bytes, is_end),
            RankStep::Trailers => self.answer_trailers(id),
        }
        let stream = self.envoy().streams.get(&id);
        if stream.is_some_and(|stream| stream.exchange.attempt == attempt) {
            self.plan_rank_step(id);
        }
    }

    /// An attempt failed before anything was answered.
    fn failed(&mut self, id: StreamId, flag: Flag) {
        let stream = self.envoy().streams.get(&id);
        match stream.is_some_and(|stream| stream.exchange.attempt < MOST_ATTEMPTS) {
            true => self.retry(id),
            false => self.local_reply(id, 503, Some(flag)),
        }
    }

    fn retry(&mut self, id: StreamId) {
        self.envoy().findings.count("retries");
        self.start_attempt(id);
    }
}

/// Only ranks are named, and nothing that a client wrote steers anything.
fn check_destination(envoy: &mut Envoy, id: StreamId) {
    let Some(stream) = envoy.streams.get(&id) else {
        return;
    };
    let headers = &stream.request_headers;
    let spoofed = SPOOFED
        .iter()
        .find(|name| headers.get(name.as_bytes()) == Some(SPOOFED_VALUE));
    let named = String::from_utf8_lossy(headers.get(DESTINATION).unwrap_or_default()).into_owned();
    let unknown = named
        .split(',')
        .find(|address| envoy.ranks.get(address).is_none());
    let spoofed = spoofed.map(|name| format!("{name} is the client's"));
    let unknown = unknown.map(|address| format!("{address:?} of {named:?} is no rank"));
    if let Some(how) = spoofed.or(unknown) {
        envoy
            .findings
            .violate("requests go where the module says, to ranks", how);
    }
}
