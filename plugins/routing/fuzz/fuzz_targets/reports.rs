//! Tables of reports: any bytes are read or refused, in one spelling; scrapes in any order, against a list kept by hand.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use routing::{Report, ReportTable};

const RANKS: u8 = 5;
const MAX_AGE_MS: u64 = 100;

fuzz_target!(|input: &[u8]| {
    if let Ok(table) = ReportTable::decode(input) {
        assert_eq!(table.encode(), input, "one way to write a table");
    }
    let mut scrapes = Scrapes::default();
    input
        .chunks_exact(4)
        .for_each(|step| scrapes.step([step[0], step[1], step[2], step[3]]));
});

/// What a rank is known by: its last page and when, pages that failed since, restarts, and what its process counted last.
#[derive(Default)]
struct Known {
    report: Report,
    taken_ms: Option<u64>,
    failures: u32,
    life: u32,
    counted: Option<u64>,
}

#[derive(Default)]
struct Scrapes {
    table: ReportTable,
    known: BTreeMap<u64, Known>,
    now_ms: u64,
}

impl Scrapes {
    fn step(&mut self, [what, who, number, wait]: [u8; 4]) {
        self.now_ms += u64::from(wait);
        let rank = u64::from(who % RANKS);
        match what % 8 {
            0..=3 => self.answer(rank, what, number),
            4 | 5 => self.fail(rank),
            6 => self.drop(rank),
            _ => self.hand_over(),
        }
        self.check();
    }

    fn answer(&mut self, rank: u64, what: u8, number: u8) {
        let counted = (what & 1 == 0).then_some(u64::from(number));
        let report = Report {
            running: Some(u32::from(what)),
            prompt_tokens_total: counted,
            ..Report::default()
        };
        self.table.answered(rank, report, self.now_ms);
        let known = self.known.entry(rank).or_default();
        known.life += u32::from(
            known
                .counted
                .zip(counted)
                .is_some_and(|(before, now)| now < before),
        );
        known.counted = counted.or(known.counted);
        (known.report, known.taken_ms, known.failures) = (report, Some(self.now_ms), 0);
    }

    fn fail(&mut self, rank: u64) {
        self.table.failed(rank, self.now_ms);
        self.known.entry(rank).or_default().failures += 1;
    }

    fn drop(&mut self, rank: u64) {
        self.table.retain(|other| other != rank);
        self.known.remove(&rank);
    }

    /// As when another worker goes on with the table.
    fn hand_over(&mut self) {
        self.table = ReportTable::decode(&self.table.encode()).expect("it was written by us");
    }

    fn check(&self) {
        assert!(
            self.table
                .iter()
                .map(|(rank, _)| rank)
                .eq(self.known.keys().copied())
        );
        for (rank, known) in &self.known {
            let row = self.table.get(*rank).expect("it is known");
            assert_eq!(
                (row.report, row.taken_ms, row.failures, row.life),
                (known.report, known.taken_ms, known.failures, known.life)
            );
            let is_fresh = known
                .taken_ms
                .is_some_and(|taken_ms| self.now_ms - taken_ms < MAX_AGE_MS);
            let fresh = self.table.fresh(*rank, self.now_ms, MAX_AGE_MS);
            assert_eq!(fresh.copied(), is_fresh.then_some(known.report));
        }
    }
}
