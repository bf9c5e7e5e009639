//! The pick for a stream, and the headers that steer its request.

use routing::{
    DESTINATION_HEADER, Leg, LegPlan, NEXT_PREFILLER_HEADER, PREFILLER_HEADER, Pick, Prompt, chain,
    rank_list,
};

use super::Worker;
use crate::stream::{Stream, StreamLeg};

/// What has come of a request by its pick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Whether the body has ended.
    pub(crate) has_ended: bool,
    /// Whether the answer is to be streamed, as far as that was read.
    pub(crate) is_streamed: bool,
}

/// Names and values of headers that a request is to have; none where there is no rank.
pub(crate) type SteeringHeaders = Vec<(&'static str, String)>;

impl Worker {
    /// Picks for a stream and counts it; gives the headers that steer it, or none when the pool has no rank.
    pub(crate) fn pick(
        &mut self,
        picker: u32,
        pool: u64,
        prompt: Option<Prompt>,
        arrival: Arrived,
        now_ms: u64,
    ) -> SteeringHeaders {
        self.hear();
        self.requests = self.requests.wrapping_add(1);
        let seed = chain(self.vm, self.requests);
        let shared = self.pools.get_mut(&pool);
        let picked = shared.and_then(|shared| match arrival.has_ended {
            true => shared.pool.pick(prompt.as_ref(), seed, now_ms),
            false => shared.pool.pick_before_end(prompt.as_ref(), seed, now_ms),
        });
        let Some(pick) = picked else {
            self.metrics.no_rank();
            return SteeringHeaders::new();
        };
        self.metrics.picked(&pick);
        let headers = match self.is_shadow(pool) {
            true => SteeringHeaders::new(),
            false => steering_headers(&pick),
        };
        self.log_pick(picker, pool, &pick, &headers);
        let rank = pick.charge.rank();
        self.tell_prompt(pool, rank, &pick.sent);
        let stream = Stream {
            charge: Some(pick.charge),
            prompt: prompt.map(Box::new),
            insertion: Some(pick.insertion),
            expected: pick.expected,
            leg: self.begin_leg(pool, pick.plan),
            named: pick.ranks,
            picked_ms: now_ms,
            complete_ms: arrival.has_ended.then_some(now_ms),
            is_early: !arrival.has_ended,
            expected_ms: milliseconds(pick.cost.queue_seconds + pick.cost.miss_seconds),
            is_streamed: arrival.is_streamed,
            ..Stream::held(pool)
        };
        self.put_stream(picker, stream);
        self.tell_load(pool, rank);
        headers
    }

    /// The prefill of a request is on another rank.
    fn begin_leg(&mut self, pool: u64, plan: LegPlan) -> Option<Box<StreamLeg>> {
        let LegPlan::Leg(leg) = plan else { return None };
        let Leg {
            ranks,
            charge,
            sent,
            insertion,
            ..
        } = leg;
        let rank = charge.rank();
        self.tell_prompt(pool, rank, &sent);
        self.tell_load(pool, rank);
        Some(Box::new(StreamLeg {
            rank,
            charge: Some(charge),
            named: ranks,
            insertion: Some(insertion),
        }))
    }

    fn log_pick(&self, picker: u32, pool: u64, pick: &Pick, headers: &SteeringHeaders) {
        let shared = self.pools.get(&pool);
        let name = shared.map_or("", |shared| shared.pool.config().pool());
        let cost = &pick.cost;
        log::debug!(
            "rank-router: stream {picker} of pool {name} to {}, steered by {headers:?}: {:?}, {} of {} tokens matched, \
             {:.4} s queue + {:.4} s miss + {:.4} s held + {:.4} s in flight + {:.4} s leg + {:.4} s stall",
            rank_list(&pick.ranks),
            pick.reason,
            pick.matched_tokens,
            pick.prompt_tokens,
            cost.queue_seconds,
            cost.miss_seconds,
            cost.held_seconds,
            cost.in_flight_seconds,
            cost.leg_seconds,
            cost.stall_seconds,
        );
    }
}

fn steering_headers(pick: &Pick) -> SteeringHeaders {
    let mut headers = vec![(DESTINATION_HEADER, rank_list(&pick.ranks))];
    let names = [PREFILLER_HEADER, NEXT_PREFILLER_HEADER];
    let prefillers = pick.plan.leg().map_or(&[][..], |leg| &leg.ranks);
    let prefillers = prefillers.iter().map(ToString::to_string);
    headers.extend(names.into_iter().zip(prefillers));
    headers
}

/// Seconds of a cost as whole milliseconds; costs are finite and not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}
