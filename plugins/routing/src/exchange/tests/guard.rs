//! Bodies that say what a client must not say.

use super::*;

const FORBIDDEN: &[u8] = br#","kv_transfer_params":{"remote_block_ids":[1]}}"#;
const BEGINNING: &[u8] = br#"{"prompt":"once""#;

/// A request that a picker holds, of a pool that refuses or not.
fn held_by(refuses: bool) -> Exchanges {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions, None);
    exchanges.guard(READER, refuses);
    assert!(exchanges.join(READER, PICKER, CUT, LIMITS, 0));
    exchanges
}

/// A request of a pool that refuses, whose body carries no prompt that can be read.
fn unread() -> Exchanges {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, None, None);
    exchanges.guard(READER, true);
    assert!(exchanges.sees_no_prompt(READER));
    assert!(!exchanges.join(READER, PICKER, CUT, LIMITS, 0));
    exchanges
}

#[test]
fn a_held_request_is_refused_and_not_decided() {
    let mut exchanges = held_by(true);
    assert!(!exchanges.feed(READER, BEGINNING, 1));
    assert!(!exchanges.is_refused(READER));
    assert!(!exchanges.feed(READER, FORBIDDEN, 1));
    assert!(exchanges.is_refused(READER));
    assert_eq!(due(&mut exchanges), []);
    assert!(exchanges.close(READER));
    assert!(!exchanges.is_refused(READER));
}

#[test]
fn a_pool_that_allows_it_reads_the_body_as_any_other() {
    let mut exchanges = held_by(false);
    exchanges.feed(READER, BEGINNING, 1);
    assert!(exchanges.feed(READER, FORBIDDEN, 1));
    assert!(!exchanges.is_refused(READER));
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
        assert!(exchanges.is_refused(READER));
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
    assert!(exchanges.is_refused(READER));
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
        assert!(exchanges.is_refused(READER));
    }
}

#[test]
fn bodies_that_carry_no_prompt_are_watched() {
    let mut exchanges = unread();
    assert!(exchanges.is_reading(READER));
    exchanges.feed(READER, &[BEGINNING, FORBIDDEN].concat(), 1);
    assert!(exchanges.is_refused(READER));
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
    exchanges.open(READER, None, None);
    exchanges.guard(READER, false);
    assert!(!exchanges.is_reading(READER));
}

#[test]
fn what_passed_before_a_picker_came_counts() {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions, None);
    assert!(exchanges.is_reading(READER));
    exchanges.feed(READER, &[BEGINNING, FORBIDDEN].concat(), 1);
    assert!(
        !exchanges.is_refused(READER),
        "nobody has said that it is to be"
    );
    exchanges.guard(READER, true);
    assert!(exchanges.is_refused(READER));
}

#[test]
fn what_began_before_a_picker_held_is_watched_and_no_prompt() {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions, None);
    exchanges.feed(READER, BEGINNING, 1);
    exchanges.guard(READER, true);
    assert!(exchanges.join(READER, PICKER, CUT, LIMITS, 2));
    exchanges.feed(READER, FORBIDDEN, 2);
    assert!(exchanges.is_refused(READER));
}

#[test]
fn of_two_pools_one_that_refuses_is_enough() {
    for first in [true, false] {
        let mut exchanges = unread();
        exchanges.guard(READER, first);
        exchanges.guard(READER, !first);
        exchanges.feed(READER, &[BEGINNING, FORBIDDEN].concat(), 1);
        assert!(exchanges.is_refused(READER));
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
            assert!(
                exchanges.is_refused(READER),
                "split at {split}, cut: {is_cut}"
            );
        }
    }
}
