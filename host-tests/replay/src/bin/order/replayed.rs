//! The same slice in the replay.

use anyhow::Result;
use host_tests::summary::Ttft;
use replay::baselines::RoundRobin;
use replay::engine::BLOCK_TOKENS;
use replay::gateways::Gateways;
use replay::order::{Given, Measured};
use replay::peers::Setup;
use replay::policies;
use replay::profile::Profile;
use replay::reports::ReportTiming;
use replay::simulation::{Feed, Outcome, run};
use replay::workload::Request;
use routing::chain;

/// Reports are under way as long as in the table of the replay.
const REPORT_DELAY_MS: f64 = 5.0;

/// Policies that draw at random differ from draw to draw, in the 99th percentile by up to a third: so many are drawn, and
/// the medians count. A run in Envoy is one draw.
const DRAWS: u64 = 9;

/// The ranks, and the workers of the Envoy before them.
#[derive(Clone, Copy, Debug)]
pub struct Ranks {
    /// What each is like.
    pub profile: Profile,
    /// How many there are.
    pub count: usize,
    /// How many of them share a pod.
    pub per_pod: usize,
    /// Envoy's workers.
    pub workers: usize,
}

impl Ranks {
    /// A policy by its name.
    pub fn run(&self, policy: &str, requests: &[Request], seed: u64) -> Result<Measured> {
        let draws = (0..DRAWS).map(|draw| self.draw(policy, requests, chain(seed, draw)));
        Ok(Measured::medians(&draws.collect::<Result<Vec<_>>>()?))
    }

    fn draw(&self, policy: &str, requests: &[Request], seed: u64) -> Result<Measured> {
        let gateways = match policy {
            "round-robin" => self.round_robins(seed),
            _ => self.shared(policy, seed)?,
        };
        self.measure(policies::report_interval_ms(policy), requests, gateways)
    }

    /// Picks that were made in Envoy.
    pub fn run_picks(&self, picks: Vec<usize>, requests: &[Request]) -> Result<Measured> {
        let gateways = Gateways::new(vec![Given::boxed(picks)], self.count, 0);
        self.measure(
            policies::report_interval_ms("round-robin"),
            requests,
            gateways,
        )
    }

    /// Each worker of Envoy goes round on its own, from a rank drawn at random.
    fn round_robins(&self, seed: u64) -> Gateways {
        let mut random = fastrand::Rng::with_seed(seed);
        let workers = (0..self.workers)
            .map(|_| RoundRobin::boxed_from(self.count, random.usize(0..self.count)));
        Gateways::new(workers.collect(), self.count, seed)
    }

    /// Workers that share what they know are of one mind.
    fn shared(&self, policy: &str, seed: u64) -> Result<Gateways> {
        let setup = Setup {
            ranks: self.count,
            ranks_per_pod: self.per_pod,
            capacity_tokens: self.profile.capacity_tokens,
            reports_capacity: true,
            block_tokens: BLOCK_TOKENS,
            seed,
        };
        let policy = policies::named(policy, &setup)?;
        Ok(Gateways::new(vec![policy], self.count, seed))
    }

    fn measure(
        &self,
        interval_ms: f64,
        requests: &[Request],
        gateways: Gateways,
    ) -> Result<Measured> {
        let timing = ReportTiming {
            interval_ms,
            delay_ms: REPORT_DELAY_MS,
        };
        let (profile, count) = (self.profile, self.count);
        let outcome = run(requests, profile, count, gateways, timing, Feed::Open)?;
        Ok(measured(&outcome))
    }
}

fn measured(outcome: &Outcome) -> Measured {
    let records = &outcome.records;
    let times = records
        .iter()
        .map(|record| record.first_token_ms - record.arrived_ms);
    let cached: u64 = records
        .iter()
        .map(|record| record.usage.cached_tokens)
        .sum();
    let prompts: u64 = records
        .iter()
        .map(|record| record.usage.prompt_tokens)
        .sum();
    Measured {
        hit_rate: cached as f64 / prompts.max(1) as f64,
        ttft_ms: Ttft::of(times.collect()),
    }
}
