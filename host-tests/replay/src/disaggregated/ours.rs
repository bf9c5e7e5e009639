//! The deployed decision where prefill and decode are apart, driven as the module in the gateway drives it: one pool of ranks
//! whose workloads' names tell their roles, and one pick.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use routing::{
    BodyEnd, Charge, Condition, Config, Expected, FoundEndpoint, LegPlan, Membership, Pick, Pool,
    Prompt, RankRange, RawConfig, Report, ReportTable, RoleRules, chain, hash_bytes,
};

use super::policy::{Leg, Pair, PairPolicy, PairSetup, PairView};
use crate::engine::BLOCK_TOKENS;
use crate::ours::{BYTES_PER_TOKEN, Ours, rank_ranges};
use crate::policy::{Arrival, RankReport, Usage};
use crate::settings;

/// A request on its way.
struct Open {
    /// On the prefill rank, until the answer begins.
    leg: Option<Charge>,
    decode: Charge,
    prompt: Prompt,
    expected: Option<Expected>,
    picked_ms: u64,
}

/// One gateway.
pub struct OursPair {
    pool: Pool,
    /// Prefill ranks, then decode ranks.
    addresses: Vec<SocketAddr>,
    prefill_ranks: usize,
    capacity_tokens: u64,
    decide_after_blocks: usize,
    table: ReportTable,
    open: HashMap<usize, Open>,
    picks: u64,
}

impl OursPair {
    /// A router, perhaps with settings in its name: `ours:prefillLegCostMs=50`, by the keys of its configuration.
    ///
    /// # Errors
    /// When a setting is not `key=number`, or the router refuses it.
    pub fn named(name: &str, setup: &PairSetup) -> Result<Self> {
        let raw: RawConfig = settings::read(name)?;
        let raw = RawConfig {
            clusters: Some(vec!["ranks".to_string()]),
            rank_capacity_tokens: raw.rank_capacity_tokens.or(Some(setup.capacity_tokens)),
            block_bytes: Some(BLOCK_TOKENS * BYTES_PER_TOKEN),
            ..raw
        };
        let config = Config::try_from(raw).context("the router refuses its configuration")?;
        let decide_after = config.decide_after_bytes() / (BLOCK_TOKENS * BYTES_PER_TOKEN);
        let found = found(setup);
        let mut pool = Pool::new(config);
        pool.list(&Membership::from_found(&found, &RoleRules::default()));
        ensure!(pool.listed() == found.len(), "ranks were lost");
        Ok(Self {
            pool,
            addresses: found.iter().map(|endpoint| endpoint.address).collect(),
            prefill_ranks: setup.ratio.prefill,
            capacity_tokens: setup.capacity_tokens,
            decide_after_blocks: usize::try_from(decide_after)?,
            table: ReportTable::default(),
            open: HashMap::new(),
            picks: 0,
        })
    }

    fn place(&self, address: Option<&SocketAddr>) -> Option<usize> {
        let address = address?;
        self.addresses.iter().position(|known| known == address)
    }

    fn pair(&self, pick: &Pick) -> Pair {
        let leg = pick.plan.leg();
        let decode = self.place(pick.ranks.first()).unwrap_or(0);
        Pair {
            prefill: leg.and_then(|leg| self.place(leg.ranks.first())),
            decode: decode.saturating_sub(self.prefill_ranks),
        }
    }

    /// Counts the request. Of a body that was decided on early the rest has been read by the time its answer ends.
    fn sent(&mut self, arrival: &Arrival, cut: Prompt, pick: Pick, now_ms: u64) {
        let leg = match pick.plan {
            LegPlan::Leg(leg) => Some((leg.charge, leg.insertion)),
            _ => None,
        };
        let mut prompt = cut;
        if prompt.body_end == BodyEnd::Cut {
            let whole = Ours::prompt(arrival, usize::MAX);
            let of_leg = leg.as_ref().map(|(charge, insertion)| (charge, insertion));
            for (charge, insertion) in of_leg.into_iter().chain([(&pick.charge, &pick.insertion)]) {
                let beginning = Some((&prompt, insertion));
                self.pool.learn(charge.rank(), beginning, &whole);
            }
            prompt = whole;
        }
        let open = Open {
            leg: leg.map(|(charge, _)| charge),
            decode: pick.charge,
            prompt,
            expected: pick.expected,
            picked_ms: now_ms,
        };
        self.open.insert(arrival.number, open);
    }

    fn end_leg(&mut self, number: usize) {
        let open = self.open.get_mut(&number);
        if let Some(charge) = open.and_then(|open| open.leg.take()) {
            self.pool.end(charge);
        }
    }
}

/// The ranks as a gateway finds them: prefill ranks first, pods with their ranks on consecutive ports, and workloads with the
/// names of llm-d's manifests.
fn found(setup: &PairSetup) -> Vec<FoundEndpoint> {
    let of = |ranks: usize, network: &str, workload: &str| {
        let ranges = rank_ranges(&setup.of(ranks)).into_iter();
        // Each kind has addresses of its own.
        let ranges = ranges.map(|range| range.replacen("10.0", network, 1));
        let addresses = ranges.filter_map(|range| RankRange::parse(&range));
        let endpoint = |address| FoundEndpoint {
            address,
            cluster: "ranks".to_string(),
            condition: Condition::Serving,
            workload: Some(workload.to_string()),
            namespace: None,
            revision: None,
        };
        let endpoints = addresses.flat_map(|range| range.ranks().collect::<Vec<_>>());
        endpoints.map(endpoint).collect::<Vec<_>>()
    };
    let prefill = of(setup.ratio.prefill, "10.1", "wide-ep-llm-d-prefill");
    let decode = of(setup.ratio.decode, "10.2", "wide-ep-llm-d-decode");
    [prefill, decode].concat()
}

impl PairPolicy for OursPair {
    fn pick(&mut self, arrival: &Arrival, view: &PairView<'_>) -> Pair {
        self.picks += 1;
        let (seed, now_ms) = (chain(2, self.picks), view.now_ms as u64);
        let prompt = Ours::prompt(arrival, self.decide_after_blocks);
        let Some(pick) = self.pool.pick(Some(&prompt), seed, now_ms) else {
            return Pair::default();
        };
        let pair = self.pair(&pick);
        self.sent(arrival, prompt, pick, now_ms);
        pair
    }

    fn prefilled(&mut self, number: usize, _now_ms: f64) {
        self.end_leg(number);
    }

    fn first_token(&mut self, number: usize, _now_ms: f64) {
        if let Some(open) = self.open.get_mut(&number) {
            self.pool.first_byte(&mut open.decode);
        }
    }

    fn end(&mut self, number: usize, usage: Usage, now_ms: f64) {
        self.end_leg(number);
        let Some(open) = self.open.remove(&number) else {
            return;
        };
        self.pool.end(open.decode);
        let Some(expected) = open.expected else {
            return;
        };
        let usage = routing::Usage {
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: Some(usage.cached_tokens),
            completion_tokens: Some(usage.output_tokens),
        };
        let (picked_ms, now_ms) = (open.picked_ms, now_ms as u64);
        self.pool
            .told(&expected, &open.prompt, &usage, picked_ms, now_ms);
    }

    fn reported(&mut self, leg: Leg, rank: usize, report: &RankReport) {
        let page = Report {
            running: Some(report.running),
            waiting: Some(report.waiting),
            kv_usage: Some(report.kv_usage),
            capacity_tokens: Some(self.capacity_tokens),
            ..Report::default()
        };
        let place = match leg {
            Leg::Prefill => rank,
            Leg::Decode => self.prefill_ranks + rank,
        };
        let Some(address) = self.addresses.get(place) else {
            return;
        };
        let now_ms = report.taken_ms as u64;
        let hash = hash_bytes(address.to_string().as_bytes());
        self.table.answered(hash, page, now_ms);
        // All ranks are asked at once: their pages are one table.
        if place + 1 == self.addresses.len() {
            self.pool.reported(&self.table, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::disaggregated::ranks::Ranks;
    use crate::disaggregated::transfer::Transfer;
    use crate::profile::dense;

    fn ours() -> OursPair {
        let setup = PairSetup {
            ratio: "2:2".parse().unwrap(),
            ranks_per_pod: 2,
            capacity_tokens: 100_000,
            block_tokens: 512,
            seed: 1,
        };
        OursPair::named("ours", &setup).unwrap()
    }

    fn pick(ours: &mut OursPair, number: usize, family: u64) -> Pair {
        let truth = Ranks::new(dense(), "2:2".parse().unwrap(), Transfer::NIXL);
        let view = PairView {
            now_ms: 0.0,
            prefill: &[],
            decode: &[],
            truth: &truth,
        };
        let blocks: Vec<u64> = (0..4).map(|place| routing::chain(family, place)).collect();
        let arrival = Arrival {
            number,
            blocks: Rc::from(blocks),
            prompt_tokens: 4 * 512,
        };
        ours.pick(&arrival, &view)
    }

    #[test]
    fn prompts_that_share_nothing_go_to_different_ranks_of_both_kinds() {
        let mut ours = ours();
        let (one, other) = (pick(&mut ours, 0, 7), pick(&mut ours, 1, 8));
        assert!(one.prefill.is_some() && other.prefill.is_some());
        assert_ne!(one.prefill, other.prefill);
        assert_ne!(one.decode, other.decode);
    }

    #[test]
    fn a_decode_rank_that_holds_the_prompt_answers_alone() {
        let mut ours = ours();
        let first = pick(&mut ours, 0, 7);
        ours.prefilled(0, 1.0);
        ours.end(0, Usage::default(), 2.0);
        let again = pick(&mut ours, 1, 7);
        assert_eq!((again.prefill, again.decode), (None, first.decode));
    }

    #[test]
    fn prefill_counts_until_the_answer_begins_and_decode_to_its_end() {
        let mut ours = ours();
        let pair = pick(&mut ours, 0, 7);
        let prefill = ours.addresses[pair.prefill.unwrap()];
        let decode = ours.addresses[2 + pair.decode];
        let loads = |ours: &OursPair| (ours.pool.load(prefill), ours.pool.load(decode));
        assert_eq!(loads(&ours), (Some((2048, 1)), Some((0, 1))));
        ours.prefilled(0, 1.0);
        assert_eq!(loads(&ours), (Some((0, 0)), Some((0, 1))));
        ours.end(0, Usage::default(), 2.0);
        assert_eq!(loads(&ours), (Some((0, 0)), Some((0, 0))));
    }

    #[test]
    fn each_kind_has_addresses_of_its_own_in_the_order_of_its_ranks() {
        let ours = ours();
        let addresses: Vec<String> = ours.addresses.iter().map(SocketAddr::to_string).collect();
        let expected = [
            "10.1.0.1:8000",
            "10.1.0.1:8001",
            "10.2.0.1:8000",
            "10.2.0.1:8001",
        ];
        assert_eq!(addresses, expected);
    }
}
