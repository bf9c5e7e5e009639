//! Metrics pages: no panic; any split gives the same report; what is known makes sense; white space and comments change
//! nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use routing::{MetricsPage, Report};
use routing_fuzz::pieces;

/// Longer lines are left out, and blanks at both ends would make some of them longer.
const SURELY_SHORT_LINE_BYTES: usize = 4000;

fuzz_target!(|page: &[u8]| {
    let whole = report(std::iter::once(page));
    assert_eq!(whole, report(page.chunks(1)), "byte by byte");
    assert_eq!(whole, report(pieces(page, 64)), "in pieces");
    check(&whole);
    if page
        .split(|byte| *byte == b'\n')
        .all(|line| line.len() < SURELY_SHORT_LINE_BYTES)
    {
        assert_eq!(
            whole,
            report(std::iter::once(&spaced(page)[..])),
            "spaced out"
        );
    }
});

fn report<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Report {
    let mut page = MetricsPage::default();
    pieces.for_each(|piece| page.feed(piece));
    page.finish()
}

fn check(report: &Report) {
    assert!(
        report
            .kv_usage
            .is_none_or(|share| (0.0..=1.0).contains(&share))
    );
    assert!(report.start_time_ms.is_none_or(|ms| ms > 0));
    assert_eq!(
        report.prefix_queried_tokens_total.is_some(),
        report.prefix_hit_tokens_total.is_some()
    );
}

/// The page with a comment, an empty line and blanks around each of its lines.
fn spaced(page: &[u8]) -> Vec<u8> {
    let lines = page.split(|byte| *byte == b'\n');
    lines
        .flat_map(|line| [b"# TYPE x gauge\n\n \t", line, b" \r\n"].concat())
        .collect()
}
