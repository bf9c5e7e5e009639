use std::rc::Rc;

use super::*;
use crate::profile::dense;

fn small() -> Profile {
    Profile {
        step_tokens: 1000,
        max_sequences: 2,
        capacity_tokens: 100_000,
        ..dense()
    }
}

fn request(number: usize, prompt_tokens: u64, output_tokens: u64) -> Sequence {
    Sequence::new(number, Rc::from([]), prompt_tokens, output_tokens)
}

#[test]
fn a_step_costs_what_the_measured_engine_costs() {
    let mut rank = Rank::new(dense());
    rank.add(request(0, 3000, 9));
    rank.plan();
    rank.finish(1, &mut Vec::new());
    rank.add(request(1, 5000, 9));
    let plan = rank.plan();
    let mut work = host_tests::sim::profile::StepWork::default();
    work.add_decode(3000);
    work.add_prefill(0, 5000);
    let measured = dense().costs.step(work).as_secs_f64() * 1000.0;
    assert!((rank.step_ms(&plan, 0) - measured).abs() < 1e-3);
}

#[test]
fn an_idle_rank_plans_nothing() {
    assert_eq!(Rank::new(small()).plan(), Plan::default());
}

#[test]
fn no_more_sequences_run_than_may() {
    let mut rank = Rank::new(small());
    (0..3).for_each(|number| rank.add(request(number, 10, 5)));
    rank.plan();
    assert_eq!((rank.running(), rank.waiting()), (2, 1));
}

#[test]
fn decoding_repeats_until_the_first_ends() {
    let mut rank = Rank::new(small());
    rank.add(request(0, 10, 5));
    rank.add(request(1, 10, 9));
    let (mut served, plan) = (Vec::new(), rank.plan());
    assert_eq!((plan.prefill_tokens, plan.repeats), (20, 1));
    rank.finish(1, &mut served);
    let plan = rank.plan();
    assert_eq!(
        (plan.decodes, plan.context_tokens, plan.repeats),
        (2, 20, 4)
    );
    rank.finish(4, &mut served);
    let ended = Served::End {
        number: 0,
        usage: request(0, 10, 5).usage(),
    };
    assert_eq!(served.last(), Some(&ended));
    assert_eq!(rank.plan().context_tokens, 14);
    assert_eq!(rank.computed_tokens(), 20 + 8);
}

#[test]
fn siblings_in_one_step_share_what_the_first_computes() {
    let mut rank = Rank::new(Profile {
        step_tokens: 8192,
        ..small()
    });
    for number in 0..2 {
        rank.add(Sequence::new(number, Rc::from([7, 8]), 1100, 1));
    }
    assert_eq!(rank.plan().prefill_tokens, 1100 + (1100 - 1024));
}

#[test]
fn cached_blocks_without_users_take_room_when_they_are_used_again() {
    let mut rank = Rank::new(Profile {
        capacity_tokens: 3000,
        step_tokens: 8192,
        ..small()
    });
    let mut served = Vec::new();
    rank.add(Sequence::new(0, Rc::from([1, 2, 3]), 1546, 1));
    rank.plan();
    rank.finish(1, &mut served);
    rank.add(request(1, 1000, 50));
    rank.plan();
    // 600 new tokens would fit beside the 1,000, the three blocks as well do not.
    rank.add(Sequence::new(2, Rc::from([1, 2, 3]), 2136, 1));
    rank.finish(1, &mut served);
    rank.plan();
    assert_eq!((rank.running(), rank.waiting()), (1, 1));
}

#[test]
fn of_a_received_prompt_only_the_last_token_is_computed_and_its_blocks_stay() {
    let mut rank = Rank::new(small());
    let mut served = Vec::new();
    rank.add(Sequence::new(0, Rc::from([7, 8]), 1100, 2).received());
    let plan = rank.plan();
    assert_eq!((plan.prefill_tokens, plan.attention_pairs), (1, 1099.5));
    rank.finish(1, &mut served);
    assert_eq!(served, [Served::FirstToken { number: 0 }]);
    rank.plan();
    rank.finish(1, &mut served);
    assert_eq!(rank.computed_tokens(), 2);
    assert_eq!(rank.cache().matched(&[7, 8, 9]), 2);
}

#[test]
fn a_received_prompt_waits_for_room_as_any_other() {
    let mut rank = Rank::new(Profile {
        capacity_tokens: 2000,
        ..small()
    });
    rank.add(request(0, 900, 5).received());
    rank.add(request(1, 1200, 5).received());
    assert_eq!(rank.plan().prefill_tokens, 1);
    assert_eq!((rank.running(), rank.waiting()), (1, 1));
    // Both prompts, wherever they are.
    assert_eq!(rank.held(), (2, 2100));
}

#[test]
fn a_received_prompt_that_is_thrown_back_is_computed_anew() {
    let mut rank = Rank::new(Profile {
        capacity_tokens: 1010,
        ..small()
    });
    let mut served = Vec::new();
    rank.add(request(0, 500, 90).received());
    rank.add(request(1, 500, 90).received());
    let mut most = 0;
    for _ in 0..120 {
        let plan = rank.plan();
        most = most.max(plan.prefill_tokens);
        rank.finish(plan.repeats, &mut served);
    }
    assert_eq!(rank.preemptions(), 1);
    assert!(most > 500, "{most}: the prompt and what was made behind it");
    let ends = served.iter().filter(|s| matches!(s, Served::End { .. }));
    assert_eq!(ends.count(), 2);
}
