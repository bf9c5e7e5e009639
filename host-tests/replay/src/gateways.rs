//! Several routers before the same ranks: each has its own policy and its own reports.

use fastrand::Rng;

use crate::policy::Policy;
use crate::reports::Reports;

/// One router.
pub struct Gateway {
    /// Its decision and memory.
    pub policy: Box<dyn Policy>,
    /// What it got to know of the ranks.
    pub reports: Reports,
}

/// Routers that requests are dealt to at random, as a balancer before them would.
pub struct Gateways {
    gateways: Vec<Gateway>,
    random: Rng,
}

impl Gateways {
    /// A router for each policy, at least one. Routers that see each other at once and whole are one router: give one
    /// policy for them.
    #[must_use]
    pub fn new(policies: Vec<Box<dyn Policy>>, ranks: usize, seed: u64) -> Self {
        let gateway = |policy| Gateway {
            policy,
            reports: Reports::new(ranks),
        };
        Self {
            gateways: policies.into_iter().map(gateway).collect(),
            random: Rng::with_seed(seed),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.gateways.len()
    }

    /// The router of the next request.
    pub fn deal(&mut self) -> usize {
        self.random.usize(0..self.gateways.len())
    }

    /// One of them.
    pub fn get(&mut self, place: usize) -> &mut Gateway {
        &mut self.gateways[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::RoundRobin;

    #[test]
    fn requests_are_dealt_to_all_and_equally_for_one_seed() {
        let policies = |count| (0..count).map(|_| RoundRobin::boxed(2)).collect();
        let dealt = |seed| {
            let mut gateways = Gateways::new(policies(4), 2, seed);
            (0..1000).map(|_| gateways.deal()).collect::<Vec<_>>()
        };
        assert_eq!(dealt(1), dealt(1));
        assert_ne!(dealt(1), dealt(2));
        for gateway in 0..4 {
            let count = dealt(1).iter().filter(|place| **place == gateway).count();
            assert!((200..300).contains(&count), "{count}");
        }
    }
}
