use super::*;
use crate::BodyEnd;

mod guard;
#[cfg(not(target_arch = "wasm32"))]
mod properties;

const READER: u32 = 7;
const PICKER: u32 = 8;
const CUT: BlockCut = BlockCut {
    block_bytes: 64,
    seed: 0,
};
const LIMITS: Limits = Limits {
    bytes: 1000,
    idle_ms: 50,
};
const BODY: &[u8] = br#"{"prompt":"once upon a time"}"#;

fn held() -> Exchanges {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions);
    assert!(exchanges.join(READER, PICKER, CUT, LIMITS, 0));
    exchanges
}

fn due(exchanges: &mut Exchanges) -> Vec<(u32, Due, BodyEnd)> {
    exchanges
        .take_due()
        .into_iter()
        .map(|d| (d.picker, d.due, d.prompt.body_end))
        .collect()
}

#[test]
fn a_whole_body_is_due_at_once_and_only_once() {
    let mut exchanges = held();
    let (head, tail) = BODY.split_at(9);
    assert!(!exchanges.feed(READER, head, 1));
    assert!(exchanges.feed(READER, tail, 2));
    assert!(!exchanges.end_body(READER));
    assert!(!exchanges.is_reading(READER));
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::BodyEnd, BodyEnd::Whole)]
    );
    assert_eq!(due(&mut exchanges), []);
    assert_eq!(exchanges.held_requests(), 0);
}

#[test]
fn a_body_that_waits_for_its_rank_is_decided_on_at_once_and_read_as_it_passes() {
    let mut exchanges = held();
    assert!(exchanges.hurry(READER));
    assert!(!exchanges.hurry(READER));
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::IdleLimit, BodyEnd::Cut)]
    );
    exchanges.feed(READER, BODY, 1);
    exchanges.end_body(READER);
    let read = exchanges.take_read();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].prompt.body_end, BodyEnd::Whole);
    assert!(!exchanges.hurry(READER), "nobody waits any more");
}

#[test]
fn a_body_that_breaks_off_is_unreadable() {
    let mut exchanges = held();
    exchanges.feed(READER, b"{\"prompt\":\"on", 1);
    assert!(exchanges.end_body(READER));
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::BodyEnd, BodyEnd::Unreadable)]
    );
}

#[test]
fn what_is_not_json_is_not_waited_for() {
    let mut exchanges = held();
    assert!(exchanges.feed(READER, b"--boundary", 1));
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::Unreadable, BodyEnd::Unreadable)]
    );
}

#[test]
fn a_long_body_is_cut_at_the_byte_limit() {
    let mut exchanges = held();
    exchanges.feed(READER, b"{\"prompt\":\"", 1);
    assert!(!exchanges.feed(READER, &[b'a'; 900], 1));
    assert!(exchanges.feed(READER, &[b'a'; 900], 1));
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::ByteLimit, BodyEnd::Cut)]
    );
}

#[test]
fn a_stalled_body_is_cut_when_it_was_idle_long_enough() {
    let mut exchanges = held();
    exchanges.feed(READER, b"{\"prompt\":\"on", 100);
    exchanges.expire(149);
    assert_eq!(due(&mut exchanges), []);
    exchanges.expire(150);
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::IdleLimit, BodyEnd::Cut)]
    );
}

#[test]
fn a_request_that_went_away_is_not_decided() {
    let mut exchanges = held();
    exchanges.feed(READER, BODY, 1);
    exchanges.close(READER);
    assert_eq!(due(&mut exchanges), []);
    assert!(!exchanges.feed(READER, BODY, 2));
    assert!(!exchanges.join(
        READER,
        PICKER,
        CUT,
        Limits {
            bytes: 1,
            idle_ms: 1
        },
        3
    ));
}

#[test]
fn a_second_picker_does_not_hold() {
    let mut exchanges = held();
    assert!(!exchanges.join(
        READER,
        9,
        CUT,
        Limits {
            bytes: 1,
            idle_ms: 1
        },
        0
    ));
}

#[test]
fn nothing_is_due_before_a_picker_holds() {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions);
    assert!(!exchanges.feed(READER, BODY, 1));
    assert!(!exchanges.end_body(READER));
    assert_eq!(
        (due(&mut exchanges), exchanges.held_requests()),
        (vec![], 0)
    );
}

#[test]
fn without_a_reader_there_is_nothing_to_wait_for() {
    let mut exchanges = Exchanges::default();
    assert!(!exchanges.join(READER, PICKER, CUT, LIMITS, 0));
    assert!(!exchanges.close(READER));
    assert!(!exchanges.end_body(READER));
    exchanges.expire(u64::MAX);
    assert_eq!(due(&mut exchanges), []);
}

#[test]
fn an_empty_body_is_unreadable() {
    let mut exchanges = held();
    assert!(!exchanges.feed(READER, b"", 1));
    assert!(exchanges.end_body(READER));
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::BodyEnd, BodyEnd::Unreadable)]
    );
}

#[test]
fn the_byte_limit_is_reached_exactly() {
    let mut exchanges = held();
    exchanges.feed(READER, b"{\"prompt\":\"", 1);
    assert!(!exchanges.feed(READER, &[b'a'; 988], 1));
    assert!(exchanges.feed(READER, b"a", 1));
}

#[test]
fn every_byte_starts_the_wait_anew() {
    let mut exchanges = held();
    for now_ms in [40, 80, 120] {
        assert!(!exchanges.feed(READER, b" ", now_ms));
        exchanges.expire(now_ms + 49);
        assert_eq!(due(&mut exchanges), []);
    }
    exchanges.expire(170);
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::IdleLimit, BodyEnd::Cut)]
    );
}

#[test]
fn a_clock_that_is_set_back_hangs_no_request() {
    let mut exchanges = held();
    exchanges.feed(READER, b"{", 1000);
    exchanges.expire(951);
    assert_eq!(due(&mut exchanges), []);
    exchanges.expire(950);
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::IdleLimit, BodyEnd::Cut)]
    );
}

#[test]
fn what_comes_after_the_decision_is_ignored() {
    let mut exchanges = held();
    assert!(exchanges.feed(READER, b"no json", 1));
    assert!(!exchanges.feed(READER, BODY, 2));
    exchanges.expire(10_000);
    assert_eq!(exchanges.held_requests(), 1);
    assert_eq!(
        due(&mut exchanges),
        [(PICKER, Due::Unreadable, BodyEnd::Unreadable)]
    );
    assert!(!exchanges.feed(READER, BODY, 3));
    assert!(!exchanges.end_body(READER));
    assert!(!exchanges.close(READER));
    exchanges.expire(20_000);
    assert_eq!(due(&mut exchanges), []);
}

#[test]
fn closing_says_whether_the_request_was_held() {
    let mut exchanges = held();
    assert!(exchanges.close(READER));
    assert!(!exchanges.close(READER));
    exchanges.open(READER, Endpoint::Completions);
    assert!(!exchanges.close(READER));
    assert_eq!(exchanges.held_requests(), 0);
}

#[test]
fn a_number_that_is_used_again_is_a_new_request() {
    let mut exchanges = held();
    exchanges.feed(READER, BODY, 1);
    exchanges.close(READER);
    exchanges.open(READER, Endpoint::Completions);
    assert!(exchanges.join(READER, 9, CUT, LIMITS, 2));
    assert_eq!(due(&mut exchanges), []);
    assert!(exchanges.feed(READER, BODY, 3));
    assert_eq!(due(&mut exchanges), [(9, Due::BodyEnd, BodyEnd::Whole)]);
}

#[test]
fn requests_are_decided_in_the_order_in_which_they_became_due() {
    let mut exchanges = Exchanges::default();
    for reader in 0..20 {
        exchanges.open(reader, Endpoint::Completions);
        assert!(exchanges.join(reader, reader + 100, CUT, LIMITS, 0));
    }
    exchanges.end_body(13);
    exchanges.end_body(5);
    exchanges.expire(50);
    let pickers: Vec<u32> = due(&mut exchanges)
        .into_iter()
        .map(|(picker, ..)| picker)
        .collect();
    let others = (0..20).filter(|reader| ![13, 5].contains(reader));
    let expected: Vec<u32> = [13, 5]
        .into_iter()
        .chain(others)
        .map(|reader| reader + 100)
        .collect();
    assert_eq!(pickers, expected);
}

#[test]
fn a_cut_prompt_weighs_what_came_of_it() {
    let mut exchanges = Exchanges::default();
    exchanges.open(READER, Endpoint::Completions);
    assert!(exchanges.join(READER, PICKER, CUT, LIMITS, 0));
    exchanges.feed(READER, &[b"{\"prompt\":\"", &[b'a'; 1189][..]].concat(), 1);
    let decidable = exchanges.take_due().pop().unwrap();
    assert_eq!(
        (
            decidable.due,
            decidable.prompt.prompt_bytes,
            decidable.has_ended
        ),
        (Due::ByteLimit, 1189, false)
    );
}

#[test]
fn a_body_whose_json_is_whole_has_not_ended_until_its_end_comes() {
    let mut exchanges = Exchanges::default();
    for (reader, ends) in [(READER, false), (READER + 1, true)] {
        exchanges.open(reader, Endpoint::Completions);
        assert!(exchanges.join(reader, PICKER, CUT, LIMITS, 0));
        exchanges.feed(reader, br#"{"prompt":"a"}"#, 1);
        if ends {
            exchanges.end_body(reader);
        }
        let decidable = exchanges.take_due().pop().unwrap();
        assert_eq!((decidable.due, decidable.has_ended), (Due::BodyEnd, ends));
    }
}
