use super::*;
use crate::{Endpoint, PromptReader, RawConfig};

mod apart;
#[cfg(not(target_arch = "wasm32"))]
mod apart_properties;
mod bounded;
#[cfg(not(target_arch = "wasm32"))]
mod feedback;
#[cfg(not(target_arch = "wasm32"))]
mod properties;
mod ranks;
mod workers;

/// Bytes of a block.
const BLOCK: usize = 64;

/// A miss weighs always the same, so that costs are those of one request.
fn config(ranks: &[&str]) -> Config {
    configured(ranks, Some(3.0))
}

fn configured(ranks: &[&str], miss_weight: Option<f64>) -> Config {
    Config::try_from(RawConfig {
        ranks: Some(ranks.iter().map(ToString::to_string).collect()),
        block_bytes: Some(64),
        rank_capacity_tokens: Some(16_384),
        miss_weight,
        ..RawConfig::default()
    })
    .unwrap()
}

fn pool(ranks: &[&str]) -> Pool {
    Pool::new(config(ranks))
}

fn rank(name: &str) -> SocketAddr {
    name.parse().unwrap()
}

/// A prompt of `blocks` blocks that starts like no other.
fn prompt(name: &str, blocks: usize) -> Prompt {
    let mut text = name.to_string() + ": ";
    text.extend(std::iter::repeat_n('x', BLOCK * blocks - text.len()));
    read(&text)
}

fn read(text: &str) -> Prompt {
    let mut reader = PromptReader::new(Endpoint::Completions, BLOCK);
    reader.feed(format!("{{\"prompt\":{text:?}}}").as_bytes());
    reader.finish(true)
}

const TWO_PODS: [&str; 2] = ["10.0.0.1:8000-8001", "10.0.0.2:8000-8001"];

#[test]
fn a_prompt_goes_where_its_start_went() {
    let mut pool = pool(&TWO_PODS);
    let first = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    assert_eq!(
        (first.reason, first.matched_tokens, first.prompt_tokens),
        (Reason::LowestCost, 0, 640)
    );
    assert_eq!(first.charge.queued_tokens(), 640);
    let again = pool.pick(Some(&prompt("alice", 50)), 0, 0).unwrap();
    assert_eq!(again.ranks[0], first.ranks[0]);
    assert_eq!(
        (again.reason, again.matched_tokens, again.prompt_tokens),
        (Reason::PrefixHit, 640, 800)
    );
    assert_eq!(again.charge.queued_tokens(), 160);
}

#[test]
fn while_others_idle_a_prompt_does_not_wait_for_its_twin() {
    let mut pool = Pool::new(configured(&TWO_PODS, None));
    let first = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    let twin = pool.pick(Some(&prompt("alice", 40)), 0, 1).unwrap();
    assert_ne!(twin.ranks[0], first.ranks[0]);
    assert_eq!(twin.matched_tokens, 0);
}

#[test]
fn while_all_ranks_are_busy_a_prompt_waits_for_its_twin() {
    let mut pool = Pool::new(configured(&TWO_PODS, None));
    let mut names = (0..).map(|number| format!("guest {number}"));
    let mut now_ms = 0;
    // A minute in which the ranks always have something to prefill.
    while now_ms < 60_000 {
        let queued = |pool: &Pool, name: &str| pool.load(rank(name)).unwrap().0;
        for name in [
            "10.0.0.1:8000",
            "10.0.0.1:8001",
            "10.0.0.2:8000",
            "10.0.0.2:8001",
        ] {
            while queued(&pool, name) < 640 {
                pool.pick(Some(&prompt(&names.next().unwrap(), 40)), 0, now_ms)
                    .unwrap();
            }
        }
        now_ms += 1000;
        pool.pick(Some(&prompt(&names.next().unwrap(), 1)), 0, now_ms)
            .unwrap();
    }
    let first = pool.pick(Some(&prompt("alice", 40)), 0, now_ms).unwrap();
    let twin = pool.pick(Some(&prompt("alice", 40)), 0, now_ms).unwrap();
    assert_eq!((twin.ranks[0], twin.matched_tokens), (first.ranks[0], 640));
}

#[test]
fn long_prompts_that_run_make_a_rank_dearer_though_their_prefill_is_over() {
    let mut pool = pool(&["10.0.0.1:8000", "10.0.0.2:8000"]);
    let mut long = pool.pick(Some(&prompt("alice", 400)), 0, 0).unwrap();
    pool.first_byte(&mut long.charge);
    let mut short = pool.pick(Some(&prompt("bob", 4)), 0, 0).unwrap();
    pool.first_byte(&mut short.charge);
    assert_ne!(short.ranks[0], long.ranks[0]);
    // 6,400 and 64 tokens run. Without them both would cost the same, and the order of the prompt's start would decide.
    for guest in 0..20 {
        let pick = pool
            .pick(Some(&prompt(&format!("guest {guest}"), 1)), 0, 0)
            .unwrap();
        assert_eq!(pick.ranks[0], short.ranks[0], "guest {guest}");
        pool.end(pick.charge);
    }
}

#[test]
fn the_named_ranks_are_three_with_the_other_pod_second() {
    let pick = pool(&TWO_PODS)
        .pick(Some(&prompt("alice", 4)), 0, 0)
        .unwrap();
    assert_eq!(pick.ranks.len(), 3);
    assert_ne!(pick.ranks[0].ip(), pick.ranks[1].ip());
}

#[test]
fn a_burst_of_equal_requests_without_a_prompt_is_spread_by_load() {
    let mut pool = pool(&TWO_PODS);
    let picks: Vec<Pick> = (0..8).filter_map(|seed| pool.pick(None, seed, 0)).collect();
    for pick in &picks {
        assert_eq!(
            (pick.reason, pick.prompt_tokens, pick.charge.queued_tokens()),
            (Reason::NoPrompt, 0, 0)
        );
        assert_eq!(pool.load(pick.ranks[0]), Some((0, 2)));
    }
}

#[test]
fn a_queue_that_costs_more_than_the_miss_is_avoided() {
    let mut pool = pool(&["10.0.0.1:8000", "10.0.0.2:8000"]);
    let home = pool.pick(Some(&prompt("alice", 100)), 0, 0).unwrap();
    let long = pool.pick(Some(&prompt("alice", 4000)), 0, 0).unwrap();
    assert_eq!(
        long.ranks[0], home.ranks[0],
        "100 blocks of match outweigh 100 blocks of queue"
    );
    let elsewhere = pool.pick(Some(&prompt("alice", 100)), 0, 0).unwrap();
    assert_ne!(elsewhere.ranks[0], home.ranks[0]);
    assert_eq!(elsewhere.reason, Reason::LowestCost);
}

#[test]
fn the_cost_of_a_pick_is_what_stood_before_it() {
    let mut pool = pool(&["10.0.0.1:8000"]);
    let first = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    assert_eq!(
        (first.cost.queue_seconds, first.cost.in_flight_seconds),
        (0.0, 0.0)
    );
    let second = pool.pick(Some(&prompt("bob", 40)), 0, 0).unwrap();
    assert_eq!(
        (second.cost.queue_seconds, second.cost.in_flight_seconds),
        (640.0 / 20_000.0, 0.01)
    );
}

#[test]
fn an_unreadable_body_counts_as_no_prompt() {
    let mut pool = pool(&TWO_PODS);
    let unreadable = Prompt {
        body_end: BodyEnd::Unreadable,
        ..prompt("alice", 9)
    };
    let pick = pool.pick(Some(&unreadable), 5, 0).unwrap();
    assert_eq!(
        (pick.reason, pick.prompt_tokens, pick.charge.queued_tokens()),
        (Reason::NoPrompt, 0, 0)
    );
    assert_eq!(pick.ranks, pool_pick_without_prompt(5));
    assert_eq!(
        pool.pick(Some(&prompt("alice", 9)), 5, 0)
            .unwrap()
            .matched_tokens,
        0
    );
}

fn pool_pick_without_prompt(seed: u64) -> Vec<SocketAddr> {
    pool(&TWO_PODS).pick(None, seed, 0).unwrap().ranks
}

#[test]
fn charges_are_released_at_the_first_byte_and_the_end() {
    let mut pool = pool(&["10.0.0.1:8000"]);
    let address = rank("10.0.0.1:8000");
    let mut charge = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap().charge;
    assert_eq!(pool.load(address), Some((640, 1)));
    assert_eq!(
        (pool.first_byte(&mut charge), pool.first_byte(&mut charge)),
        (640, 0)
    );
    assert_eq!(pool.load(address), Some((0, 1)));
    assert_eq!(pool.end(charge), 0);
    assert_eq!(pool.load(address), Some((0, 0)));
    assert_eq!(pool.load(rank("10.0.0.9:8000")), None);
}

#[test]
fn a_rank_that_stays_keeps_its_prefixes_and_its_load() {
    let mut pool = pool(&["10.0.0.1:8000"]);
    let charge = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap().charge;
    pool.reconfigure(config(&["10.0.0.3:8000", "10.0.0.1:8000", "10.0.0.2:8000"]));
    assert_eq!(pool.load(rank("10.0.0.1:8000")), Some((640, 1)));
    let again = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    assert_eq!(
        (again.ranks[0], again.matched_tokens),
        (rank("10.0.0.1:8000"), 640)
    );
    pool.end(charge);
    pool.end(again.charge);
    assert_eq!(pool.load(rank("10.0.0.1:8000")), Some((0, 0)));
}

#[test]
fn a_rank_that_left_is_not_picked_and_its_charges_end_quietly() {
    let mut pool = pool(&["10.0.0.1:8000", "10.0.0.2:8000"]);
    let charge = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    let (left, stays) = (charge.ranks[0], charge.ranks[1]);
    pool.reconfigure(config(&[&stays.to_string()]));
    for seed in 0..20 {
        assert_eq!(
            pool.pick(Some(&prompt("alice", 40)), seed, 0)
                .unwrap()
                .ranks,
            [stays]
        );
    }
    assert_eq!(pool.end(charge.charge), 640);
    assert_eq!(pool.load(left), Some((0, 0)));
}

#[test]
fn a_rank_that_takes_a_seat_over_is_cold_and_idle_also_with_more_capacity() {
    let mut pool = pool(&["10.0.0.1:8000"]);
    let pick = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    pool.end(pick.charge);
    let mut raw = RawConfig {
        ranks: Some(vec!["10.0.0.2:8000".to_string()]),
        ..RawConfig::default()
    };
    (raw.block_bytes, raw.rank_capacity_tokens) = (Some(64), Some(10_000_000));
    pool.reconfigure(Config::try_from(raw).unwrap());
    assert_eq!(pool.load(rank("10.0.0.2:8000")), Some((0, 0)));
    let cold = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    assert_eq!(
        (cold.ranks[0], cold.matched_tokens),
        (rank("10.0.0.2:8000"), 0)
    );
}

#[test]
fn a_seat_with_requests_in_flight_is_not_taken_over() {
    let mut pool = pool(&["10.0.0.1:8000"]);
    let charge = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap().charge;
    pool.reconfigure(config(&["10.0.0.2:8000"]));
    assert_eq!(pool.load(rank("10.0.0.2:8000")), Some((0, 0)));
    assert_eq!(pool.load(rank("10.0.0.1:8000")), Some((640, 1)));
    pool.reconfigure(config(&["10.0.0.1:8000"]));
    assert_eq!(pool.load(rank("10.0.0.1:8000")), Some((640, 1)));
    pool.end(charge);
    assert_eq!(pool.load(rank("10.0.0.1:8000")), Some((0, 0)));
}

#[test]
fn seats_are_used_again_so_that_their_number_is_bounded() {
    let mut pool = pool(&["10.0.0.1:8000-8007"]);
    for pod in 2..100 {
        pool.reconfigure(config(&[&format!("10.0.0.{pod}:8000-8007")]));
    }
    assert_eq!(pool.seats.len(), 8);
}

#[test]
fn other_blocks_start_the_index_anew_and_keep_the_load() {
    let mut pool = pool(&["10.0.0.1:8000"]);
    let charge = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap().charge;
    let raw = RawConfig {
        ranks: Some(vec!["10.0.0.1:8000".to_string()]),
        block_bytes: Some(128),
        ..RawConfig::default()
    };
    pool.reconfigure(Config::try_from(raw).unwrap());
    assert_eq!(pool.config().block_bytes(), 128);
    assert_eq!(pool.load(rank("10.0.0.1:8000")), Some((640, 1)));
    assert_eq!(
        pool.pick(Some(&prompt("alice", 40)), 0, 0)
            .unwrap()
            .matched_tokens,
        0
    );
    pool.end(charge);
}

#[test]
fn another_hash_seed_starts_the_index_anew_and_the_same_one_does_not() {
    let seeded = |text: &str| {
        Config::try_from(RawConfig {
            ranks: Some(vec!["10.0.0.1:8000".to_string()]),
            block_bytes: Some(64),
            hash_seed: Some(text.to_string()),
            ..RawConfig::default()
        })
        .unwrap()
    };
    let mut pool = Pool::keyed(seeded("one"), 5);
    let alice = prompt("alice", 40);
    let mut matched = |text: &str| {
        pool.reconfigure(seeded(text));
        let pick = pool.pick(Some(&alice), 0, 0).unwrap();
        pool.end(pick.charge);
        pick.matched_tokens
    };
    assert_eq!(
        ["one", "one", "two", "two"].map(&mut matched),
        [0, 640, 0, 640]
    );
}

#[test]
fn pools_with_different_secrets_pick_the_same() {
    for name in ["alice", "bob", "carol", "dave", "erin", "frank"] {
        let prompt = prompt(name, 40);
        let picked = [0, 1, 99].map(|secret| {
            let mut pool = Pool::keyed(config(&TWO_PODS), secret);
            pool.pick(Some(&prompt), secret, 0).unwrap().ranks
        });
        assert!(picked.iter().all(|ranks| *ranks == picked[0]), "{name}");
    }
}

#[test]
fn equal_pools_that_share_nothing_agree() {
    let reversed = [
        "10.0.0.2:8001",
        "10.0.0.2:8000",
        "10.0.0.1:8001",
        "10.0.0.1:8000",
    ];
    for name in ["alice", "bob", "carol", "dave", "erin", "frank"] {
        let prompt = prompt(name, 9);
        let one = pool(&TWO_PODS).pick(Some(&prompt), 1, 0).unwrap().ranks;
        assert_eq!(
            pool(&reversed).pick(Some(&prompt), 2, 0).unwrap().ranks,
            one,
            "{name}"
        );
    }
}
