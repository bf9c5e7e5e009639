use super::*;
use crate::matrix::Site;
use crate::peers::Setup;
use crate::policies;
use crate::profile::{dense, wide_ep};
use crate::workload::{Trace, TraceRequest, scaled};

const TIMING: ReportTiming = ReportTiming {
    interval_ms: 1000.0,
    delay_ms: 5.0,
};

/// Conversations that go on, of a few blocks each.
fn conversations(count: usize, seed: u64) -> Vec<TraceRequest> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lengths = [0u64; 24];
    let request = |number: usize| {
        let family = random.usize(0..lengths.len());
        lengths[family] = (lengths[family] + random.u64(1..9)) % 60;
        let blocks: Vec<u64> = (0..lengths[family] + 1)
            .map(|place| family as u64 * 1000 + place)
            .collect();
        let tokens = blocks.len() as u64 * 512 + random.u64(0..512);
        TraceRequest::new(number as f64 * 10.0, tokens, random.u64(0..200), &blocks)
    };
    (0..count).map(request).collect()
}

fn gateways(policy: &str, ranks: usize, count: usize, seed: u64) -> Gateways {
    let made = (0..count).map(|place| {
        let setup = Setup {
            ranks,
            ranks_per_pod: 2,
            capacity_tokens: dense().capacity_tokens,
            reports_capacity: true,
            block_tokens: 512,
            seed: seed + place as u64,
        };
        policies::named(policy, &setup).unwrap()
    });
    Gateways::new(made.collect(), ranks, seed)
}

fn outcome(policy: &str, profile: Profile, rate: f64, seed: u64, feed: Feed) -> Outcome {
    let requests = scaled(&conversations(400, seed), rate);
    let gateways = gateways(policy, 4, 1, seed);
    run(&requests, profile, 4, gateways, TIMING, feed).unwrap()
}

fn mean_first_token_ms(outcome: &Outcome) -> f64 {
    let times = outcome
        .records
        .iter()
        .map(|r| r.first_token_ms - r.arrived_ms);
    times.sum::<f64>() / outcome.records.len() as f64
}

fn assert_whole(outcome: &Outcome, requests: &[crate::workload::Request], profile: &Profile) {
    for (record, request) in outcome.records.iter().zip(requests) {
        let usage = record.usage;
        assert_eq!(usage.prompt_tokens, request.arrival.prompt_tokens);
        assert_eq!(
            usage.output_tokens,
            profile.output_tokens(request.output_tokens)
        );
        assert!(usage.cached_tokens < usage.prompt_tokens);
        let frontend_ms = profile.frontend_ms(usage.prompt_tokens);
        assert!(record.first_token_ms > record.arrived_ms + frontend_ms);
        assert!(record.ended_ms >= record.first_token_ms);
    }
}

#[test]
fn every_request_ends_once_with_all_its_tokens_under_every_policy() {
    let tight = Profile {
        capacity_tokens: 70_000,
        ..dense()
    };
    for policy in policies::names() {
        for profile in [dense(), wide_ep(), tight, wide_ep().prefill_only()] {
            let requests = scaled(&conversations(150, 3), 40.0);
            let gateways = gateways(policy, 4, 2, 3);
            let outcome = run(&requests, profile, 4, gateways, TIMING, Feed::Open).unwrap();
            assert_whole(&outcome, &requests, &profile);
        }
    }
}

#[test]
fn ranks_compute_what_was_not_cached_and_more_only_when_sequences_are_thrown_back() {
    let outcome = outcome("ours", dense(), 30.0, 1, Feed::Open);
    assert_eq!(outcome.preemptions, 0);
    let needed = outcome.records.iter().map(|record| {
        let usage = record.usage;
        usage.prompt_tokens - usage.cached_tokens + usage.output_tokens - 1
    });
    assert_eq!(
        needed.sum::<u64>(),
        outcome.computed_tokens.iter().sum::<u64>()
    );
}

#[test]
fn one_seed_gives_one_result_and_another_seed_another() {
    for policy in ["random", "least-in-flight", "oracle", "ours"] {
        let records = |seed| outcome(policy, wide_ep(), 2.0, seed, Feed::Open).records;
        assert_eq!(records(1), records(1), "{policy}");
        assert_ne!(records(1), records(2), "{policy}");
    }
}

#[test]
fn the_oracle_is_never_worse_than_chance_or_turns() {
    for profile in [dense(), wide_ep().free_running(), wide_ep()] {
        for rate in [0.02, 0.1].map(|share| share / profile.costs.prefill_token_ms) {
            let ms = |policy| mean_first_token_ms(&outcome(policy, profile, rate, 5, Feed::Open));
            let oracle = ms("oracle");
            for other in ["random", "round-robin", "least-in-flight"] {
                assert!(oracle <= ms(other), "{} {rate} {other}", profile.name);
            }
        }
    }
}

#[test]
fn the_oracle_foretells_the_first_token_of_the_last_request_exactly() {
    use crate::policy::{Arrival, Policy, View};
    /// Spreads all requests, and foretells the last.
    struct Foretelling(std::rc::Rc<std::cell::Cell<f64>>);
    impl Policy for Foretelling {
        fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
            let rank = arrival.number % 4;
            self.0.set(view.truth.first_token_ms(rank, arrival));
            rank
        }
    }
    for seed in 0..10 {
        for rate in [5.0, 60.0, 400.0] {
            let told = std::rc::Rc::new(std::cell::Cell::new(0.0));
            let requests = scaled(&conversations(200, seed), rate);
            let gateways = Gateways::new(vec![Box::new(Foretelling(told.clone()))], 4, seed);
            let outcome = run(&requests, dense(), 4, gateways, TIMING, Feed::Open).unwrap();
            let last = outcome.records.last().unwrap();
            assert!(
                (told.get() - last.first_token_ms).abs() < 1e-6,
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_closed_feed_keeps_as_many_requests_in_flight_as_it_says() {
    let outcome = outcome("round-robin", dense(), 1.0, 1, Feed::Closed(10));
    let mut edges: Vec<(f64, i32)> = Vec::new();
    for record in &outcome.records {
        edges.push((record.arrived_ms, 1));
        edges.push((record.ended_ms, -1));
    }
    edges.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    let mut in_flight = 0;
    let most = edges.iter().map(|edge| {
        in_flight += edge.1;
        in_flight
    });
    assert_eq!(most.max(), Some(10));
    assert_eq!(
        outcome.records[10].arrived_ms,
        outcome
            .records
            .iter()
            .map(|r| r.ended_ms)
            .fold(f64::INFINITY, f64::min)
    );
}

#[test]
fn reports_come_at_their_interval_and_after_their_delay() {
    use std::cell::RefCell;
    use std::rc::Rc;

    use crate::policy::{Arrival, Policy, RankReport, View};
    struct Noting(Rc<RefCell<Vec<(usize, f64)>>>);
    impl Policy for Noting {
        fn pick(&mut self, arrival: &Arrival, view: &View<'_>) -> usize {
            for report in view.reports.iter().flatten() {
                assert!(view.now_ms >= report.taken_ms + 300.0);
                assert!(view.now_ms < report.taken_ms + 1300.0);
            }
            arrival.number % 2
        }
        fn reported(&mut self, rank: usize, report: &RankReport) {
            self.0.borrow_mut().push((rank, report.taken_ms));
        }
    }
    let noted = Rc::new(RefCell::new(Vec::new()));
    let timing = ReportTiming {
        interval_ms: 1000.0,
        delay_ms: 300.0,
    };
    let requests = scaled(&conversations(60, 1), 10.0);
    let gateways = Gateways::new(vec![Box::new(Noting(noted.clone()))], 2, 1);
    run(&requests, dense(), 2, gateways, timing, Feed::Open).unwrap();
    let noted = noted.borrow();
    assert_eq!(noted[..4], [(0, 0.0), (1, 0.0), (0, 1000.0), (1, 1000.0)]);
}

#[test]
fn a_rank_that_is_not_there_is_an_error() {
    struct Wrong;
    impl crate::policy::Policy for Wrong {
        fn pick(&mut self, _: &crate::policy::Arrival, _: &View<'_>) -> usize {
            9
        }
    }
    let requests = scaled(&conversations(3, 1), 1.0);
    let gateways = Gateways::new(vec![Box::new(Wrong)], 2, 1);
    let error = run(&requests, dense(), 2, gateways, TIMING, Feed::Open).unwrap_err();
    assert_eq!(error.to_string(), "a policy picked rank 9");
}

#[test]
fn routers_that_do_not_see_each_other_find_less() {
    let trace = Trace {
        name: "t".to_string(),
        requests: conversations(600, 1),
    };
    let cached = |gateways_share| {
        let matrix = crate::matrix::Matrix {
            traces: vec![trace.clone()],
            engines: vec![dense()],
            loads: vec![0.7],
            policies: vec!["ours".to_string()],
            seeds: vec![1],
            requests: 600,
            site: Site {
                ranks: 8,
                ranks_per_pod: 8,
                gateways: 8,
                gateways_share,
                report_delay_ms: 5.0,
                report_interval_ms: None,
                unknowns: Default::default(),
            },
        };
        matrix.run(1, |_, _, _| ()).unwrap()[0].figures.hit_rate
    };
    assert!(cached(true) > 1.1 * cached(false));
}

#[test]
fn caches_that_are_emptied_cost_hits_and_no_request() {
    let cached = |per_hour| {
        let requests = scaled(&conversations(400, 1), 10.0);
        let gateways = gateways("ours", 4, 1, 1);
        let resets = Resets::new(per_hour, 1);
        let outcome = run_with(&requests, dense(), 4, gateways, TIMING, Feed::Open, resets);
        let outcome = outcome.unwrap();
        assert_whole(&outcome, &requests, &dense());
        let records = outcome.records.iter();
        records
            .map(|record| record.usage.cached_tokens)
            .sum::<u64>()
    };
    let (never, each_second) = (cached(0.0), cached(3600.0));
    assert!(each_second < never * 9 / 10, "{each_second} and {never}");
    assert_eq!(each_second, cached(3600.0), "one seed gives one run");
}
