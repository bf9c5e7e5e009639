//! Two workers that tell each other what they know.

use super::*;

/// Tells `to` everything that `from` knows of ranks that are not plainly in.
fn tell(from: &Scene, to: &mut Scene, at: u64) {
    for rank in (0..4).map(RankId) {
        let Some(spell) = from.table.spell(rank, T0 + at) else {
            continue;
        };
        let spell = Spell::decode(&spell.encode()).unwrap();
        to.table.join(rank, spell, T0 + at);
    }
}

#[test]
fn a_new_worker_learns_who_is_out_and_for_how_long() {
    let mut old = Scene::new(4, 1);
    let opens = old.put_out(A, 0);
    let again = old.put_out(B, opens);
    let mut new = Scene::new(4, 1);
    tell(&old, &mut new, opens + 2);
    for at in opens + 2..again + 100 {
        assert_eq!(old.standings(at), new.standings(at), "{at}");
    }
    assert!(new.standings(again).starts_with("PP"));
}

#[test]
fn the_later_time_out_wins_and_of_one_that_which_has_come_further() {
    let mut one = Scene::new(4, 1);
    let mut two = Scene::new(4, 1);
    let opens = one.put_out(A, 0);
    tell(&one, &mut two, 2);
    one.answer(A, opens, opens + 1);
    tell(&two, &mut one, opens + 2);
    assert_eq!(one.standings(opens + 2), "RIII", "the other knows less");
    tell(&one, &mut two, opens + 2);
    assert_eq!(two.standings(opens + 2), "RIII");
    two.fail(A, Failure::Reset, opens + 3, opens + 4);
    tell(&two, &mut one, opens + 5);
    assert_eq!(one.standings(opens + 5), "OIII");
    assert_eq!(one.opens(A, opens + 5), two.opens(A, opens + 5));
}

#[test]
fn a_rank_that_was_opened_by_its_page_is_open_everywhere() {
    let mut one = Scene::new(4, 1);
    let mut two = Scene::new(4, 1);
    for rank in (0..4).map(RankId) {
        one.scrape(rank, true, 0);
    }
    for at in 1..4 {
        one.scrape(A, false, at);
    }
    tell(&one, &mut two, 4);
    assert_eq!(two.standings(4), "OIII");
    one.scrape(A, true, 5);
    tell(&two, &mut one, 6);
    tell(&one, &mut two, 6);
    assert_eq!(
        (one.standings(6), two.standings(6)),
        ("PIII".into(), "PIII".into())
    );
}

#[test]
fn what_cannot_be_true_is_not_taken() {
    let hour = 3_600_000;
    let mut ahead = Scene::new(4, 1);
    ahead.put_out(A, hour);
    let spell = ahead.table.spell(A, T0 + hour + 2).unwrap();
    let mut scene = Scene::new(4, 1);
    assert!(!scene.table.join(A, spell, T0 + 9));
    let endless = Spell {
        length_ms: u32::MAX,
        ..spell
    };
    assert!(!scene.table.join(A, endless, T0 + hour + 2));
    assert!(!scene.table.join(RankId(77), spell, T0 + hour + 2));
    assert_eq!(scene.standings(9), "IIII");
    assert!(scene.table.join(A, spell, T0 + hour + 2), "later it is");
}

#[test]
fn a_rank_that_has_healed_is_no_news() {
    let mut scene = Scene::new(4, 1);
    let opens = scene.put_out(A, 0);
    assert!(scene.table.spell(B, T0).is_none());
    for at in opens..opens + 6 {
        scene.answer(A, at, at);
    }
    assert_eq!(scene.standing(A, opens + 6), Standing::In);
    let is_known = |after| scene.table.spell(A, T0 + opens + after).is_some();
    assert!(is_known(6), "the next time out would be longer");
    assert!(is_known(60_004));
    assert!(!is_known(60_005));
}

#[test]
fn a_row_ends_with_the_time_out_that_another_worker_tells_of() {
    let mut one = Scene::new(4, 1);
    let mut two = Scene::new(4, 1);
    two.fail(A, Failure::Connect, 0, 0);
    let opens = one.put_out(A, 0);
    for at in opens..opens + 6 {
        one.answer(A, at, at);
    }
    tell(&one, &mut two, opens + 6);
    assert!(!two.fail(A, Failure::Connect, opens + 7, opens + 8));
    assert_eq!(two.standings(opens + 8), "IIII");
}
