//! What holds whatever happens.

use proptest::prelude::*;

use super::super::time_out::LONGEST_OUT_MS;
use super::*;

/// Anything that can happen to a rank, with any times.
#[derive(Clone, Copy, Debug)]
enum Event {
    Fail(RankId, Failure, Attempt),
    Answer(RankId, Attempt),
    Page(RankId),
}

fn rank() -> impl Strategy<Value = RankId> {
    (0_u16..8).prop_map(RankId)
}

/// A time near the start, or anywhere.
fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0_u64..100_000).prop_map(|at| T0 + at),
        2 => (0_u64..100_000_000).prop_map(|at| T0 - 50_000_000 + at),
        1 => any::<u64>(),
    ]
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    (moment(), moment()).prop_map(|(picked_ms, ended_ms)| Attempt {
        picked_ms,
        ended_ms,
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    prop::sample::select(Failure::ALL.to_vec())
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (rank(), failure(), any_attempt()).prop_map(|(rank, failure, attempt)| Event::Fail(rank, failure, attempt)),
        2 => (rank(), any_attempt()).prop_map(|(rank, attempt)| Event::Answer(rank, attempt)),
        1 => rank().prop_map(Event::Page),
    ]
}

fn feed(table: &mut HealthTable, event: Event, now_ms: u64) {
    match event {
        Event::Fail(rank, failure, attempt) => {
            table.failed(rank, failure, attempt, now_ms);
        }
        Event::Answer(rank, attempt) => {
            table.answered(rank, attempt, now_ms);
        }
        Event::Page(rank) => {
            table.scrape_answered(rank, now_ms);
        }
    }
}

fn ranks() -> impl Iterator<Item = RankId> {
    (0..8).map(RankId)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Nor does anything panic.
    #[test]
    fn no_rank_is_out_longer_than_the_longest_time_out_whatever_the_clock_does(
        events in prop::collection::vec((event(), moment()), 1..100),
        asked_ms in moment(),
    ) {
        let mut table = table(2, 4);
        for (event, now_ms) in events {
            feed(&mut table, event, now_ms);
        }
        let later_ms = asked_ms.saturating_add(LONGEST_OUT_MS);
        for rank in ranks().filter(|rank| table.standing(*rank, asked_ms) == Standing::Out) {
            prop_assert_ne!(table.standing(rank, later_ms), Standing::Out);
        }
    }

    #[test]
    fn a_rank_with_only_answers_is_always_in(
        events in prop::collection::vec((event(), moment(), moment()), 1..100),
    ) {
        let mut table = table(2, 4);
        for (event, now_ms, asked_ms) in events {
            if !matches!(event, Event::Fail(..)) {
                feed(&mut table, event, now_ms);
            }
            for rank in ranks() {
                prop_assert_eq!(table.standing(rank, asked_ms), Standing::In);
            }
        }
    }

    #[test]
    fn once_failures_stop_every_rank_is_in_after_six_requests(
        events in prop::collection::vec((event(), moment()), 1..100),
        // Long after or, the clock having been set back, long before most of them.
        from_ms in prop::sample::select(vec![T0 - 80_000_000, T0 + 80_000_000]),
    ) {
        let mut table = table(2, 4);
        for (event, now_ms) in events {
            feed(&mut table, event, now_ms);
        }
        for rank in ranks() {
            let mut now_ms = from_ms + LONGEST_OUT_MS;
            let mut requests = 0;
            while table.standing(rank, now_ms) != Standing::In {
                prop_assert!(table.admits(rank, 0, now_ms), "a rank that nobody uses gets its chance");
                now_ms += 1;
                table.answered(rank, Attempt { picked_ms: now_ms - 1, ended_ms: now_ms }, now_ms);
                requests += 1;
                prop_assert!(requests <= 6);
            }
        }
    }

    /// One rank, requests that take their time, some that fail, and a gateway that sends whatever is admitted.
    #[test]
    fn a_rank_that_comes_back_never_has_more_in_flight_than_it_may(
        steps in prop::collection::vec((1_u64..400, any::<bool>(), 1_u64..3_000), 50..300),
    ) {
        let mut table = table(1, 1);
        table.failed(A, Failure::NoFirstByte, attempt(0, 1), T0 + 1);
        let mut under_way: Vec<(u64, u64, bool)> = Vec::new();
        let mut now_ms = T0 + 1;
        for (step, is_good, took) in steps {
            now_ms += step;
            for (picked_ms, ended_ms, is_good) in under_way.extract_if(.., |request| request.1 <= now_ms) {
                let attempt = Attempt { picked_ms, ended_ms };
                if is_good {
                    table.answered(A, attempt, now_ms);
                } else {
                    table.failed(A, Failure::Connect, attempt, now_ms);
                }
            }
            let in_flight = u32::try_from(under_way.len()).unwrap();
            if table.admits(A, in_flight, now_ms) {
                under_way.push((now_ms, now_ms + took, is_good));
                match table.standing(A, now_ms) {
                    Standing::In => {}
                    Standing::Out => prop_assert!(false, "nothing is sent to a rank that is out"),
                    Standing::Ramping { limit } | Standing::Probe { limit } => {
                        prop_assert!(under_way.len() <= usize::try_from(limit).unwrap());
                    }
                }
            }
        }
    }

    /// Each event is heard up to 50 ms late, by each copy in an order of its own.
    #[test]
    fn copies_that_heard_the_same_in_another_order_agree_when_time_has_passed(
        events in prop::collection::vec((event(), 0_u64..3_000, 0_u64..50, 0_u64..50), 1..150),
    ) {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mut at_ms = T0;
        for (event, step, late_one, late_two) in events {
            at_ms += step;
            let event = match event {
                Event::Fail(rank, failure, attempt) => Event::Fail(rank, failure, at(attempt, at_ms)),
                Event::Answer(rank, attempt) => Event::Answer(rank, at(attempt, at_ms)),
                Event::Page(rank) => Event::Page(rank),
            };
            one.push((at_ms + late_one, event));
            two.push((at_ms + late_two, event));
        }
        let (mut one, mut two) = (copy_of(one), copy_of(two));
        let end_ms = at_ms + 50;
        // By themselves, after all is forgotten.
        let later_ms = end_ms + LONGEST_OUT_MS + 600_000;
        for rank in ranks() {
            prop_assert_eq!(one.standing(rank, later_ms), two.standing(rank, later_ms));
        }
        // At once, after they have told each other.
        for rank in ranks() {
            let (first, second) = (one.spell(rank, end_ms), two.spell(rank, end_ms));
            second.map(|spell| one.join(rank, spell, end_ms));
            first.map(|spell| two.join(rank, spell, end_ms));
            for ahead in [0, 500, 1_000, 5_000, 30_000, 60_000, 90_000] {
                let given = one.standing(rank, end_ms + ahead);
                prop_assert_eq!(given, two.standing(rank, end_ms + ahead));
            }
        }
    }
}

/// The same attempt, ended at `ended_ms` and picked up to ten seconds before.
fn at(attempt: Attempt, ended_ms: u64) -> Attempt {
    Attempt {
        picked_ms: ended_ms - attempt.picked_ms % 10_000,
        ended_ms,
    }
}

/// A table that heard the events at their times.
fn copy_of(mut heard: Vec<(u64, Event)>) -> HealthTable {
    heard.sort_by_key(|(now_ms, _)| *now_ms);
    let mut table = table(2, 4);
    for (now_ms, event) in heard {
        feed(&mut table, event, now_ms);
    }
    table
}
