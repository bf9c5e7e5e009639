use super::cache_belief::WHOLE;
use super::*;

/// Blocks are of 10 bytes. The rank is said to have room for 1,024 blocks and was sent 3,000; 100 blocks of the prompt are
/// believed to be there, the first 50 sent 20 blocks ago and the others 600, and 50 more were given up.
fn expected() -> Expected {
    let block = |place: u64| {
        let age = match place {
            0..50 => 20,
            50..100 => 600,
            _ => 1100,
        };
        ((place + 1) * 10, age)
    };
    Expected {
        is_home: false,
        is_leg: false,
        rank: RankId(0),
        matched_tokens: 250,
        matched_bytes: 1000,
        life: 0,
        ages: Ages::of((0..150).map(block)),
        queued_blocks: 0,
        sent_blocks: 3000,
        whole_blocks: WHOLE,
    }
}

fn evidence(expected: &Expected, delivered: u64) -> Evidence {
    let delivery = Delivery {
        expected: 1000,
        delivered,
        tolerance: 100,
    };
    expected.evidence(delivery, 10)
}

fn missing(share: u32) -> Evidence {
    Evidence::Missing(Missing {
        share,
        sent_share: 3000,
        is_below_half: true,
    })
}

fn partly_missing(share: u32) -> Evidence {
    Evidence::Missing(Missing {
        share,
        sent_share: 3000,
        is_below_half: false,
    })
}

fn there(share: u32) -> Evidence {
    Evidence::There { share }
}

/// A belief that is past its first answer.
fn belief(is_reported: bool, share: u32) -> CacheBelief {
    let mut belief = CacheBelief::default();
    belief.set_share(share, is_reported);
    belief
}

#[test]
fn what_is_missing_shows_the_room_up_to_its_age_and_place() {
    // The 80th block, 600 blocks later.
    let expected_share = Evidence::Missing(Missing {
        share: 680,
        sent_share: 3000,
        is_below_half: false,
    });
    assert_eq!(evidence(&expected(), 800), expected_share);
    let Evidence::Missing(nothing) = evidence(&expected(), 0) else {
        panic!("a miss")
    };
    assert_eq!((nothing.share, nothing.is_below_half), (20, true));
}

#[test]
fn what_is_there_shows_the_room_that_it_needs() {
    for (delivered, share) in [(900, 689), (1000, 699), (1100, 1209), (1500, 1249)] {
        assert_eq!(
            evidence(&expected(), delivered),
            there(share),
            "{delivered}"
        );
    }
    // What was never sent came from elsewhere.
    assert_eq!(evidence(&expected(), 1501), there(0));
}

#[test]
fn differences_within_the_tolerance_are_no_misses() {
    assert_eq!(evidence(&expected(), 900), there(689));
    assert!(matches!(
        evidence(&expected(), 899),
        Evidence::Missing(Missing { share: 689, .. })
    ));
}

#[test]
fn what_is_still_to_be_computed_is_not_missing() {
    let queued = |queued_blocks| Expected {
        queued_blocks,
        ..expected()
    };
    assert_eq!(evidence(&queued(21), 0), Evidence::None);
    assert!(matches!(evidence(&queued(20), 0), Evidence::Missing(_)));
    assert!(matches!(evidence(&queued(600), 700), Evidence::Missing(_)));
    assert_eq!(evidence(&queued(601), 700), Evidence::None);
}

#[test]
fn nothing_there_where_nothing_was_expected_says_nothing() {
    let delivery = Delivery {
        expected: 0,
        delivered: 0,
        tolerance: 100,
    };
    assert_eq!(expected().evidence(delivery, 10), Evidence::None);
}

#[test]
fn a_rank_said_to_have_no_room_shows_nothing_of_it() {
    let roomless = Expected {
        whole_blocks: 0,
        ..expected()
    };
    assert_eq!(evidence(&roomless, 1000), there(0));
}

#[test]
fn the_room_goes_a_quarter_of_the_way_down_to_what_is_missing() {
    let mut belief = belief(true, 1024);
    let changes = [624, 624, 624].map(|share| belief.learn(partly_missing(share), true));
    assert_eq!(changes, [924, 849, 793].map(Change::Capacity));
    assert_eq!(belief.scaled(1024, true), 793);
}

#[test]
fn more_room_than_for_all_that_was_sent_is_no_reason_to_wait() {
    let mut belief = belief(false, 16 * WHOLE);
    assert_eq!(
        belief.learn(partly_missing(1000), false),
        Change::Capacity(2500)
    );
}

#[test]
fn the_room_goes_half_of_the_way_up_to_what_was_given_up_and_is_there() {
    let mut belief = belief(false, 1000);
    assert_eq!(belief.learn(there(2000), false), Change::Capacity(1500));
    assert_eq!(belief.learn(there(1501), false), Change::Capacity(1546));
    assert_eq!(belief.learn(there(1100), false), Change::None);
}

#[test]
fn hits_near_the_end_of_the_room_make_it_grow_a_little() {
    let mut belief = belief(true, 800);
    assert_eq!(belief.learn(there(599), true), Change::None);
    assert_eq!(belief.learn(there(600), true), Change::Capacity(900));
    belief.set_share(800, false);
    assert_eq!(belief.learn(there(600), false), Change::Capacity(825));
}

#[test]
fn a_rank_has_no_more_room_than_it_reports_and_16_times_what_is_only_configured() {
    let mut reported = belief(true, 1000);
    assert_eq!(reported.learn(there(9000), true), Change::Capacity(WHOLE));
    let mut configured = belief(false, 1000);
    for _ in 0..99 {
        configured.learn(there(u32::MAX), false);
    }
    assert_eq!(configured.scaled(1024, false), 16 * 1024);
    assert_eq!(configured.scaled(1024, true), 1024, "once it reports");
    for _ in 0..999 {
        let share = configured.share().unwrap_or(WHOLE);
        configured.learn(partly_missing(share / 8), false);
    }
    assert_eq!(configured.scaled(1024, false), 64);
}

#[test]
fn a_rank_that_tells_what_was_cached_is_believed_to_hold_all_that_it_was_sent() {
    let mut belief = CacheBelief::default();
    assert_eq!(belief.scaled(1024, false), 1024, "until it tells");
    assert_eq!(belief.learn(Evidence::None, false), Change::None);
    assert_eq!(belief.scaled(1024, false), 16 * 1024);
    let mut reporting = CacheBelief::default();
    reporting.learn(Evidence::None, true);
    assert_eq!(reporting.scaled(1024, true), 1024);
}

#[test]
fn a_rank_is_forgotten_at_the_second_miss_in_a_row_of_young_blocks() {
    let mut belief = belief(true, 1000);
    assert_eq!(belief.learn(missing(20), true), Change::Doubted);
    assert_eq!(belief.learn(missing(20), true), Change::Forgotten);
    belief.forgotten(5);
    assert_eq!(belief.learn(missing(20), true), Change::Doubted);
    assert_eq!(belief.scaled(1000, true), 976, "its room is the same");
}

#[test]
fn a_rank_that_lost_everything_does_not_lose_its_room() {
    let mut belief = belief(true, 1000);
    let old = [500, 400, 300].map(|share| belief.learn(missing(share), true));
    assert!(matches!(old, [Change::Capacity(875), _, _]), "{old:?}");
    assert_eq!(belief.learn(missing(250), true), Change::Forgotten);
    belief.forgotten(5);
    assert_eq!(belief.share(), Some(1000));
}

#[test]
fn a_hit_between_two_misses_speaks_for_the_rank() {
    let mut belief = belief(true, 1000);
    for _ in 0..9 {
        assert_eq!(belief.learn(missing(20), true), Change::Doubted);
        assert_eq!(belief.learn(there(30), true), Change::None);
    }
}

#[test]
fn a_young_miss_of_a_part_is_no_reset() {
    let mut belief = belief(true, 1000);
    for _ in 0..9 {
        assert_eq!(belief.learn(partly_missing(20), true), Change::None);
    }
}

#[test]
fn misses_of_other_workers_count_like_own_ones() {
    let mut belief = belief(true, 1000);
    assert!(!belief.doubted());
    assert_eq!(belief.learn(missing(20), true), Change::Forgotten);
    belief.forgotten(5);
    assert!(!belief.doubted());
    belief.learn(there(20), true);
    assert!(!belief.doubted());
    assert!(belief.doubted());
}

#[test]
fn two_workers_that_find_the_same_loss_forget_once() {
    let mut belief = belief(true, 1000);
    assert!(belief.is_news(70, 100));
    belief.forgotten(100);
    assert!(!belief.is_news(80, 110), "picked before it was forgotten");
    assert!(belief.is_news(101, 200));
    assert!(belief.is_news(80, 90), "the clock was set back");
}

#[test]
fn a_rank_counts_in_its_own_steps_and_until_they_are_known_in_those_of_the_others() {
    let mut caches = Caches::default();
    caches.seat(RankId(0));
    caches.seat(RankId(1));
    assert_eq!(caches.step_tokens(RankId(0), 3072), 3072);
    assert_eq!(caches.step_tokens(RankId(0), 1024), 1024);
    assert_eq!(caches.step_tokens(RankId(1), 0), 1024);
    assert_eq!(caches.step_tokens(RankId(1), 7), 7);
    assert_eq!(caches.step_tokens(RankId(0), 0), 1024);
}
