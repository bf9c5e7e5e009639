//! Ranks that come, go, fail, restart and report.

use super::*;
use crate::{Attempt, Condition, Failure, Member, Report, ReportTable, Role};

/// More than an interval of reports.
const LATER_MS: u64 = 10_000;

fn attempt(now_ms: u64) -> Attempt {
    Attempt {
        picked_ms: now_ms,
        ended_ms: now_ms,
    }
}

fn fail(pool: &mut Pool, name: &str, failure: Failure, times: usize, now_ms: u64) {
    for _ in 0..times {
        pool.failed(rank(name), failure, attempt(now_ms), now_ms);
    }
}

/// The ranks of some picks of prompts that nobody holds.
fn picked(pool: &mut Pool, picks: usize, now_ms: u64) -> Vec<SocketAddr> {
    let name = |pick: usize| format!("{now_ms} {pick}");
    let picks = (0..picks).filter_map(|pick| pool.pick(Some(&prompt(&name(pick), 4)), 0, now_ms));
    picks.map(|pick| pick.ranks[0]).collect()
}

fn hash(name: &str) -> u64 {
    crate::seats::address_hash(rank(name))
}

fn report(in_flight: u32) -> Report {
    Report {
        running: Some(in_flight),
        waiting: Some(0),
        ..Report::default()
    }
}

fn reports(of: &[(&str, Report)], now_ms: u64) -> ReportTable {
    let mut table = ReportTable::default();
    for (name, report) in of {
        table.answered(hash(name), *report, now_ms);
    }
    table
}

#[test]
fn a_rank_that_refuses_connections_is_named_no_more_and_forgotten() {
    let mut pool = pool(&TWO_PODS);
    let home = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap().ranks[0].to_string();
    fail(&mut pool, &home, Failure::Connect, 2, 0);
    for pick in (0..20).filter_map(|seed| pool.pick(None, seed, 1)) {
        assert!(pick.ranks.iter().all(|named| *named != rank(&home)));
    }
    let again = pool.pick(Some(&prompt("alice", 40)), 0, LATER_MS).unwrap();
    assert_eq!(again.matched_tokens, 0, "its cache went with its process");
}

#[test]
fn a_rank_that_comes_back_gets_one_request_and_then_more() {
    let ranks = ["10.0.0.1:8000", "10.0.0.2:8000"];
    let mut pool = pool(&ranks);
    fail(&mut pool, ranks[0], Failure::Connect, 2, 0);
    let on_it = |picks: &[SocketAddr]| picks.iter().filter(|pick| **pick == rank(ranks[0])).count();
    assert_eq!(on_it(&picked(&mut pool, 20, 1)), 0);
    assert_eq!(on_it(&picked(&mut pool, 20, 2000)), 1, "a probe");
    let probed = pool.seats.rank_of(hash(ranks[0])).unwrap();
    for now_ms in [2010, 2011, 2012] {
        pool.answered(probed, attempt(now_ms), true, now_ms);
    }
    let more = on_it(&picked(&mut pool, 20, 2020));
    assert!((1..4).contains(&more), "{more} after three answers");
}

#[test]
fn a_rank_that_fails_at_once_attracts_nobody_though_it_is_idle() {
    let ranks = ["10.0.0.1:8000-8003"];
    let mut pool = pool(&ranks);
    let bad = rank("10.0.0.1:8000");
    let mut on_bad = 0;
    for turn in 0..2000 {
        let now_ms = turn * 10;
        let pick = pool.pick(None, turn, now_ms).unwrap();
        if pick.ranks[0] == bad {
            on_bad += 1;
            pool.end(pick.charge);
            pool.failed(bad, Failure::ServerError, attempt(now_ms), now_ms);
        } else {
            let rank = pick.charge.rank();
            pool.answered(rank, attempt(now_ms), true, now_ms);
            // The others end late, so the bad rank looks idle all the time.
            if turn % 4 == 0 {
                pool.end(pick.charge);
            }
        }
    }
    assert!(on_bad <= 12, "{on_bad} of 2000 in 20 s");
}

#[test]
fn when_all_are_out_all_are_used() {
    let mut pool = pool(&["10.0.0.1:8000-8001"]);
    for name in ["10.0.0.1:8000", "10.0.0.1:8001"] {
        fail(&mut pool, name, Failure::Connect, 2, 0);
    }
    let picks = picked(&mut pool, 10, 1);
    assert_eq!(picks.len(), 10);
    assert!(picks.contains(&rank("10.0.0.1:8000")) && picks.contains(&rank("10.0.0.1:8001")));
}

#[test]
fn a_request_counts_on_the_rank_that_serves_it_and_its_prompt_is_there() {
    let mut pool = pool(&TWO_PODS);
    let prompt = prompt("alice", 40);
    let pick = pool.pick(Some(&prompt), 0, 0).unwrap();
    let (first, next) = (pick.ranks[0], pick.ranks[1]);
    let moved = pool.serve(pick.charge, next, Some(&prompt)).unwrap();
    assert_eq!(
        (pool.load(first), pool.load(next)),
        (Some((0, 0)), Some((640, 1)))
    );
    assert_eq!(moved.sent.blocks.len(), 40);
    pool.end(moved.charge);
    assert_eq!(pool.load(next), Some((0, 0)));
    fail(&mut pool, &first.to_string(), Failure::Connect, 2, 0);
    let again = pool.pick(Some(&prompt), 0, 1).unwrap();
    assert_eq!((again.ranks[0], again.matched_tokens), (next, 640));
}

#[test]
fn a_rank_that_never_got_a_prompt_holds_what_it_was_sent_before() {
    let mut pool = pool(&TWO_PODS);
    let earlier = pool.pick(Some(&prompt("alice", 20)), 0, 0).unwrap();
    let pick = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    let (failed, home) = (pick.charge.rank(), pick.ranks[0]);
    assert_eq!(earlier.charge.rank(), failed);
    pool.take_back(failed, &prompt("alice", 40), &pick.insertion);
    pool.end(pick.charge);
    pool.end(earlier.charge);
    let again = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    assert_eq!((again.ranks[0], again.matched_tokens), (home, 320));
    let known = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    assert!(known.sent.blocks.is_empty(), "all of it was there");
}

#[test]
fn a_request_that_moves_after_its_first_byte_has_nothing_queued() {
    let mut pool = pool(&TWO_PODS);
    let prompt = prompt("alice", 40);
    let mut pick = pool.pick(Some(&prompt), 0, 0).unwrap();
    pool.first_byte(&mut pick.charge);
    let next = pick.ranks[1];
    pool.serve(pick.charge, next, Some(&prompt)).unwrap();
    assert_eq!(pool.load(next), Some((0, 1)));
}

#[test]
fn a_request_served_by_a_rank_that_is_not_known_counts_nowhere() {
    let mut pool = pool(&TWO_PODS);
    let pick = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    assert!(pool.serve(pick.charge, rank("10.9.9.9:1"), None).is_none());
    assert_eq!(pool.load(pick.ranks[0]), Some((0, 0)));
}

#[test]
fn prefill_ranks_and_ranks_that_drain_are_never_named() {
    let mut pool = pool(&TWO_PODS);
    let member = |name: &str, role, condition| Member {
        address: rank(name),
        role,
        condition,
        revision_hash: 0,
    };
    pool.list(&Membership::from_members(vec![
        member("10.0.0.1:8000", Role::Prefill, Condition::Serving),
        member("10.0.0.2:8000", Role::Decode, Condition::Serving),
        member("10.0.0.3:8000", Role::Both, Condition::Draining),
    ]));
    for seed in 0..50 {
        let pick = pool.pick(None, seed, 0).unwrap();
        assert_eq!(pick.ranks, [rank("10.0.0.2:8000")]);
    }
    pool.list(&Membership::from_members(vec![member(
        "10.0.0.1:8000",
        Role::Prefill,
        Condition::Serving,
    )]));
    assert!(pool.pick(None, 0, 0).is_none());
}

#[test]
fn work_that_others_put_on_a_rank_counts_once_all_ranks_have_reported() {
    let ranks = ["10.0.0.1:8000", "10.0.0.2:8000"];
    let mut pool = pool(&ranks);
    let busy = |pool: &mut Pool, now_ms| {
        let picks = picked(pool, 8, now_ms);
        picks.iter().filter(|pick| **pick == rank(ranks[0])).count()
    };
    pool.reported(&reports(&[(ranks[0], report(100))], 0), 0);
    let alone = busy(&mut pool, 1);
    assert!(
        alone > 0,
        "of the other rank nothing is known, so both are equal"
    );
    pool.reported(
        &reports(&[(ranks[0], report(100)), (ranks[1], report(0))], 100),
        100,
    );
    assert_eq!(pool.fresh_reports(101), 2);
    assert_eq!(busy(&mut pool, 101), 0);
    assert!(busy(&mut pool, LATER_MS) > 0, "old reports say nothing");
}

#[test]
fn own_requests_in_a_report_do_not_count_twice() {
    let ranks = ["10.0.0.1:8000", "10.0.0.2:8000"];
    let mut pool = pool(&ranks);
    let mut own: Vec<Pick> = (0..10)
        .filter_map(|seed| pool.pick(None, seed, 0))
        .collect();
    assert_eq!(pool.load(rank(ranks[0])), Some((0, 5)));
    let of_all = |requests| reports(&[(ranks[0], report(requests)), (ranks[1], report(0))], 0);
    // Half of them end between the page and its arrival here.
    for _ in 0..5 {
        if let Some(pick) = own.pop() {
            pool.end(pick.charge);
        }
    }
    pool.reported(&of_all(5), 0);
    let seated = pool.seats.rank_of(hash(ranks[0])).unwrap();
    assert_eq!(pool.reported.foreign(seated, 1), Some(0));
    pool.reported(&reports(&[(ranks[0], report(9))], 1000), 1000);
    let in_flight = pool.load(rank(ranks[0])).unwrap().1;
    assert_eq!(pool.reported.foreign(seated, 1001), Some(9 - in_flight));
}

#[test]
fn a_rank_without_a_count_in_its_report_is_unknown_and_not_idle() {
    let mut pool = pool(&["10.0.0.1:8000"]);
    let page = Report {
        running: Some(3),
        ..Report::default()
    };
    pool.reported(&reports(&[("10.0.0.1:8000", page)], 0), 0);
    assert_eq!(pool.fresh_reports(1), 0);
}

#[test]
fn a_restarted_rank_is_cold_at_once() {
    let name = "10.0.0.1:8000";
    let mut pool = pool(&[name]);
    let started = |start_time_ms| Report {
        start_time_ms: Some(start_time_ms),
        ..report(0)
    };
    let mut table = reports(&[(name, started(5_000))], 0);
    pool.reported(&table, 0);
    pool.pick(Some(&prompt("alice", 40)), 0, 1).unwrap();
    table.answered(hash(name), started(5_000), 1000);
    pool.reported(&table, 1000);
    assert_eq!(
        pool.pick(Some(&prompt("alice", 40)), 0, 1001)
            .unwrap()
            .matched_tokens,
        640
    );
    table.answered(hash(name), started(70_000), 2000);
    pool.reported(&table, 2000);
    assert_eq!(
        pool.pick(Some(&prompt("alice", 40)), 0, 2001)
            .unwrap()
            .matched_tokens,
        0
    );
}

#[test]
fn a_rank_that_left_is_warm_when_it_comes_back_unless_it_restarted_meanwhile() {
    let (name, other) = ("10.0.0.1:8000", "10.0.0.2:8000");
    let page = |start_time_ms, prompt_tokens_total| Report {
        start_time_ms,
        prompt_tokens_total: Some(prompt_tokens_total),
        ..report(0)
    };
    // Of a rank that comes back the table knows nothing: its lives are counted from zero again.
    let mut twice = ReportTable::default();
    twice.answered(hash(name), page(Some(5_000), 900), 0);
    twice.answered(hash(name), page(Some(70_000), 900), 0);
    let once = reports(&[(name, page(Some(70_000), 900))], 0);
    let without_start_time = reports(&[(name, page(None, 900))], 0);
    for (before, after, expected) in [
        (&twice, page(Some(70_000), 950), 640),
        (&once, page(Some(70_000), 950), 640),
        (&once, page(Some(90_000), 950), 0),
        (&without_start_time, page(None, 950), 640),
        (&without_start_time, page(None, 20), 0),
    ] {
        let mut pool = pool(&[name, other]);
        pool.reported(before, 0);
        let seated = pool.seats.rank_of(hash(name)).unwrap();
        pool.remember(seated, Some(&prompt("alice", 40)));
        pool.list(&Membership::from_static(&[rank(other)]));
        pool.list(&Membership::from_static(&[rank(name)]));
        pool.reported(&reports(&[(name, after)], 1000), 1000);
        let again = pool.pick(Some(&prompt("alice", 40)), 0, 1001).unwrap();
        assert_eq!(again.matched_tokens, expected, "{after:?}");
    }
}

#[test]
fn ranks_that_left_do_not_count_among_those_that_are_out() {
    let ranks = ["10.0.0.1:8000", "10.0.0.2:8000"];
    let mut pool = pool(&ranks);
    fail(&mut pool, ranks[0], Failure::Connect, 2, 0);
    let counts = pool.health_counts(1);
    assert_eq!((counts.in_ranks, counts.out_ranks), (1, 1));
    pool.list(&Membership::from_static(&[rank(ranks[1])]));
    let counts = pool.health_counts(1);
    assert_eq!((counts.in_ranks, counts.out_ranks), (1, 0));
}

#[test]
fn a_list_beside_clusters_is_followed_when_it_changes() {
    let found = |name: &str| {
        let raw = RawConfig {
            ranks: Some(vec![name.to_string()]),
            clusters: Some(vec!["pool".to_string()]),
            ..RawConfig::default()
        };
        Config::try_from(raw).unwrap()
    };
    let mut pool = Pool::new(found("10.0.0.1:8000"));
    pool.list(&Membership::from_static(&[rank("10.0.0.7:8000")]));
    pool.reconfigure(found("10.0.0.1:8000"));
    assert!(
        pool.load(rank("10.0.0.7:8000")).is_some(),
        "what was found stays"
    );
    pool.reconfigure(found("10.0.0.2:8000"));
    let pick = pool.pick(None, 0, 0).unwrap();
    assert_eq!(pick.ranks, [rank("10.0.0.2:8000")]);
}

#[test]
fn the_capacity_that_a_rank_reports_replaces_the_configured_one() {
    let name = "10.0.0.1:8000";
    let mut pool = pool(&[name]);
    let small = Report {
        capacity_tokens: Some(160),
        ..report(0)
    };
    pool.reported(&reports(&[(name, small)], 0), 0);
    pool.pick(Some(&prompt("alice", 40)), 0, 1).unwrap();
    let again = pool.pick(Some(&prompt("alice", 40)), 0, 2).unwrap();
    assert_eq!(again.matched_tokens, 160);
}

#[test]
fn failed_scrapes_put_a_rank_out_that_had_been_readable_while_others_are() {
    let ranks = ["10.0.0.1:8000", "10.0.0.2:8000"];
    let mut pool = pool(&ranks);
    let mut table = reports(&[(ranks[0], report(0)), (ranks[1], report(0))], 0);
    pool.reported(&table, 0);
    for turn in 1..=3 {
        table.failed(hash(ranks[0]), turn * 1000);
        table.answered(hash(ranks[1]), report(0), turn * 1000);
        pool.reported(&table, turn * 1000);
    }
    assert_eq!(picked(&mut pool, 9, 3001), vec![rank(ranks[1]); 9]);
}
