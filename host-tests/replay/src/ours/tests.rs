use std::rc::Rc;

use super::*;
use crate::policy::Truth;

struct Untold;

impl Truth for Untold {
    fn first_token_ms(&self, _: usize, _: &Arrival) -> f64 {
        panic!("the truth is the oracle's alone")
    }

    fn cached_tokens(&self, _: usize, _: &Arrival) -> u64 {
        panic!("the truth is the oracle's alone")
    }
}

fn setup(ranks: usize) -> Setup {
    Setup {
        ranks,
        ranks_per_pod: 8,
        capacity_tokens: 100_000,
        reports_capacity: true,
        block_tokens: BLOCK_TOKENS,
        seed: 1,
    }
}

fn ours(ranks: usize) -> Ours {
    Ours::named("ours", &setup(ranks)).unwrap()
}

fn arrival(number: usize, family: u64, blocks: u64) -> Arrival {
    let blocks: Vec<u64> = (0..blocks).map(|place| chain(family, place)).collect();
    Arrival {
        number,
        prompt_tokens: blocks.len() as u64 * BLOCK_TOKENS + 10,
        blocks: Rc::from(blocks),
    }
}

fn pick(ours: &mut Ours, arrival: &Arrival, now_ms: f64) -> usize {
    let view = View {
        now_ms,
        reports: &[],
        truth: &Untold,
    };
    ours.pick(arrival, &view)
}

#[test]
fn pods_have_their_ranks_on_consecutive_ports() {
    assert_eq!(
        rank_ranges(&setup(18)),
        [
            "10.0.0.1:8000-8007",
            "10.0.0.2:8000-8007",
            "10.0.0.3:8000-8001"
        ]
    );
}

#[test]
fn a_prompt_goes_back_to_the_rank_that_had_its_start() {
    let mut ours = ours(16);
    for family in 0..40 {
        let number = usize::try_from(family).unwrap();
        let first = pick(&mut ours, &arrival(number, family, 20), 1.0);
        ours.first_token(number, first, 2.0);
        ours.end(number, first, Usage::default(), 3.0);
        let again = pick(&mut ours, &arrival(1000 + number, family, 25), 4.0);
        ours.end(1000 + number, again, Usage::default(), 5.0);
        assert_eq!(first, again);
    }
}

#[test]
fn requests_spread_while_none_is_answered_and_nothing_stays_counted_at_the_end() {
    let mut ours = ours(8);
    let picks = (0..8).map(|number| pick(&mut ours, &arrival(number, number as u64, 20), 1.0));
    let mut picks: Vec<usize> = picks.collect();
    for (number, rank) in picks.iter().enumerate() {
        ours.end(number, *rank, Usage::default(), 2.0);
    }
    let addresses: Vec<SocketAddr> = ours.ranks.keys().copied().collect();
    assert!(addresses.iter().all(|a| ours.pool.load(*a) == Some((0, 0))));
    picks.sort_unstable();
    assert_eq!(picks, (0..8).collect::<Vec<_>>());
}

#[test]
fn the_first_token_ends_what_is_queued_and_not_what_is_in_flight() {
    let mut ours = ours(1);
    let rank = pick(&mut ours, &arrival(0, 1, 2), 1.0);
    let load = |ours: &Ours| ours.ranks.keys().next().and_then(|a| ours.pool.load(*a));
    assert_eq!(load(&ours), Some((1034, 1)));
    ours.first_token(0, rank, 2.0);
    assert_eq!(load(&ours), Some((0, 1)));
}

#[test]
fn reports_reach_the_router() {
    let mut ours = ours(3);
    let report = |running| RankReport {
        running,
        waiting: 0,
        kv_usage: 0.1,
        taken_ms: 1000.0,
    };
    for rank in 0..3 {
        ours.reported(rank, &report(if rank == 1 { 0 } else { 50 }));
    }
    assert_eq!(ours.pool.fresh_reports(1500), 3);
    for number in 0..5 {
        let rank = pick(&mut ours, &arrival(number, number as u64, 1), 1500.0);
        assert_eq!(rank, 1, "the others are busy with what others sent");
        ours.end(number, rank, Usage::default(), 1501.0);
    }
}

#[test]
fn of_a_prompt_longer_than_the_reader_waits_for_the_leading_blocks_count() {
    let ours = ours(2);
    let long = arrival(0, 1, 500);
    let prompt = Ours::prompt(&long, ours.decide_after_blocks);
    // 768 KiB of 2 KiB blocks.
    assert_eq!((prompt.blocks.len(), prompt.body_end), (384, BodyEnd::Cut));
    assert_eq!(prompt.tokens(), long.prompt_tokens);
    let short = Ours::prompt(&arrival(0, 1, 3), ours.decide_after_blocks);
    assert_eq!((short.blocks.len(), short.body_end), (3, BodyEnd::Whole));
    assert_eq!(short.anchor, short.blocks[1].chain_hash);
    assert_eq!(short.tokens_in(3), 3 * BLOCK_TOKENS);
}

#[test]
fn prompts_shorter_than_a_block_have_nothing_in_common() {
    let (one, other) = (arrival(0, 1, 0), arrival(1, 1, 0));
    assert_ne!(anchor(&one), anchor(&other));
}

#[test]
fn settings_in_a_name_are_those_of_the_configuration() {
    let ours = Ours::named("ours:missWeight=5.5+scrapeIntervalMs=200", &setup(2)).unwrap();
    let config = ours.pool.config();
    assert_eq!(
        (config.weights().miss_weight, config.scrape_interval_ms()),
        (Some(5.5), 200)
    );
    for wrong in [
        "ours:missWeight",
        "ours:missWeight=a",
        "ours:weight=1",
        "ours:missWeight=-1",
    ] {
        assert!(Ours::named(wrong, &setup(2)).is_err(), "{wrong}");
    }
}

#[test]
fn answers_correct_what_is_believed_unless_the_loop_is_open() {
    for (name, still_matches) in [("ours", false), ("ours-open", true)] {
        let roomy = Setup {
            capacity_tokens: 1_000_000,
            ..setup(1)
        };
        let mut ours = Ours::named(name, &roomy).unwrap();
        for number in 0..3 {
            pick(&mut ours, &arrival(number, number as u64, 20), 1.0);
            ours.end(number, 0, usage(0), 2.0);
        }
        // A kind of request that was never answered from a cache proves nothing.
        pick(&mut ours, &arrival(5, 0, 20), 2.5);
        ours.end(5, 0, usage(20 * BLOCK_TOKENS), 2.6);
        for number in 0..2 {
            pick(&mut ours, &arrival(10 + number, number as u64, 20), 3.0);
            ours.end(10 + number, 0, usage(0), 4.0);
        }
        // Twice nothing was there of what had just been sent: so the third is gone, too.
        let prompt = Ours::prompt(&arrival(20, 2, 20), usize::MAX);
        let picked = ours.pool.pick(Some(&prompt), 0, 5).unwrap();
        assert_eq!(picked.matched_tokens > 0, still_matches, "{name}");
    }
}

fn usage(cached_tokens: u64) -> Usage {
    Usage {
        prompt_tokens: 20 * BLOCK_TOKENS + 10,
        cached_tokens,
        output_tokens: 1,
    }
}

struct HeldBy(usize);

impl Truth for HeldBy {
    fn first_token_ms(&self, _: usize, _: &Arrival) -> f64 {
        panic!("the truth is the oracle's alone")
    }

    fn cached_tokens(&self, rank: usize, arrival: &Arrival) -> u64 {
        if rank == self.0 {
            arrival.blocks.len() as u64 * BLOCK_TOKENS
        } else {
            0
        }
    }
}

#[test]
fn a_perfect_index_knows_what_is_there_and_one_of_its_own_only_what_it_sent() {
    let pick_by = |ours: &mut Ours, number: usize, holder: usize| {
        let view = View {
            now_ms: 1.0,
            reports: &[],
            truth: &HeldBy(holder),
        };
        let arrival = arrival(number, 1, 20);
        let rank = ours.pick(&arrival, &view);
        ours.end(number, rank, Usage::default(), 2.0);
        rank
    };
    let mut perfect = Ours::named("ours-perfect", &setup(8)).unwrap();
    let mut own = Ours::named("ours-perfect-own", &setup(8)).unwrap();
    for holder in 0..8 {
        assert_eq!(pick_by(&mut perfect, holder, holder), holder);
    }
    let first = pick_by(&mut own, 0, 99);
    let elsewhere = (first + 1) % 8;
    assert_eq!(
        pick_by(&mut own, 1, elsewhere),
        first,
        "not sent there by it"
    );
    assert_eq!(pick_by(&mut own, 2, first), first);
}
