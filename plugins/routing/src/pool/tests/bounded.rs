//! What a client sends, announces or leaves out has bounded weight, and leaves nothing behind where a rank refuses it.

use super::*;
use crate::{Attempt, BodyEnd, Endpoint, Failure, PromptReader};
use std::collections::HashMap;

/// What the ranks of these tests can hold.
const CAPACITY: u64 = 4096;

fn small_pool() -> Pool {
    Pool::new(
        Config::try_from(RawConfig {
            ranks: Some(TWO_PODS.iter().map(ToString::to_string).collect()),
            block_bytes: Some(64),
            rank_capacity_tokens: Some(CAPACITY),
            miss_weight: Some(3.0),
            ..RawConfig::default()
        })
        .unwrap(),
    )
}

/// What is known of a body of which only this has come.
fn beginning(body: &str) -> Prompt {
    let mut reader = PromptReader::new(Endpoint::ChatCompletions, BLOCK);
    reader.feed(body.as_bytes());
    reader.finish(false)
}

fn queued(pool: &Pool) -> u64 {
    let addresses = pool.config().ranks().iter();
    addresses.map(|rank| pool.load(*rank).unwrap().0).sum()
}

#[test]
fn a_prompt_weighs_at_most_what_its_rank_can_hold() {
    let mut pool = small_pool();
    let images = r#"{"image":1},"#.repeat(60_000);
    let body = format!(r#"{{"messages":[{{"role":"user","content":[{images}{{"image":1}}]}}]}}"#);
    let mut reader = PromptReader::new(Endpoint::ChatCompletions, BLOCK);
    reader.feed(body.as_bytes());
    let prompt = reader.finish(true);
    assert_eq!(prompt.body_end, BodyEnd::Whole);
    let pick = pool.pick(Some(&prompt), 0, 0).unwrap();
    assert_eq!((queued(&pool), pick.prompt_tokens), (CAPACITY, CAPACITY));
    pool.end(pick.charge);
    assert_eq!(queued(&pool), 0);
}

#[test]
fn a_body_that_has_not_ended_weighs_nothing_until_it_has_and_then_what_came() {
    let mut pool = small_pool();
    let cut = beginning(r#"{"messages":[{"role":"user","content":"hang"#);
    let mut pick = pool.pick_before_end(Some(&cut), 0, 0).unwrap();
    let rank = pick.ranks[0];
    assert_eq!(pool.load(rank), Some((0, 1)));
    let body_bytes = cut.read_bytes * 40;
    assert!(pool.complete(&mut pick.charge, Some(&cut), body_bytes, true));
    let came = TokenRate::default().tokens(cut.bytes_of_body(body_bytes));
    assert_eq!(pool.load(rank), Some((came, 1)));
    assert!(!pool.complete(&mut pick.charge, Some(&cut), u64::MAX, true));
    pool.end(pick.charge);
    assert_eq!(pool.load(rank), Some((0, 0)));
}

#[test]
fn bodies_that_never_end_steer_nobody() {
    let mut pool = small_pool();
    // Three of them, so that one of four ranks has none.
    let cut = beginning(r#"{"model":"m","messages":[{"role":"user","content":"..."#);
    let stalled = (0..3).filter_map(|seed| pool.pick_before_end(Some(&cut), seed, 0));
    assert_eq!(stalled.collect::<Vec<Pick>>().len(), 3);
    assert_eq!(queued(&pool), 0);
    let mut counts: HashMap<SocketAddr, usize> = HashMap::new();
    for number in 0..400 {
        let honest = prompt(&format!("guest {number}"), 9);
        let pick = pool.pick(Some(&honest), 0, 0).unwrap();
        *counts.entry(pick.ranks[0]).or_default() += 1;
        pool.end(pick.charge);
    }
    assert!(
        counts.values().all(|count| (60..140).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn different_prompts_of_which_nothing_has_come_are_spread() {
    let mut pool = small_pool();
    let mut ranks: Vec<SocketAddr> = (0..32)
        .filter_map(|seed| {
            let pick = pool.pick_before_end(Some(&beginning("")), seed, 0)?;
            let rank = pick.ranks[0];
            pool.end(pick.charge);
            Some(rank)
        })
        .collect();
    ranks.sort_unstable();
    ranks.dedup();
    assert_eq!(ranks.len(), 4, "{ranks:?}");
}

#[test]
fn a_prompt_that_is_taken_back_is_forgotten_and_ages_nothing() {
    let mut pool = small_pool();
    let kept = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    let home = kept.ranks[0];
    pool.end(kept.charge);
    for number in 0..200 {
        let refused = prompt(&format!("mallory {number}"), 200);
        let pick = pool.pick(Some(&refused), number, 0).unwrap();
        assert_eq!(pick.matched_tokens, 0);
        let rank = pick.charge.rank();
        pool.take_back(rank, &refused, &pick.insertion);
        pool.end(pick.charge);
        let again = pool.pick(Some(&refused), number, 0).unwrap();
        assert_eq!(again.matched_tokens, 0, "asked again it is as new");
        pool.take_back(again.charge.rank(), &refused, &again.insertion);
        pool.end(again.charge);
    }
    let again = pool.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    assert_eq!((again.ranks[0], again.matched_tokens), (home, 640));
}

#[test]
fn what_the_rest_of_a_body_added_is_taken_back_with_its_beginning() {
    let mut pool = small_pool();
    let (cut, whole) = (prompt("mallory", 10), prompt("mallory", 100));
    let pick = pool.pick_before_end(Some(&cut), 0, 0).unwrap();
    let rank = pick.charge.rank();
    let learnt = pool.learn(rank, Some((&cut, &pick.insertion)), &whole);
    assert!(learnt.taken.blocks.is_empty());
    pool.take_back(rank, &whole, &learnt.insertion);
    pool.end(pick.charge);
    for asked in [&cut, &whole] {
        let again = pool.pick(Some(asked), 0, 0).unwrap();
        assert_eq!(again.matched_tokens, 0);
        pool.take_back(again.charge.rank(), asked, &again.insertion);
        pool.end(again.charge);
    }
}

#[test]
fn a_beginning_that_turns_out_to_be_another_is_taken_back_at_once() {
    let mut pool = small_pool();
    let (cut, whole) = (prompt("no model yet", 10), prompt("with a model", 100));
    let pick = pool.pick_before_end(Some(&cut), 0, 0).unwrap();
    let rank = pick.charge.rank();
    let learnt = pool.learn(rank, Some((&cut, &pick.insertion)), &whole);
    assert_eq!(learnt.taken.blocks.len(), 10);
    pool.end(pick.charge);
    assert_eq!(pool.pick(Some(&cut), 0, 0).unwrap().matched_tokens, 0);
    assert!(pool.pick(Some(&whole), 0, 0).unwrap().matched_tokens > 1000);
}

#[test]
fn stalled_requests_take_no_probe_place_and_probe_nothing() {
    let mut pool = pool(&["10.0.0.1:8000", "10.0.0.2:8000"]);
    let out = pool.config().ranks()[0];
    for _ in 0..2 {
        pool.failed(out, Failure::Connect, Attempt::default(), 0);
    }
    let later_ms = 10_000;
    // Its time out is over: it is half-open, and takes one request that can be answered.
    for seed in 0..20 {
        let cut = beginning("{");
        let pick = pool.pick_before_end(Some(&cut), seed, later_ms).unwrap();
        assert_ne!(
            pick.ranks[0], out,
            "a request that may never end probes nothing"
        );
    }
    let probes = (0..40).filter(|seed| {
        let pick = pool.pick(None, *seed, later_ms).unwrap();
        pick.ranks[0] == out
    });
    assert_eq!(probes.count(), 1);
}
