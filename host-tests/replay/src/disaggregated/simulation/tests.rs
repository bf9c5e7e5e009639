use super::*;
use crate::disaggregated::policies;
use crate::disaggregated::policy::PairSetup;
use crate::policy::Arrival;
use crate::profile::{dense, wide_ep};
use crate::workload::{TraceRequest, scaled};

const TIMING: ReportTiming = ReportTiming {
    interval_ms: 1000.0,
    delay_ms: 5.0,
};

const TRANSFER: Transfer = Transfer {
    latency_ms: 3.0,
    bytes_per_ms: 1e6,
};

fn site(profile: Profile, ratio: &str) -> Site {
    Site {
        profile,
        ratio: ratio.parse().unwrap(),
        transfer: TRANSFER,
    }
}

/// Always the same ranks.
struct Fixed(Pair);

impl PairPolicy for Fixed {
    fn pick(&mut self, _: &Arrival, _: &PairView<'_>) -> Pair {
        self.0
    }
}

fn fixed(requests: &[Request], profile: Profile, prefill: Option<usize>) -> Outcome {
    let pair = Pair { prefill, decode: 0 };
    let policies: Vec<Box<dyn PairPolicy>> = vec![Box::new(Fixed(pair))];
    run(requests, &site(profile, "1:1"), policies, TIMING, 1).unwrap()
}

/// The same prompt of 2,000 tokens, three whole blocks of it, at two times far apart.
fn twice(output_tokens: u64) -> Vec<Request> {
    let request = |at_ms| TraceRequest::new(at_ms, 2000, output_tokens, &[1, 2, 3]);
    scaled(&[request(0.0), request(10_000.0)], 0.2)
}

fn first_token_ms(record: &Record) -> f64 {
    record.first_token_ms - record.arrived_ms
}

/// A step of the dense engine that prefills so many tokens behind others.
fn prefill_ms(tokens: f64, before: f64) -> f64 {
    2.4 + 0.0048 * tokens + 3.8e-7 * (tokens * before + tokens * tokens / 2.0)
}

const FRONTEND_MS: f64 = 15.0 + 0.0018 * 2000.0;

#[track_caller]
fn close(given: f64, expected: f64) {
    assert!((given - expected).abs() < 1e-6, "{given}, not {expected}");
}

#[test]
fn with_a_prefill_rank_the_first_token_waits_for_both_ranks_and_the_transfer() {
    let records = fixed(&twice(3), dense(), Some(0)).records;
    // 2,000 tokens of 77 kB at 1 GB/s; then the decode rank computes the last of them.
    let first = FRONTEND_MS + prefill_ms(2000.0, 0.0) + FRONTEND_MS + 3.0 + 154.0;
    close(first_token_ms(&records[0]), first + prefill_ms(1.0, 1999.0));
    // Three blocks are on both ranks: 464 tokens are computed and fetched.
    let again = FRONTEND_MS + prefill_ms(464.0, 1536.0) + FRONTEND_MS + 3.0 + 464.0 * 0.077;
    close(first_token_ms(&records[1]), again + prefill_ms(1.0, 1999.0));
    assert_eq!(records[0].usage.cached_tokens, 0);
    assert_eq!(records[1].usage.cached_tokens, 1536, "on the prefill rank");
    assert_eq!(records[0].usage.output_tokens, 3);
}

#[test]
fn without_one_the_decode_rank_does_it_all_and_keeps_the_prompt() {
    let outcome = fixed(&twice(3), dense(), None);
    let records = &outcome.records;
    close(
        first_token_ms(&records[0]),
        FRONTEND_MS + prefill_ms(2000.0, 0.0),
    );
    close(
        first_token_ms(&records[1]),
        FRONTEND_MS + prefill_ms(464.0, 1536.0),
    );
    assert_eq!(records[1].usage.cached_tokens, 1536);
    assert_eq!(outcome.prefill_tokens, [0]);
    assert_eq!(outcome.decode_tokens, [2000 + 464 + 2 * 2]);
}

#[test]
fn a_decode_rank_holds_what_it_received_for_prompts_that_it_prefills() {
    struct FirstApart;
    impl PairPolicy for FirstApart {
        fn pick(&mut self, arrival: &Arrival, _: &PairView<'_>) -> Pair {
            Pair {
                prefill: (arrival.number == 0).then_some(0),
                decode: 0,
            }
        }
    }
    let policies: Vec<Box<dyn PairPolicy>> = vec![Box::new(FirstApart)];
    let outcome = run(&twice(3), &site(dense(), "1:1"), policies, TIMING, 1).unwrap();
    assert_eq!(outcome.records[1].usage.cached_tokens, 1536);
    assert_eq!(outcome.prefill_tokens, [2000]);
    // The last token of the first prompt, and what was not received of the second.
    assert_eq!(outcome.decode_tokens, [1 + 464 + 2 * 2]);
}

#[test]
fn what_decodes_waits_for_a_prompt_on_its_own_rank_and_not_for_one_elsewhere() {
    let long = TraceRequest::new(0.0, 500, 2000, &[]);
    let prompt = TraceRequest::new(1000.0, 8000, 1, &[]);
    let requests = scaled(&[long, prompt], 2.0);
    let end_ms = |prefill| fixed(&requests, dense(), prefill).records[0].ended_ms;
    let begun_ms = |prefill| fixed(&requests, dense(), prefill).records[0].first_token_ms;
    let decoding_ms = |prefill| end_ms(prefill) - begun_ms(prefill);
    let longer_ms = decoding_ms(None) - decoding_ms(Some(0));
    // 8,000 tokens of prefill but for the one that is computed anew.
    let expected = prefill_ms(8000.0, 0.0) - prefill_ms(1.0, 7999.0);
    assert!(
        (longer_ms - expected).abs() < 0.5,
        "{longer_ms}, not {expected}"
    );
}

#[test]
fn prompts_on_their_way_wait_on_the_decode_rank_as_it_reports() {
    let ratio = "1:1".parse().unwrap();
    let mut ranks = Ranks::new(dense(), ratio, TRANSFER);
    let request = &twice(3)[0];
    let pair = Pair {
        prefill: Some(0),
        decode: 0,
    };
    ranks.send(request, pair);
    assert_eq!(ranks.pages(Leg::Decode)[0].waiting, 0, "still prefilling");
    ranks.hand_over(request, 0);
    assert_eq!(ranks.pages(Leg::Decode)[0].waiting, 1);
    assert_eq!(ranks.pages(Leg::Prefill)[0].waiting, 0);
}

/// Conversations that go on, of a few blocks each.
fn conversations(count: usize, seed: u64) -> Vec<TraceRequest> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lengths = [0u64; 24];
    let request = |number: usize| {
        let family = random.usize(0..lengths.len());
        lengths[family] = (lengths[family] + random.u64(1..9)) % 60;
        let blocks: Vec<u64> = (0..=lengths[family])
            .map(|place| family as u64 * 1000 + place)
            .collect();
        let tokens = blocks.len() as u64 * 512 + random.u64(0..512);
        TraceRequest::new(number as f64 * 10.0, tokens, random.u64(0..200), &blocks)
    };
    (0..count).map(request).collect()
}

fn outcome(policy: &str, profile: Profile, rate: f64, seed: u64) -> Outcome {
    let site = site(profile, "3:2");
    let policy = |place: u64| {
        let setup = PairSetup {
            ratio: site.ratio,
            ranks_per_pod: 2,
            capacity_tokens: profile.capacity_tokens,
            block_tokens: 512,
            seed: seed + place,
        };
        policies::named(policy, &setup).unwrap()
    };
    let requests = scaled(&conversations(150, seed), rate);
    run(&requests, &site, vec![policy(0), policy(1)], TIMING, seed).unwrap()
}

#[test]
fn every_request_ends_once_with_all_its_tokens_under_every_policy() {
    let tight = Profile {
        capacity_tokens: 70_000,
        ..dense()
    };
    for policy in policies::names() {
        for profile in [dense(), wide_ep(), tight] {
            let requests = conversations(150, 3);
            let outcome = outcome(policy, profile, 40.0, 3);
            for (record, request) in outcome.records.iter().zip(&requests) {
                assert_eq!(
                    record.usage.prompt_tokens, request.prompt_tokens,
                    "{policy}"
                );
                assert_eq!(record.usage.output_tokens, request.output_tokens);
                assert!(record.usage.cached_tokens < request.prompt_tokens);
                assert!(record.first_token_ms > record.arrived_ms);
                assert!(record.ended_ms >= record.first_token_ms);
            }
        }
    }
}

#[test]
fn one_seed_gives_one_result_and_another_seed_another() {
    for policy in policies::names() {
        let records = |seed| outcome(policy, wide_ep(), 2.0, seed).records;
        assert_eq!(records(1), records(1), "{policy}");
        assert_ne!(records(1), records(2), "{policy}");
    }
}

#[test]
fn the_oracle_is_never_worse_than_turns() {
    for profile in [dense(), wide_ep()] {
        for rate in [0.02, 0.1].map(|share| share / profile.costs.prefill_token_ms) {
            let mean_ms = |policy| {
                let records = outcome(policy, profile, rate, 5).records;
                records.iter().map(first_token_ms).sum::<f64>()
            };
            assert!(
                mean_ms("oracle") <= mean_ms("round-robin"),
                "{} {rate}",
                profile.name
            );
        }
    }
}

#[test]
fn a_policy_that_names_a_rank_that_is_not_there_is_an_error() {
    for pair in [
        Pair {
            prefill: Some(1),
            decode: 0,
        },
        Pair {
            prefill: None,
            decode: 1,
        },
    ] {
        let policies: Vec<Box<dyn PairPolicy>> = vec![Box::new(Fixed(pair))];
        assert!(run(&twice(1), &site(dense(), "1:1"), policies, TIMING, 1).is_err());
    }
}
