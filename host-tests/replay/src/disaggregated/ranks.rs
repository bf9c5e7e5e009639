//! The prefill ranks and the decode ranks of a run, and their true state.

use std::collections::HashMap;

use super::policy::{DecodeWork, Leg, Pair, PairTruth};
use super::ratio::Ratio;
use super::transfer::Transfer;
use crate::engine::Sequence;
use crate::engines::Engines;
use crate::policy::{Arrival, RankReport, Truth};
use crate::profile::Profile;
use crate::workload::Request;

/// All ranks, and the requests between them.
#[derive(Debug)]
pub struct Ranks {
    profile: Profile,
    prefill: Engines,
    decode: Engines,
    transfer: Transfer,
    /// Requests whose prompt is being prefilled, by number: their decode rank and the tokens of their prompt.
    prefilling: HashMap<usize, (usize, u64)>,
}

impl Ranks {
    /// Idle ranks with cold caches.
    #[must_use]
    pub fn new(profile: Profile, ratio: Ratio, transfer: Transfer) -> Self {
        Self {
            profile,
            prefill: Engines::new(profile.prefill_only(), ratio.prefill),
            decode: Engines::new(profile, ratio.decode),
            transfer,
            prefilling: HashMap::new(),
        }
    }

    /// The ranks of a kind.
    #[must_use]
    pub fn of(&self, leg: Leg) -> &Engines {
        match leg {
            Leg::Prefill => &self.prefill,
            Leg::Decode => &self.decode,
        }
    }

    /// As [`of`](Self::of), to be changed.
    pub fn of_mut(&mut self, leg: Leg) -> &mut Engines {
        match leg {
            Leg::Prefill => &mut self.prefill,
            Leg::Decode => &mut self.decode,
        }
    }

    /// It is this late.
    pub fn set_time(&mut self, now_ms: f64) {
        self.prefill.set_time(now_ms);
        self.decode.set_time(now_ms);
    }

    /// A request is sent to its ranks; gives which rank gets it first and when it will reach that one's queue.
    pub fn send(&mut self, request: &Request, pair: Pair) -> (Leg, usize, f64) {
        let Some(rank) = pair.prefill else {
            let sequence = sequence(request, self.profile.output_tokens(request.output_tokens));
            let joins_ms = self.decode.send(pair.decode, sequence);
            return (Leg::Decode, pair.decode, joins_ms);
        };
        let between = (pair.decode, request.arrival.prompt_tokens);
        self.prefilling.insert(request.arrival.number, between);
        (
            Leg::Prefill,
            rank,
            self.prefill.send(rank, sequence(request, 1)),
        )
    }

    /// The prompt of a request is prefilled; gives when it will reach the decode rank's queue with its keys and values.
    pub fn hand_over(&mut self, request: &Request, decode: usize) -> f64 {
        self.prefilling.remove(&request.arrival.number);
        let sequence = sequence(request, self.profile.output_tokens(request.output_tokens));
        let transfer_ms = self.transfer_ms(decode, &request.arrival);
        self.decode
            .send_with(decode, sequence.received(), transfer_ms)
    }

    /// The pages of all ranks of a kind. Requests that a decode rank fetches keys and values for count as waiting there, as in
    /// vLLM since 0.20.
    #[must_use]
    pub fn pages(&self, leg: Leg) -> Vec<RankReport> {
        let mut pages = self.of(leg).pages();
        if leg == Leg::Decode {
            for (rank, page) in pages.iter_mut().enumerate() {
                let joining = self.decode.joining(rank);
                let received = joining.filter(|sequence| sequence.received_tokens > 0);
                page.waiting += u32::try_from(received.count()).unwrap_or(u32::MAX);
            }
        }
        pages
    }

    /// Only what the decode rank does not hold is fetched.
    fn transfer_ms(&self, decode: usize, arrival: &Arrival) -> f64 {
        let cached = self.decode.cached_tokens(decode, arrival);
        let missing = arrival.prompt_tokens.saturating_sub(cached);
        self.transfer.ms(missing, self.profile.kv_bytes_per_token)
    }
}

fn sequence(request: &Request, output_tokens: u64) -> Sequence {
    let Arrival {
        number,
        blocks,
        prompt_tokens,
    } = &request.arrival;
    Sequence::new(*number, blocks.clone(), *prompt_tokens, output_tokens)
}

impl PairTruth for Ranks {
    fn first_token_ms(&self, leg: Leg, rank: usize, arrival: &Arrival) -> f64 {
        self.of(leg).first_token_ms(rank, arrival)
    }

    fn hand_over_ms(&self, rank: usize, arrival: &Arrival) -> f64 {
        self.profile.frontend_ms(arrival.prompt_tokens) + self.transfer_ms(rank, arrival)
    }

    fn cached_tokens(&self, leg: Leg, rank: usize, arrival: &Arrival) -> u64 {
        self.of(leg).cached_tokens(rank, arrival)
    }

    fn decode_work(&self, rank: usize) -> DecodeWork {
        let (here, tokens) = self.decode.rank(rank).held();
        let joining = self.decode.joining(rank).map(|next| next.prompt_tokens);
        let coming = self.prefilling.values().filter(|(to, _)| *to == rank);
        let coming: Vec<u64> = joining.chain(coming.map(|(_, tokens)| *tokens)).collect();
        let group = self.decode.ranks_of(self.decode.group_of(rank));
        DecodeWork {
            sequences: here + coming.len() as u64,
            tokens: tokens + coming.iter().sum::<u64>(),
            group_sequences: group
                .map(|rank| self.decode.rank(rank).running() as u64)
                .sum(),
        }
    }

    fn profile(&self) -> &Profile {
        &self.profile
    }
}
