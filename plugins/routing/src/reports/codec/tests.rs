use proptest::prelude::*;

use super::*;
use crate::Report;
use crate::reports::{Process, RankReport};

/// Every field set to a usual value.
fn usual(number: u64) -> Report {
    Report {
        running: Some(37),
        waiting: Some(4),
        kv_usage: Some(0.412_968_300_180_8),
        capacity_tokens: Some(849_472),
        start_time_ms: Some(1_795_578_310_370 + number),
        prompt_tokens_total: Some(1_284_412_000 + number),
        generation_tokens_total: Some(402_100_000 + number),
        prefix_queried_tokens_total: Some(1_284_412_000 + number),
        prefix_hit_tokens_total: Some(902_144_000 + number),
        is_awake: Some(true),
    }
}

fn largest() -> Report {
    Report {
        running: Some(u32::MAX),
        waiting: Some(u32::MAX),
        kv_usage: Some(1.0),
        capacity_tokens: Some(u64::MAX),
        start_time_ms: Some(u64::MAX),
        prompt_tokens_total: Some(u64::MAX),
        generation_tokens_total: Some(u64::MAX),
        prefix_queried_tokens_total: Some(u64::MAX),
        prefix_hit_tokens_total: Some(u64::MAX),
        is_awake: Some(true),
    }
}

/// Ranks in every state: answered, failed since, never answered, restarted, with half a page, with a clock set back.
fn varied() -> ReportTable {
    let mut table = ReportTable::default();
    table.answered(u64::MAX, usual(0), 1_795_578_400_000);
    table.answered(1, usual(1), 1_795_578_400_000);
    table.failed(1, 1_795_578_401_000);
    table.failed(2, 0);
    table.answered(3, usual(5_000_000), 9);
    table.answered(3, usual(0), 10);
    table.answered(4, usual(0), 11);
    table.answered(4, Report::default(), 12);
    table.answered(5, largest(), u64::MAX);
    table.failed(5, 3);
    let asleep = Report {
        is_awake: Some(false),
        ..Report::default()
    };
    table.answered(6, asleep, 0);
    table
}

#[test]
fn the_layout_is_pinned() {
    let mut table = ReportTable::default();
    let report = Report {
        running: Some(3),
        kv_usage: Some(0.5),
        capacity_tokens: Some(1600),
        prompt_tokens_total: Some(300),
        is_awake: Some(false),
        ..Report::default()
    };
    table.answered(0x0102_0304_0506_0708, report, 1000);
    table.answered(
        0x0102_0304_0506_0708,
        Report {
            running: Some(5),
            ..Report::default()
        },
        1100,
    );
    table.failed(0x0102_0304_0506_0708, 1200);
    table.answered(0xFF, report, 2);
    let expected = [
        // Version 1, two ranks.
        &[1, 2, 0][..],
        // The hash; running, capacity, prompt tokens (0b10101), usage, awake is known and false, taken.
        &[0xFF, 0, 0, 0, 0, 0, 0, 0, 0b0001_0101, 0b0000_1011],
        // No failures, life 0, tried at 2 ms, taken 0 ms before.
        &[0, 0, 2, 0],
        // 3 running, 1600 tokens, 300 prompt tokens, a half.
        &[3, 0xC0, 0x0C, 0xAC, 0x02],
        &[0, 0, 0, 0, 0, 0, 0xE0, 0x3F],
        // Running, and the prompt tokens of an earlier page; taken.
        &[8, 7, 6, 5, 4, 3, 2, 1, 0b0001_0001, 0b0010_1000],
        // One failure, life 0, tried at 1200 ms, taken 100 ms before.
        &[1, 0, 0xB0, 0x09, 100],
        // 5 running, 300 prompt tokens before.
        &[5, 0xAC, 0x02],
    ]
    .concat();
    assert_eq!(table.encode(), expected);
    assert_eq!(ReportTable::decode(&expected), Ok(table));
}

#[test]
fn an_empty_table_is_three_bytes() {
    assert_eq!(ReportTable::default().encode(), [1, 0, 0]);
    assert_eq!(ReportTable::decode(&[1, 0, 0]), Ok(ReportTable::default()));
}

#[test]
fn every_state_of_a_rank_comes_back() {
    let table = varied();
    assert_eq!(ReportTable::decode(&table.encode()), Ok(table));
}

#[test]
fn a_table_that_came_back_still_sees_a_restart_behind_a_half_page() {
    let mut table = ReportTable::default();
    table.answered(1, usual(0), 1);
    table.answered(1, Report::default(), 2);
    let mut table = ReportTable::decode(&table.encode()).unwrap();
    table.answered(1, usual(5_000_000), 3);
    assert_eq!(table.get(1).map(|rank| rank.life), Some(1));
}

#[test]
fn a_thousand_usual_ranks_take_sixty_bytes_each() {
    let mut table = ReportTable::default();
    for number in 0u64..1024 {
        let address_hash = crate::hash_bytes(&number.to_le_bytes());
        table.answered(address_hash, usual(number), 1_795_578_400_000);
    }
    let bytes = table.encode();
    assert!(bytes.len() <= 62 * 1024, "{} bytes", bytes.len());
    assert_eq!(ReportTable::decode(&bytes), Ok(table));
}

#[test]
fn a_rank_takes_128_bytes_at_most() {
    let largest = RankReport {
        report: largest(),
        taken_ms: Some(0),
        tried_ms: u64::MAX,
        failures: u32::MAX,
        life: u32::MAX,
        born_ms: u64::MAX,
        process: Process {
            start_time_ms: Some(u64::MAX),
            prompt_tokens_total: Some(u64::MAX),
        },
    };
    let mut table = ReportTable::default();
    table.ranks.insert(u64::MAX, largest);
    let bytes = table.encode();
    assert_eq!(bytes.len(), 3 + 128);
    assert_eq!(ReportTable::decode(&bytes), Ok(table));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = varied().encode();
    for end in 0..bytes.len() {
        assert!(
            ReportTable::decode(&bytes[..end]).is_err(),
            "{end} of {}",
            bytes.len()
        );
    }
}

#[test]
fn a_byte_too_many_is_refused() {
    let mut bytes = varied().encode();
    bytes.push(0);
    assert_eq!(ReportTable::decode(&bytes), Err(ReportsError::Trailing));
}

#[test]
fn other_versions_are_refused() {
    let mut bytes = varied().encode();
    for version in [0, 2, 255] {
        bytes[0] = version;
        assert_eq!(ReportTable::decode(&bytes), Err(ReportsError::Version));
    }
    assert_eq!(ReportTable::decode(&[]), Err(ReportsError::Version));
}

#[test]
fn every_flipped_byte_gives_a_table_or_an_error() {
    let bytes = varied().encode();
    for place in 0..bytes.len() {
        for flip in 1..=255 {
            let mut flipped = bytes.clone();
            flipped[place] ^= flip;
            if let Ok(table) = ReportTable::decode(&flipped) {
                assert_eq!(table.encode(), flipped, "byte {place} by {flip}");
            }
        }
    }
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_refused() {
    assert_eq!(
        ReportTable::decode(&[1, 0xFF, 0x03]),
        Err(ReportsError::Truncated)
    );
    assert_eq!(
        ReportTable::decode(&[1, 0x01, 0x04]),
        Err(ReportsError::Malformed)
    );
    assert_eq!(
        ReportTable::decode(&[1, 0xFF, 0xFF]),
        Err(ReportsError::Malformed)
    );
}

#[test]
fn ranks_that_do_not_rise_are_refused() {
    let rank = |hash: u8| [hash, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let two = |first, second| [&[1, 2, 0][..], &rank(first), &rank(second)].concat();
    assert!(ReportTable::decode(&two(1, 2)).is_ok());
    for (first, second) in [(2, 1), (1, 1)] {
        assert_eq!(
            ReportTable::decode(&two(first, second)),
            Err(ReportsError::Malformed)
        );
    }
}

#[test]
fn flags_that_no_writer_sets_are_refused() {
    for flags in [1u16 << 10, 1 << 12, 1 << 13, 1 << 15] {
        let bytes = [
            &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &flags.to_le_bytes(),
            &[0; 3],
        ]
        .concat();
        assert_eq!(
            ReportTable::decode(&bytes),
            Err(ReportsError::Malformed),
            "{flags:#b}"
        );
    }
}

#[test]
fn a_restart_at_no_time_is_refused() {
    let rank = |born_ms: u8| {
        [
            &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &(1u16 << 14).to_le_bytes(),
            &[0, 1, 0, born_ms],
        ]
        .concat()
    };
    let table = ReportTable::decode(&rank(7)).unwrap();
    assert_eq!(
        table.get(0).map(|rank| (rank.life, rank.born_ms)),
        Some((1, 7))
    );
    assert_eq!(ReportTable::decode(&rank(0)), Err(ReportsError::Malformed));
}

#[test]
fn a_usage_that_is_no_share_is_refused_and_never_written() {
    for usage in [-0.0, -0.5, 1.000_000_1, f64::NAN, f64::INFINITY] {
        let flags = 1u16 << 8;
        let start = [
            &[1, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0][..],
            &flags.to_le_bytes(),
            &[0; 3],
        ]
        .concat();
        let bytes = [&start[..], &usage.to_le_bytes()].concat();
        assert_eq!(
            ReportTable::decode(&bytes),
            Err(ReportsError::Malformed),
            "{usage}"
        );
        let mut table = ReportTable::default();
        table.answered(
            9,
            Report {
                kv_usage: Some(usage),
                ..Report::default()
            },
            0,
        );
        let read = ReportTable::decode(&table.encode()).unwrap();
        assert_eq!(read.get(9).unwrap().report, Report::default(), "{usage}");
    }
}

#[test]
fn requests_beyond_32_bits_are_refused() {
    for flags in [1u16, 2] {
        let start = [
            &[1, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0][..],
            &flags.to_le_bytes(),
            &[0; 3],
        ]
        .concat();
        let bytes = [&start[..], &[0x80, 0x80, 0x80, 0x80, 0x10]].concat();
        assert_eq!(
            ReportTable::decode(&bytes),
            Err(ReportsError::Malformed),
            "{flags}"
        );
    }
}

fn number() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(prop_oneof![0u64..300, any::<u64>()])
}

fn requests() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(prop_oneof![0u32..300, any::<u32>()])
}

prop_compose! {
    fn report()(
        (running, waiting) in (requests(), requests()),
        kv_usage in prop::option::of(0.0f64..=1.0),
        [capacity, start, prompt, generation, queried, hit] in prop::array::uniform6(number()),
        is_awake in any::<Option<bool>>(),
    ) -> Report {
        Report {
            running,
            waiting,
            kv_usage,
            capacity_tokens: capacity,
            start_time_ms: start,
            prompt_tokens_total: prompt,
            generation_tokens_total: generation,
            prefix_queried_tokens_total: queried,
            prefix_hit_tokens_total: hit,
            is_awake,
        }
    }
}

fn table() -> impl Strategy<Value = ReportTable> {
    let step = (
        prop_oneof![0u64..8, any::<u64>()],
        prop::option::of(report()),
        any::<u64>(),
    );
    prop::collection::vec(step, 0..40).prop_map(|steps| {
        let mut table = ReportTable::default();
        for (address_hash, report, now_ms) in steps {
            match report {
                Some(report) => table.answered(address_hash, report, now_ms),
                None => table.failed(address_hash, now_ms),
            }
        }
        table
    })
}

proptest! {
    #[test]
    fn what_was_written_comes_back(table in table()) {
        prop_assert_eq!(ReportTable::decode(&table.encode()), Ok(table));
    }

    #[test]
    fn there_is_one_way_to_write_a_table(table in table(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = table.encode();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(read) = ReportTable::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Ok(read) = ReportTable::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
