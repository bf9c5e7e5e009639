use super::*;
use crate::peers::scene::{Scene, arrival, setup};

fn trial(knobs: &str) -> Trial {
    Trial::named(&format!("trial:{knobs}"), &setup(2)).unwrap()
}

/// What a prompt of ten blocks costs on rank 0, which holds two of its blocks, computes one other prompt of 1,000 tokens and
/// runs one of 2,000.
fn cost(knobs: &str) -> f64 {
    let mut trial = trial(knobs);
    trial.holders.touch_all_tail_first(0, &[1, 2]);
    trial.ranks[0].send(1000.0, 1000.0, 0.0);
    trial.ranks[0].send(0.0, 2000.0, 0.0);
    trial.ranks[0].waiting = 1;
    trial.capacity = 10_000.0;
    trial.cost(
        0,
        2,
        &arrival(9, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 5120),
        0.0,
    )
}

fn close(given: f64, expected: f64) {
    assert!(
        (given - expected).abs() < 1e-6,
        "{given} instead of {expected}"
    );
}

#[test]
fn each_knob_adds_its_part_worked_out_by_hand() {
    // 1,000 queued, 4,096 uncached; two in flight.
    close(cost("full=0+in_use=0+flight=0"), 1000.0 + 4096.0);
    close(cost("full=0+in_use=0"), 5096.0 + 400.0);
    close(cost("in_use=0+flight=0"), 5096.0 + 0.1 * 0.3 * 3000.0);
    close(cost("full=0+flight=0"), 1000.0 + 4096.0 * (1.0 + 2.0 * 0.3));
    close(
        cost("full=0+in_use=0+flight=0+miss=3"),
        1000.0 + 3.0 * 4096.0,
    );
    close(
        cost("full=0+in_use=0+flight=0+waiting_of=3"),
        1000.0 + 2.0 * 4096.0,
    );
    close(cost("full=0+in_use=0+product=1"), (5096.0 + 100.0) * 3.0);
    // Each token has those before it: 1,024 matched, half of 4,096 on average.
    close(
        cost("full=0+in_use=0+flight=0+attention=0.001"),
        1000.0 + 4096.0 * (1.0 + 3.072),
    );
    // 8,120 of 10,000 tokens would be in use.
    close(
        cost("full=0+in_use=0+flight=0+barrier=100"),
        5096.0 + 100.0 * 0.812 / 0.188,
    );
    close(
        cost("full=0+in_use=0+flight=0+no_room=1+output=1000"),
        5096.0 + 1120.0,
    );
}

#[test]
fn the_order_of_the_start_decides_among_near_costs_alone() {
    let arrival = arrival(1, &[7, 8], 1024);
    let trial = trial("");
    let first = trial.best(&arrival, &[0.0, 0.0]);
    let mut costs = [99.0, 99.0];
    costs[1 - first] = 0.0;
    assert_eq!(trial.best(&arrival, &costs), first);
    costs[first] = 101.0;
    assert_eq!(trial.best(&arrival, &costs), 1 - first);
}

#[test]
fn a_match_that_is_being_computed_counts_as_told() {
    for (knobs, matched) in [("", 1024.0), ("pending=0.5", 512.0), ("pending=0", 0.0)] {
        let mut trial = trial(knobs);
        let arrival = arrival(1, &[7, 8], 1100);
        trial.send(0, 0, &arrival, 0.0);
        close(trial.matched(0, 2, &arrival), matched);
        trial.first_token(1, 0, 50.0);
        close(trial.matched(0, 2, &arrival), 1024.0);
    }
}

#[test]
fn it_keeps_conversations_together_as_the_deployed_decision_does() {
    let mut scene = Scene::new(2);
    let mut trial = trial("");
    let mut ours = crate::ours::Ours::named("ours", &setup(2)).unwrap();
    // By policy, where each conversation went last, and how often it stayed.
    let mut last = [[None; 7]; 2];
    let mut stayed = [0; 2];
    for number in 0..200usize {
        scene.now_ms += 40.0;
        let session = number % 7;
        let length = 4 + session as u64;
        let blocks: Vec<u64> = (0..length)
            .map(|place| 100 * session as u64 + place + 1)
            .collect();
        let tokens = 512 * blocks.len() as u64 + 10;
        let policies: [&mut dyn Policy; 2] = [&mut trial, &mut ours];
        for (place, policy) in policies.into_iter().enumerate() {
            let rank = scene.pick(policy, number, &blocks, tokens);
            policy.first_token(number, rank, scene.now_ms + 20.0);
            policy.end(number, rank, Usage::default(), scene.now_ms + 30.0);
            stayed[place] += usize::from(last[place][session].replace(rank) == Some(rank));
        }
    }
    assert!(stayed.iter().all(|stayed| *stayed > 180), "{stayed:?}");
}

#[test]
fn an_unknown_knob_is_refused() {
    assert!(Trial::named("trial:speed=1", &setup(2)).is_err());
}
