//! Ranks that die together.

use super::*;

fn ranks(range: std::ops::Range<u16>) -> impl Iterator<Item = RankId> {
    range.map(RankId)
}

#[test]
fn two_dead_ranks_take_their_pod_out_and_no_other() {
    let mut scene = Scene::new(2, 8);
    scene.put_out(A, 0);
    assert_eq!(scene.standings(100), "OIIIIIIIIIIIIIII");
    scene.put_out(B, 3_000);
    let at = 3_002;
    assert_eq!(
        scene.standings(at),
        "OOOOOOOOIIIIIIII",
        "the first, half-open meanwhile, too"
    );
}

#[test]
fn a_pod_that_answered_since_the_first_failure_stays() {
    let mut scene = Scene::new(1, 8);
    scene.put_out(A, 0);
    assert!(scene.answer(RankId(5), 0, 1_000), "news for the others");
    scene.put_out(B, 2_000);
    assert_eq!(scene.standings(2_002), "POIIIIII");
}

#[test]
fn ranks_that_die_far_apart_take_no_pod_out() {
    let mut scene = Scene::new(1, 4);
    scene.put_out(A, 0);
    scene.put_out(B, 5_002);
    assert_eq!(scene.standings(5_003), "POII");
}

#[test]
fn errors_and_hangs_are_a_ranks_own() {
    for failure in [Failure::ServerError, Failure::NoFirstByte] {
        let mut scene = Scene::new(2, 4);
        for rank in [A, B] {
            for at in 0..3 {
                scene.fail(rank, failure, at, at + 1);
            }
        }
        for at in 0..49 {
            scene.answer(RankId(7), at, at);
        }
        scene.fail(B, failure, 49, 50);
        assert_eq!(scene.standings(50), "OOIIIIII");
    }
}

#[test]
fn one_failed_probe_keeps_a_dead_pod_out() {
    let mut scene = Scene::new(1, 8);
    scene.put_out(A, 0);
    scene.put_out(B, 10);
    assert_eq!(scene.standings(100), "OOOOOOOO");
    assert_eq!(scene.standings(2_000), "PPPPPPPP");
    assert!(scene.fail(RankId(4), Failure::Connect, 2_000, 2_001));
    assert_eq!(scene.standings(2_002), "OOOOOOOO");
    let longest = ranks(0..8).map(|rank| scene.opens(rank, 2_002)).max();
    assert!(longest > Some(3_200), "longer than the first time");
}

#[test]
fn a_rank_of_a_pod_that_comes_back_frees_the_others_from_its_fate() {
    let mut scene = Scene::new(1, 4);
    scene.put_out(A, 0);
    scene.put_out(B, 10);
    assert!(scene.answer(RankId(2), 2_000, 2_001));
    scene.fail(RankId(3), Failure::Connect, 2_002, 2_003);
    assert_eq!(scene.standings(2_004), "PPRO");
}

#[test]
fn a_page_that_is_read_opens_a_rank_that_only_followed_its_pod() {
    let mut scene = Scene::new(1, 4);
    scene.put_out(A, 0);
    scene.put_out(B, 10);
    assert!(scene.scrape(RankId(2), true, 100));
    assert!(scene.scrape(A, true, 100), "news, though it opens nothing");
    assert_eq!(scene.standings(101), "OOPO");
}

#[test]
fn ranks_without_a_pod_in_common_share_nothing() {
    let mut scene = Scene::new(4, 1);
    scene.put_out(A, 0);
    scene.put_out(B, 10);
    assert_eq!(scene.standings(12), "OOII");
}
