//! Bodies that say what a client must not say.

use std::sync::Arc;

use super::*;
use crate::{Refusal, RefusedKeys};

const FORBIDDEN: &[u8] = br#","kv_transfer_params":{"remote_block_ids":[1]}}"#;
const BEGINNING: &[u8] = br#"{"prompt":"once""#;

/// The rules of a pool that refuses the list, or of a shadow.
fn rules(refuses: bool) -> Option<Arc<RefusedKeys>> {
    refuses.then(Arc::default)
}

/// The rules of a pool that lets this key pass, and refuses one of its own.
fn rules_but_for(key: &str) -> Option<Arc<RefusedKeys>> {
    let keys = |key: &str| vec![key.to_string()];
    Some(Arc::new(RefusedKeys::new(keys(key), keys("mine"))))
}

fn is_refused(exchanges: &Exchanges) -> bool {
    exchanges.refusal(READER).is_some()
}

/// A request that a picker holds, of a pool that refuses or not.
fn held_by(refuses: bool) -> Exchanges {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions);
    exchanges.guard(READER, rules(refuses));
    assert!(exchanges.join(READER, PICKER, CUT, LIMITS, 0));
    exchanges
}

/// A request of a pool that refuses, whose body carries no prompt that can be read.
fn unread() -> Exchanges {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, None);
    exchanges.guard(READER, rules(true));
    assert!(exchanges.sees_no_prompt(READER));
    assert!(!exchanges.join(READER, PICKER, CUT, LIMITS, 0));
    exchanges
}

#[test]
fn a_held_request_is_refused_and_not_decided() {
    let mut exchanges = held_by(true);
    assert!(!exchanges.feed(READER, BEGINNING, 1));
    assert!(!is_refused(&exchanges));
    assert!(!exchanges.feed(READER, FORBIDDEN, 1));
    assert!(is_refused(&exchanges));
    assert_eq!(due(&mut exchanges), []);
    assert!(exchanges.close(READER));
    assert!(!is_refused(&exchanges));
}

#[test]
fn a_pool_that_allows_it_reads_the_body_as_any_other() {
    let mut exchanges = held_by(false);
    exchanges.feed(READER, BEGINNING, 1);
    assert!(exchanges.feed(READER, FORBIDDEN, 1));
    assert!(!is_refused(&exchanges));
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::BodyEnd, BodyEnd::Whole)]
    );
}

#[test]
fn a_request_is_refused_after_an_early_decision() {
    for by_bytes in [true, false] {
        let mut exchanges = held_by(true);
        exchanges.feed(READER, BEGINNING, 1);
        let expected = if by_bytes {
            exchanges.feed(READER, &[b' '; 1000], 1);
            Due::ByteLimit
        } else {
            exchanges.expire(1000);
            Due::IdleLimit
        };
        assert_eq!(due(&mut exchanges), [(PICKER, expected, BodyEnd::Cut)]);
        assert!(exchanges.is_reading(READER));
        exchanges.feed(READER, FORBIDDEN, 2);
        assert!(is_refused(&exchanges));
        assert!(exchanges.take_read().is_empty());
    }
}

#[test]
fn a_body_is_watched_beyond_what_is_read_of_prompts() {
    let mut exchanges = held_by(true);
    exchanges.feed(READER, BEGINNING, 1);
    let spaces = vec![b' '; 1024 * 1024];
    for _ in 0..=READ_ON_BYTES / 1024 / 1024 + 1 {
        exchanges.feed(READER, &spaces, 1);
        due(&mut exchanges);
    }
    assert!(matches!(exchanges.open[&READER].stage, Stage::Watched(_)));
    assert!(exchanges.is_reading(READER));
    exchanges.feed(READER, FORBIDDEN, 2);
    assert!(is_refused(&exchanges));
}

#[test]
fn a_prompt_that_cannot_be_read_is_watched() {
    let wide: Vec<u8> = [BEGINNING, FORBIDDEN]
        .concat()
        .iter()
        .flat_map(|byte| [*byte, 0])
        .collect();
    for is_decided_first in [true, false] {
        let mut exchanges = held_by(true);
        assert!(exchanges.feed(READER, &wide[..8], 1));
        if is_decided_first {
            assert_eq!(
                due(&mut exchanges),
                [(PICKER, Due::Unreadable, BodyEnd::Unreadable)]
            );
        }
        assert!(exchanges.is_reading(READER));
        assert!(!exchanges.feed(READER, &wide[8..], 2));
        assert!(is_refused(&exchanges));
    }
}

#[test]
fn bodies_that_carry_no_prompt_are_watched() {
    let mut exchanges = unread();
    assert!(exchanges.is_reading(READER));
    exchanges.feed(READER, &[BEGINNING, FORBIDDEN].concat(), 1);
    assert!(is_refused(&exchanges));
    assert!(!exchanges.close(READER));
}

#[test]
fn what_can_hold_nothing_more_is_not_read_on() {
    for body in [BODY, b"--boundary", b"\x1f\x8b\x08\x00"] {
        let mut exchanges = unread();
        exchanges.feed(READER, body, 1);
        assert!(!exchanges.is_reading(READER));
    }
    let mut exchanges = held_by(true);
    exchanges.feed(READER, BODY, 1);
    due(&mut exchanges);
    assert!(!exchanges.is_reading(READER));
}

#[test]
fn where_it_is_allowed_nothing_is_read_but_prompts() {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, None);
    exchanges.guard(READER, rules(false));
    assert!(!exchanges.is_reading(READER));
}

#[test]
fn what_passed_before_a_picker_came_counts() {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions);
    assert!(exchanges.is_reading(READER));
    exchanges.feed(READER, &[BEGINNING, FORBIDDEN].concat(), 1);
    assert!(!is_refused(&exchanges), "nobody has said that it is to be");
    exchanges.guard(READER, rules(true));
    assert!(is_refused(&exchanges));
}

#[test]
fn what_began_before_a_picker_held_is_watched_and_no_prompt() {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions);
    exchanges.feed(READER, BEGINNING, 1);
    exchanges.guard(READER, rules(true));
    assert!(exchanges.join(READER, PICKER, CUT, LIMITS, 2));
    exchanges.feed(READER, FORBIDDEN, 2);
    assert!(is_refused(&exchanges));
}

#[test]
fn of_two_pools_one_that_refuses_is_enough() {
    for first in [true, false] {
        let mut exchanges = unread();
        exchanges.guard(READER, rules(first));
        exchanges.guard(READER, rules(!first));
        exchanges.feed(READER, &[BEGINNING, FORBIDDEN].concat(), 1);
        assert!(is_refused(&exchanges));
    }
}

#[test]
fn every_split_point_is_refused() {
    let body = [BEGINNING, FORBIDDEN].concat();
    for split in 0..body.len() {
        let (one, two) = body.split_at(split);
        for is_cut in [true, false] {
            let mut exchanges = held_by(true);
            exchanges.feed(READER, one, 1);
            if is_cut {
                exchanges.expire(1000);
                due(&mut exchanges);
            }
            exchanges.feed(READER, two, 2);
            assert!(is_refused(&exchanges), "split at {split}, cut: {is_cut}");
        }
    }
}

#[test]
fn the_refusal_names_the_first_key_that_a_pool_refuses() {
    let body =
        br#"{"kv_transfer_params":{},"vllm_xargs":{"ec_transfer_params":1},"bootstrap_room":2}"#;
    for (rules, key) in [
        (rules(true), "kv_transfer_params"),
        (rules_but_for("kv_transfer_params"), "ec_transfer_params"),
    ] {
        let mut exchanges = Exchanges::default();
        exchanges.open(READER, Endpoint::Completions);
        exchanges.guard(READER, rules);
        exchanges.feed(READER, body, 1);
        assert_eq!(exchanges.refusal(READER), Some(Refusal::Key(key.into())));
    }
}

#[test]
fn a_key_that_a_pool_adds_is_looked_for_in_bodies_that_come_later() {
    let body = br#"{"mine":1}"#;
    for is_known in [true, false] {
        let mut exchanges = Exchanges::default();
        exchanges.look_for(is_known.then(|| "mine".to_string()));
        exchanges.open(READER, None);
        exchanges.guard(READER, rules_but_for("bootstrap_host"));
        exchanges.feed(READER, body, 1);
        assert_eq!(is_refused(&exchanges), is_known);
    }
}

/// A request whose pool is known with its pick, which is due.
fn due_by_pick(body: &[u8], is_cut: bool) -> Exchanges {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions);
    assert!(exchanges.join(READER, PICKER, CUT, LIMITS, 0));
    exchanges.guard_by_pick(READER);
    exchanges.feed(READER, body, 1);
    if is_cut {
        exchanges.expire(1000);
    }
    assert!(!is_refused(&exchanges), "nobody has said that it is to be");
    assert_eq!(exchanges.take_due().len(), 1);
    assert!(!is_refused(&exchanges));
    exchanges
}

#[test]
fn the_rules_of_the_pool_that_is_chosen_count_for_all_of_the_body() {
    let body = [BEGINNING, FORBIDDEN].concat();
    let key = Some(Refusal::Key("kv_transfer_params".into()));
    for (rules, expected) in [
        (rules(true), key),
        (rules_but_for("kv_transfer_params"), None),
        (rules(false), None),
    ] {
        let mut whole = due_by_pick(&body, false);
        whole.guard(READER, rules.clone());
        assert_eq!(whole.refusal(READER), expected);
        let mut cut = due_by_pick(BEGINNING, true);
        cut.guard(READER, rules);
        assert!(!is_refused(&cut));
        cut.feed(READER, FORBIDDEN, 2);
        assert_eq!(cut.refusal(READER), expected);
    }
}

#[test]
fn a_model_behind_the_one_that_chose_the_route_is_refused() {
    const MODEL: &[u8] = br#"{"model":"small","prompt":"once""#;
    for second in [
        &br#","model":"large""#[..],
        br#","m\u006fdel":null"#,
        br#","model":"small""#,
    ] {
        let mut exchanges = due_by_pick(MODEL, true);
        exchanges.fix_model(READER);
        exchanges.guard(READER, rules(false));
        assert!(exchanges.is_reading(READER));
        assert!(!is_refused(&exchanges));
        exchanges.feed(READER, second, 2);
        assert_eq!(exchanges.refusal(READER), Some(Refusal::SecondModel));
    }
    let mut exchanges = due_by_pick(MODEL, true);
    exchanges.fix_model(READER);
    exchanges.guard(READER, rules(true));
    exchanges.feed(READER, br#","messages":[{"model":"large"}]}"#, 2);
    assert!(!is_refused(&exchanges), "only its own fields name it");
}

#[test]
fn models_before_the_pick_and_where_none_chose_the_route_are_the_server_s_to_judge() {
    let both = br#"{"model":"small","model":"large","prompt":"once""#;
    let mut exchanges = due_by_pick(both, true);
    exchanges.fix_model(READER);
    exchanges.guard(READER, rules(true));
    exchanges.feed(READER, b"}", 2);
    assert!(!is_refused(&exchanges));
    let mut exchanges = due_by_pick(BEGINNING, true);
    exchanges.guard(READER, rules(true));
    exchanges.feed(READER, br#","model":"small","model":"large"}"#, 2);
    assert!(!is_refused(&exchanges));
}

#[test]
fn a_second_model_is_found_beyond_what_is_read_of_prompts() {
    let mut exchanges = due_by_pick(br#"{"model":"small","prompt":"once""#, true);
    exchanges.fix_model(READER);
    exchanges.guard(READER, rules(false));
    let spaces = vec![b' '; 1024 * 1024];
    for _ in 0..=READ_ON_BYTES / 1024 / 1024 + 1 {
        exchanges.feed(READER, &spaces, 1);
    }
    assert!(matches!(exchanges.open[&READER].stage, Stage::Watched(_)));
    exchanges.feed(READER, br#","model":"large"}"#, 2);
    assert_eq!(exchanges.refusal(READER), Some(Refusal::SecondModel));
}
