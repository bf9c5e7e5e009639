//! Prefill and decode on different ranks.

use super::*;
use crate::{Attempt, Condition, Failure, Member, Role, Usage};

const PREFILL: [&str; 2] = ["10.0.1.1:8000", "10.0.1.2:8000"];
const DECODE: [&str; 2] = ["10.0.2.1:8000", "10.0.2.2:8000"];

fn member(name: &str, role: Role, revision_hash: u64) -> Member {
    Member {
        address: rank(name),
        role,
        condition: Condition::Serving,
        revision_hash,
    }
}

fn pool_of(members: Vec<Member>) -> Pool {
    pool_with(members, None)
}

fn pool_with(members: Vec<Member>, local_prefill_tokens: Option<u64>) -> Pool {
    let mut pool = Pool::new(
        Config::try_from(RawConfig {
            clusters: Some(vec!["ranks".to_string()]),
            block_bytes: Some(64),
            miss_weight: Some(1.0),
            local_prefill_tokens,
            ..RawConfig::default()
        })
        .unwrap(),
    );
    pool.list(&Membership::from_members(members));
    pool
}

fn all_of(names: &[&str], role: Role) -> Vec<Member> {
    names.iter().map(|name| member(name, role, 0)).collect()
}

fn apart() -> Pool {
    let prefill = all_of(&PREFILL, Role::Prefill);
    let decode = all_of(&DECODE, Role::Decode);
    pool_of([prefill, decode].concat())
}

fn picked(pool: &mut Pool, name: &str, blocks: usize) -> Pick {
    pool.pick(Some(&prompt(name, blocks)), 0, 10).unwrap()
}

fn prefiller(pick: &Pick) -> Option<String> {
    Some(pick.plan.leg()?.ranks.first()?.to_string())
}

fn end(pool: &mut Pool, pick: Pick) {
    if let LegPlan::Leg(leg) = pick.plan {
        pool.end(leg.charge);
    }
    pool.end(pick.charge);
}

fn put_out(pool: &mut Pool, name: &str) {
    let attempt = Attempt {
        picked_ms: 0,
        ended_ms: 1,
    };
    for _ in 0..10 {
        pool.failed(rank(name), Failure::Connect, attempt, 1);
    }
}

#[test]
fn a_prompt_gets_a_rank_that_prefills_and_one_that_decodes() {
    let mut pool = apart();
    let pick = picked(&mut pool, "alice", 400);
    let leg = pick.plan.leg().unwrap();
    assert_eq!(leg.ranks.len(), 2, "one for a second attempt");
    assert!(
        leg.ranks
            .iter()
            .all(|r| PREFILL.contains(&r.to_string().as_str()))
    );
    assert!(
        pick.ranks
            .iter()
            .all(|r| DECODE.contains(&r.to_string().as_str()))
    );
    assert_eq!(pool.load(leg.ranks[0]), Some((6400, 1)));
    assert_eq!(pool.load(pick.ranks[0]), Some((0, 1)));
}

#[test]
fn the_next_turn_is_prefilled_where_its_start_is_and_decoded_where_there_is_room() {
    let mut pool = apart();
    let first = picked(&mut pool, "alice", 1000);
    let other = picked(&mut pool, "bob", 1000);
    assert_ne!(prefiller(&first), prefiller(&other));
    assert_ne!(first.ranks[0], other.ranks[0]);
    let (prefills, decodes) = (prefiller(&first), first.ranks[0]);
    end(&mut pool, first);
    end(&mut pool, other);
    // The decode rank that holds the start is busy.
    let busy: Vec<Pick> = (0..40)
        .map(|guest| picked(&mut pool, &format!("guest {guest}"), 300))
        .collect();
    for pick in busy {
        match pick.ranks[0] == decodes {
            true => drop(pick),
            false => end(&mut pool, pick),
        }
    }
    let next = picked(&mut pool, "alice", 2000);
    assert_eq!((prefiller(&next), next.matched_tokens), (prefills, 16_000));
    assert_ne!(next.ranks[0], decodes);
}

#[test]
fn queued_tokens_of_the_leg_end_with_the_leg_and_the_decode_counts_to_the_end() {
    let mut pool = apart();
    let pick = picked(&mut pool, "alice", 400);
    let decodes = pick.ranks[0];
    let LegPlan::Leg(leg) = pick.plan else {
        panic!("no leg")
    };
    let prefills = leg.ranks[0];
    assert_eq!(pool.end(leg.charge), 6400);
    assert_eq!(pool.load(prefills), Some((0, 0)));
    assert_eq!(pool.load(decodes), Some((0, 1)));
    pool.end(pick.charge);
    assert_eq!(pool.load(decodes), Some((0, 0)));
}

#[test]
fn a_decode_rank_with_little_left_to_prefill_does_it_itself() {
    let mut pool = apart();
    let first = picked(&mut pool, "alice", 400);
    let decodes = first.ranks[0];
    end(&mut pool, first);
    // 16 of 416 blocks are new, 256 tokens: 2 * 13 ms against 13 ms, 20 ms for the leg and 1 ms for the transfer.
    let next = picked(&mut pool, "alice", 416);
    assert!(matches!(next.plan, LegPlan::Cheaper), "{next:?}");
    assert_eq!((next.ranks[0], next.matched_tokens), (decodes, 6400));
    assert_eq!(next.charge.queued_tokens(), 256);
    end(&mut pool, next);
    let more = picked(&mut pool, "alice", 433);
    assert!(
        more.plan.leg().is_some(),
        "more than a step is made for: {more:?}"
    );
}

#[test]
fn a_decode_rank_that_may_have_dropped_the_prompt_leaves_it_to_others() {
    let mut pool = apart();
    let first = picked(&mut pool, "alice", 400);
    let (decodes, decoded) = (first.ranks[0], first.charge.rank());
    end(&mut pool, first);
    // An eighth of 500,000 tokens is 3,906 blocks of 16.
    let mut names = (0..).map(|number| format!("guest {number}"));
    let mut sent = 0;
    while sent < 4_000 {
        let pick = picked(&mut pool, &names.next().unwrap(), 1000);
        sent += if pick.ranks[0] == decodes { 1000 } else { 0 };
        end(&mut pool, pick);
    }
    pool.look_up(Some(&prompt("alice", 416)));
    assert_eq!(pool.depth(decoded), 400, "believed to be there");
    let next = picked(&mut pool, "alice", 416);
    assert!(next.plan.leg().is_some(), "{next:?}");
}

#[test]
fn a_decode_rank_where_many_run_leaves_the_same_prefill_to_others() {
    let mut pool = apart();
    let first = picked(&mut pool, "alice", 400);
    end(&mut pool, first);
    for guest in 0..64 {
        let mut pick = picked(&mut pool, &format!("guest {guest}"), 4);
        pool.first_byte(&mut pick.charge);
    }
    let next = picked(&mut pool, "alice", 416);
    assert!(next.plan.leg().is_some(), "{next:?}");
}

#[test]
fn a_short_prompt_is_not_worth_a_leg_and_a_request_without_a_prompt_has_none() {
    let mut pool = apart();
    assert!(matches!(
        picked(&mut pool, "hello", 8).plan,
        LegPlan::Cheaper
    ));
    let pick = pool.pick(None, 7, 0).unwrap();
    assert!(matches!(pick.plan, LegPlan::NoPrompt));
    assert!(DECODE.contains(&pick.ranks[0].to_string().as_str()));
}

#[test]
fn while_the_ranks_that_prefill_are_buried_decode_ranks_help_themselves_if_they_may() {
    let members = [
        all_of(&PREFILL, Role::Prefill),
        all_of(&DECODE, Role::Decode),
    ]
    .concat();
    let mut pool = pool_with(members, Some(100_000));
    let mut names = (0..).map(|number| format!("guest {number}"));
    let plans: Vec<Pick> = (0..100)
        .map(|_| picked(&mut pool, &names.next().unwrap(), 1000))
        .collect();
    let legs = plans
        .iter()
        .filter(|pick| pick.plan.leg().is_some())
        .count();
    assert!((10..90).contains(&legs), "{legs} of 100");
}

#[test]
fn without_a_healthy_rank_that_prefills_the_decode_rank_does_and_no_other_is_asked() {
    let mut pool = apart();
    put_out(&mut pool, PREFILL[0]);
    for guest in 0..20 {
        let pick = picked(&mut pool, &format!("guest {guest}"), 400);
        assert_eq!(prefiller(&pick).as_deref(), Some(PREFILL[1]));
        assert_eq!(pick.plan.leg().unwrap().ranks.len(), 1);
        end(&mut pool, pick);
    }
    put_out(&mut pool, PREFILL[1]);
    let pick = picked(&mut pool, "alice", 400);
    assert!(matches!(pick.plan, LegPlan::NoRank), "{pick:?}");
    assert_eq!(pick.charge.queued_tokens(), 6400);
}

#[test]
fn no_request_goes_to_a_rank_that_only_prefills_whatever_is_out() {
    let mut pool = apart();
    for name in PREFILL.iter().chain(&DECODE) {
        let pick = picked(&mut pool, name, 300);
        assert!(
            pick.ranks
                .iter()
                .all(|r| DECODE.contains(&r.to_string().as_str()))
        );
        put_out(&mut pool, name);
    }
    let pick = picked(&mut pool, "last", 300);
    assert!(
        pick.ranks
            .iter()
            .all(|r| DECODE.contains(&r.to_string().as_str()))
    );
    let mut pool = pool_of(all_of(&PREFILL, Role::Prefill));
    assert!(pool.pick(Some(&prompt("alice", 9)), 0, 0).is_none());
}

#[test]
fn ranks_of_one_revision_work_together_while_there_are_any() {
    let mut members = vec![
        member(PREFILL[0], Role::Prefill, 1),
        member(PREFILL[1], Role::Prefill, 2),
        member(DECODE[0], Role::Decode, 1),
        member(DECODE[1], Role::Decode, 2),
    ];
    let mut pool = pool_of(members.clone());
    let places = |pick: &Pick| {
        let prefills = prefiller(pick);
        let prefills = PREFILL
            .iter()
            .position(|name| Some(*name) == prefills.as_deref());
        let decodes = DECODE.iter().position(|name| rank(name) == pick.ranks[0]);
        (prefills.unwrap(), decodes.unwrap())
    };
    for guest in 0..20 {
        let pick = picked(&mut pool, &format!("guest {guest}"), 400);
        let (prefills, decodes) = places(&pick);
        assert_eq!(prefills, decodes);
        end(&mut pool, pick);
    }
    // The old ranks that prefill are gone; an old decode rank takes what there is.
    members.remove(0);
    members.pop();
    pool.list(&Membership::from_members(members));
    let pick = picked(&mut pool, "alice", 400);
    assert_eq!(places(&pick), (1, 0));
}

#[test]
fn ranks_of_both_roles_prefill_for_themselves_and_for_decode_ranks() {
    let both = ["10.0.3.1:8000"];
    let mut pool = pool_of(all_of(&both, Role::Both));
    assert!(matches!(
        picked(&mut pool, "alice", 400).plan,
        LegPlan::Whole
    ));
    let mut pool = pool_of([all_of(&both, Role::Both), all_of(&DECODE, Role::Decode)].concat());
    for guest in 0..20 {
        let pick = picked(&mut pool, &format!("guest {guest}"), 400);
        match pick.ranks[0] == rank(both[0]) {
            true => assert!(matches!(pick.plan, LegPlan::Whole), "{pick:?}"),
            false => assert!(prefiller(&pick).is_none_or(|name| name == both[0])),
        }
    }
}

#[test]
fn of_two_ranks_the_one_without_answers_is_to_blame() {
    let mut pool = apart();
    let pick = picked(&mut pool, "alice", 400);
    let decodes = pick.charge.rank();
    let prefills = pick.plan.leg().unwrap().charge.rank();
    assert_eq!(pool.suspect(decodes, prefills), prefills);
    let attempt = |ms| Attempt {
        picked_ms: ms,
        ended_ms: ms,
    };
    pool.answered(prefills, attempt(1000), true, 1000);
    assert_eq!(pool.suspect(decodes, prefills), decodes);
    pool.answered(decodes, attempt(2000), true, 2000);
    assert_eq!(pool.suspect(decodes, prefills), prefills);
}

#[test]
fn what_an_answer_says_of_the_cache_is_about_the_rank_that_prefilled_unless_all_came_over_the_network()
 {
    let mut pool = apart();
    let first = prompt("alice", 400);
    let pick = pool.pick(Some(&first), 0, 0).unwrap();
    let expected = pick.expected.clone().unwrap();
    assert_eq!(expected.rank, pick.plan.leg().unwrap().charge.rank());
    let usage = |cached_tokens| Usage {
        prompt_tokens: 6400,
        cached_tokens: Some(cached_tokens),
        completion_tokens: None,
    };
    let told = |pool: &mut Pool, cached| {
        pool.told(&expected, &first, &usage(cached), 0, 1)
            .delivered_tokens
    };
    assert_eq!(told(&mut pool, 3200), Some(3200));
    assert_eq!(told(&mut pool, 6384), None);
    // Of a rank that answers by itself a full hit is one.
    let pick = pool.pick(Some(&prompt("alice", 410)), 0, 0).unwrap();
    assert!(matches!(pick.plan, LegPlan::Cheaper), "{pick:?}");
    let expected = pick.expected.unwrap();
    let told = pool.told(&expected, &prompt("alice", 410), &usage(6384), 0, 1);
    assert_eq!(told.delivered_tokens, Some(6384));
}
