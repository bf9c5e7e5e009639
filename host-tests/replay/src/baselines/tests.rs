use std::rc::Rc;

use super::*;
use crate::policy::Truth;

/// By rank: when a first token would come, and what it holds.
struct Told(Vec<(f64, u64)>);

impl Truth for Told {
    fn first_token_ms(&self, rank: usize, _: &Arrival) -> f64 {
        self.0[rank].0
    }

    fn cached_tokens(&self, rank: usize, _: &Arrival) -> u64 {
        self.0[rank].1
    }
}

fn picks(policy: &mut Box<dyn Policy>, truth: &Told, count: usize) -> Vec<usize> {
    let pick = |number| {
        let arrival = Arrival {
            number,
            blocks: Rc::from([]),
            prompt_tokens: 9,
        };
        let view = View {
            now_ms: 0.0,
            reports: &[],
            truth,
        };
        policy.pick(&arrival, &view)
    };
    (0..count).map(pick).collect()
}

#[test]
fn round_robin_goes_round() {
    let none = Told(Vec::new());
    assert_eq!(picks(&mut RoundRobin::boxed(3), &none, 5), [0, 1, 2, 0, 1]);
    assert_eq!(
        picks(&mut RoundRobin::boxed_from(3, 2), &none, 3),
        [2, 0, 1]
    );
}

#[test]
fn random_takes_all_ranks_and_is_its_seed() {
    let none = Told(Vec::new());
    let taken = picks(&mut Random::boxed(4, 7), &none, 200);
    assert_eq!(taken, picks(&mut Random::boxed(4, 7), &none, 200));
    assert!((0..4).all(|rank| taken.contains(&rank)));
}

#[test]
fn the_fewest_in_flight_come_first_until_they_have_as_many() {
    let none = Told(Vec::new());
    let mut policy = LeastInFlight::boxed(3, 1);
    let mut taken = picks(&mut policy, &none, 3);
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2]);
    policy.end(0, 1, Usage::default(), 1.0);
    assert_eq!(picks(&mut policy, &none, 1), [1]);
}

#[test]
fn of_two_ranks_the_one_with_fewer_requests_is_taken() {
    let none = Told(Vec::new());
    let mut policy = LeastRequest::boxed(2, 1);
    // Both choices can be the same rank, so it may get one more; three quarters of the choices see the idle one.
    let taken = picks(&mut policy, &none, 400);
    let first = taken.iter().filter(|rank| **rank == 0).count();
    assert!((190..=210).contains(&first), "{first} of 400");
    (0..190).for_each(|number| policy.end(number, 1, Usage::default(), 1.0));
    let taken = picks(&mut policy, &none, 100);
    let other = taken.iter().filter(|rank| **rank == 1).count();
    assert!((65..=85).contains(&other), "{other} of 100");
}

#[test]
fn the_oracle_takes_the_first_token_and_among_equals_the_larger_prefix() {
    let truth = Told(vec![(50.0, 900), (40.5, 0), (40.0, 100), (40.9, 512)]);
    assert_eq!(picks(&mut Oracle::boxed(4, 1), &truth, 3), [3, 3, 3]);
}
