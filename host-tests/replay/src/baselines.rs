//! Policies that know no prompts, and the one that knows everything.

use fastrand::Rng;

use crate::policy::{Arrival, Policy, Usage, View};

/// Any rank.
pub struct Random {
    ranks: usize,
    random: Rng,
}

impl Random {
    /// Picks among so many ranks.
    #[must_use]
    pub fn boxed(ranks: usize, seed: u64) -> Box<dyn Policy> {
        let random = Rng::with_seed(seed);
        Box::new(Self { ranks, random })
    }
}

impl Policy for Random {
    fn pick(&mut self, _: &Arrival, _: &View<'_>) -> usize {
        self.random.usize(0..self.ranks)
    }
}

/// One rank after the other.
pub struct RoundRobin {
    ranks: usize,
    next: usize,
}

impl RoundRobin {
    /// Picks among so many ranks.
    #[must_use]
    pub fn boxed(ranks: usize) -> Box<dyn Policy> {
        Self::boxed_from(ranks, 0)
    }

    /// The same, beginning with another rank than the first.
    #[must_use]
    pub fn boxed_from(ranks: usize, first: usize) -> Box<dyn Policy> {
        Box::new(Self { ranks, next: first })
    }
}

impl Policy for RoundRobin {
    fn pick(&mut self, _: &Arrival, _: &View<'_>) -> usize {
        let rank = self.next;
        self.next = (rank + 1) % self.ranks;
        rank
    }
}

/// The rank with the fewest requests of this router, among equals any.
pub struct LeastInFlight {
    in_flight: Vec<u32>,
    random: Rng,
}

impl LeastInFlight {
    /// Picks among so many ranks.
    #[must_use]
    pub fn boxed(ranks: usize, seed: u64) -> Box<dyn Policy> {
        Box::new(Self {
            in_flight: vec![0; ranks],
            random: Rng::with_seed(seed),
        })
    }
}

impl Policy for LeastInFlight {
    fn pick(&mut self, _: &Arrival, _: &View<'_>) -> usize {
        let least = self.in_flight.iter().min().copied().unwrap_or(0);
        let ranks = self.in_flight.iter().enumerate();
        let equals = ranks.filter(|(_, count)| **count == least);
        let equals: Vec<usize> = equals.map(|(rank, _)| rank).collect();
        let rank = self.random.choice(equals).unwrap_or(0);
        self.in_flight[rank] += 1;
        rank
    }

    fn end(&mut self, _: usize, rank: usize, _: Usage, _: f64) {
        self.in_flight[rank] -= 1;
    }
}

/// Of two ranks at random the one with fewer requests of this router: Envoy's `LEAST_REQUEST` with its two choices, which
/// may be the same rank. Workers of one Envoy share the counts.
pub struct LeastRequest {
    in_flight: Vec<u32>,
    random: Rng,
}

impl LeastRequest {
    /// Picks among so many ranks.
    #[must_use]
    pub fn boxed(ranks: usize, seed: u64) -> Box<dyn Policy> {
        Box::new(Self {
            in_flight: vec![0; ranks],
            random: Rng::with_seed(seed),
        })
    }
}

impl Policy for LeastRequest {
    fn pick(&mut self, _: &Arrival, _: &View<'_>) -> usize {
        let mut choice = || self.random.usize(0..self.in_flight.len());
        let (one, other) = (choice(), choice());
        let rank = if self.in_flight[other] < self.in_flight[one] {
            other
        } else {
            one
        };
        self.in_flight[rank] += 1;
        rank
    }

    fn end(&mut self, _: usize, rank: usize, _: Usage, _: f64) {
        self.in_flight[rank] -= 1;
    }
}

/// The rank that would bring this request's first token first: it knows the ranks' true state and looks one request
/// ahead. Greedy: not the best that could be had, because it takes no thought for those who come after.
pub struct Oracle {
    ranks: usize,
    random: Rng,
}

/// First tokens this close come at the same time: among such ranks the one that holds most of the prompt is taken,
/// because that costs the others least.
const EQUAL_MS: f64 = 1.0;

impl Oracle {
    /// Picks among so many ranks.
    #[must_use]
    pub fn boxed(ranks: usize, seed: u64) -> Box<dyn Policy> {
        let random = Rng::with_seed(seed);
        Box::new(Self { ranks, random })
    }
}

impl Policy for Oracle {
    fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
        let times = (0..self.ranks).map(|rank| view.truth.first_token_ms(rank, arrival));
        let times: Vec<f64> = times.collect();
        let first_ms = times.iter().copied().fold(f64::INFINITY, f64::min);
        let equals = (0..self.ranks).filter(|rank| times[*rank] <= first_ms + EQUAL_MS);
        let mut equals: Vec<usize> = equals.collect();
        self.random.shuffle(&mut equals);
        let best = equals
            .into_iter()
            .max_by_key(|rank| view.truth.cached_tokens(*rank, arrival));
        best.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
