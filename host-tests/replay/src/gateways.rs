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
    /// The share of the requests that the last router gets; the others share the rest.
    foreign_share: Option<f64>,
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
            foreign_share: None,
        }
    }

    /// The last router gets this share of the requests, whatever the others get.
    #[must_use]
    pub fn with_foreign(mut self, share: f64) -> Self {
        self.foreign_share = Some(share);
        self
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.gateways.len()
    }

    /// The router of the next request.
    pub fn deal(&mut self) -> usize {
        let count = self.gateways.len();
        match self.foreign_share {
            Some(share) if self.random.f64() < share => count - 1,
            Some(_) => self.random.usize(0..count - 1),
            None => self.random.usize(0..count),
        }
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
    fn the_last_router_gets_its_share() {
        let policies = (0..3).map(|_| RoundRobin::boxed(2)).collect();
        let mut gateways = Gateways::new(policies, 2, 1).with_foreign(0.3);
        let mut dealt = [0i32; 3];
        (0..1000).for_each(|_| dealt[gateways.deal()] += 1);
        assert!((250..350).contains(&dealt[2]), "{dealt:?}");
        assert!(dealt[0].abs_diff(dealt[1]) < 100, "{dealt:?}");
    }

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
