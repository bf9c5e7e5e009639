use super::*;

const RANK: u64 = 7;

fn started(start_time_ms: u64, prompt_tokens_total: u64) -> Report {
    Report {
        start_time_ms: Some(start_time_ms),
        prompt_tokens_total: Some(prompt_tokens_total),
        ..Report::default()
    }
}

/// The life of a rank after these pages.
fn life(pages: &[Report]) -> u32 {
    let mut table = ReportTable::default();
    for (page, now_ms) in pages.iter().zip(1..) {
        table.answered(RANK, *page, now_ms);
    }
    table.get(RANK).unwrap().life
}

#[test]
fn an_answer_replaces_the_report_and_ends_a_row_of_failures() {
    let mut table = ReportTable::default();
    table.failed(RANK, 100);
    table.failed(RANK, 200);
    let rank = table.get(RANK).unwrap();
    assert_eq!(
        (rank.failures, rank.taken_ms, rank.tried_ms),
        (2, None, 200)
    );
    table.answered(RANK, started(1, 5), 300);
    let rank = table.get(RANK).unwrap();
    assert_eq!(
        (rank.failures, rank.taken_ms, rank.tried_ms),
        (0, Some(300), 300)
    );
    assert_eq!((rank.report, rank.life), (started(1, 5), 0));
    table.failed(RANK, 400);
    let rank = table.get(RANK).unwrap();
    assert_eq!(
        (rank.failures, rank.taken_ms, rank.tried_ms),
        (1, Some(300), 400)
    );
    assert_eq!(rank.report, started(1, 5));
}

#[test]
fn failures_stop_at_their_limit() {
    let mut rank = RankReport {
        failures: u32::MAX - 1,
        ..RankReport::default()
    };
    rank.failed(1);
    rank.failed(2);
    assert_eq!(rank.failures, u32::MAX);
}

#[test]
fn a_first_report_is_no_restart() {
    assert_eq!(life(&[started(1_000_000, 5)]), 0);
}

#[test]
fn another_start_time_is_a_restart() {
    assert_eq!(life(&[started(1_000_000, 5), started(2_000_000, 5)]), 1);
    assert_eq!(life(&[started(2_000_000, 5), started(1_000_000, 5)]), 1);
    assert_eq!(
        life(&[
            started(1_000_000, 5),
            started(2_000_000, 5),
            started(3_000_000, 5)
        ]),
        2
    );
}

#[test]
fn a_start_time_that_wobbles_by_a_second_is_none() {
    let pages = [1_000_000, 1_001_000, 1_000_000, 999_000].map(|start_ms| started(start_ms, 5));
    assert_eq!(life(&pages), 0);
    assert_eq!(life(&[started(1_000_000, 5), started(1_001_001, 5)]), 1);
}

#[test]
fn a_counter_that_falls_is_a_restart() {
    let counted = |count| Report {
        start_time_ms: None,
        ..started(0, count)
    };
    assert_eq!(life(&[counted(5), counted(5), counted(6)]), 0);
    assert_eq!(life(&[counted(5), counted(4)]), 1);
    assert_eq!(life(&[started(1_000_000, 5), started(1_000_000, 0)]), 1);
}

#[test]
fn a_restart_is_seen_behind_pages_that_say_nothing() {
    let nothing = Report::default();
    assert_eq!(
        life(&[
            started(1_000_000, 5),
            nothing,
            nothing,
            started(2_000_000, 9)
        ]),
        1
    );
    let counted = |count| Report {
        start_time_ms: None,
        ..started(0, count)
    };
    assert_eq!(life(&[counted(5), nothing, counted(4)]), 1);
    assert_eq!(
        life(&[started(1_000_000, 5), nothing, started(1_000_000, 5)]),
        0
    );
}

#[test]
fn one_restart_is_counted_once_though_its_first_page_is_half() {
    let half = Report {
        prompt_tokens_total: None,
        ..started(2_000_000, 0)
    };
    assert_eq!(
        life(&[started(1_000_000, 500), half, started(2_000_000, 3)]),
        1
    );
}

#[test]
fn a_restart_is_seen_behind_failures() {
    let mut table = ReportTable::default();
    table.answered(RANK, started(1_000_000, 5), 1);
    (2..10).for_each(|now_ms| table.failed(RANK, now_ms));
    table.answered(RANK, started(2_000_000, 0), 10);
    assert_eq!(table.get(RANK).unwrap().life, 1);
}

#[test]
fn lives_wrap() {
    let mut rank = RankReport {
        life: u32::MAX,
        ..RankReport::default()
    };
    rank.answered(started(1_000_000, 5), 1);
    assert_eq!(rank.life, u32::MAX);
    rank.answered(started(2_000_000, 5), 2);
    assert_eq!(rank.life, 0);
}

#[test]
fn what_a_page_no_longer_says_is_unknown() {
    let mut table = ReportTable::default();
    let whole = Report {
        capacity_tokens: Some(1600),
        running: Some(3),
        ..Report::default()
    };
    table.answered(RANK, whole, 1);
    table.answered(
        RANK,
        Report {
            running: Some(4),
            ..Report::default()
        },
        2,
    );
    let report = table.get(RANK).unwrap().report;
    assert_eq!((report.capacity_tokens, report.running), (None, Some(4)));
}

#[test]
fn a_report_is_fresh_below_its_age_and_not_from_the_far_future() {
    let mut table = ReportTable::default();
    table.answered(RANK, started(1, 1), 10_000);
    for (now_ms, is_fresh) in [
        (10_000, true),
        (12_999, true),
        (13_000, false),
        (u64::MAX, false),
        (9_999, true),
        (7_000, true),
        (6_999, false),
        (0, false),
    ] {
        let report = table.fresh(RANK, now_ms, 3000);
        assert_eq!(report.is_some(), is_fresh, "at {now_ms}");
    }
    assert_eq!(table.fresh(RANK, 10_000, 0), None);
}

#[test]
fn a_rank_that_never_answered_is_never_fresh() {
    let mut table = ReportTable::default();
    table.failed(RANK, 0);
    assert_eq!(table.fresh(RANK, 0, u64::MAX), None);
    assert_eq!(table.fresh(8, 0, u64::MAX), None);
}

#[test]
fn failures_do_not_make_a_report_stale_before_its_time() {
    let mut table = ReportTable::default();
    table.answered(RANK, started(1, 1), 1000);
    table.failed(RANK, 1500);
    assert_eq!(table.fresh(RANK, 1999, 1000), Some(&started(1, 1)));
    assert_eq!(table.fresh(RANK, 2000, 1000), None);
}

#[test]
fn ranks_come_by_rising_hash_whatever_their_order() {
    let hashes = |order: [u64; 4]| -> Vec<u64> {
        let mut table = ReportTable::default();
        order.into_iter().for_each(|hash| table.failed(hash, 1));
        table.iter().map(|(hash, _)| hash).collect()
    };
    assert_eq!(hashes([u64::MAX, 3, 0, 9]), [0, 3, 9, u64::MAX]);
    assert_eq!(hashes([9, 0, 3, u64::MAX]), [0, 3, 9, u64::MAX]);
}

#[test]
fn dropped_ranks_are_forgotten_whole() {
    let mut table = ReportTable::default();
    table.answered(1, started(1_000_000, 5), 1);
    table.answered(2, started(1_000_000, 5), 1);
    table.retain(|hash| hash == 2);
    assert_eq!((table.len(), table.get(1)), (1, None));
    table.answered(1, started(2_000_000, 0), 2);
    assert_eq!(table.get(1).unwrap().life, 0);
    table.retain(|_| false);
    assert!(table.is_empty());
}

#[test]
fn a_full_table_takes_no_more_ranks_but_goes_on_with_its_own() {
    let mut table = ReportTable::default();
    (0..1024).for_each(|hash| table.failed(hash, 1));
    table.answered(5000, started(1, 1), 2);
    table.failed(5001, 2);
    assert_eq!(
        (table.len(), table.get(5000), table.get(5001)),
        (1024, None, None)
    );
    table.answered(1023, started(1, 1), 2);
    assert_eq!(table.get(1023).unwrap().report, started(1, 1));
}
