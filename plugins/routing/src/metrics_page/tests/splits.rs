//! The same page in other pieces, and with other line ends.

use super::*;

#[test]
fn every_split_of_a_short_page_gives_the_same_report() {
    for (name, page) in PAGES.into_iter().filter(|(_, page)| page.len() < 8192) {
        let whole = report([page]);
        for split in 0..=page.len() {
            let (first, second) = page.split_at(split);
            assert_eq!(report([first, second]), whole, "{name} at {split}");
        }
    }
}

#[test]
fn every_size_of_pieces_gives_the_same_report() {
    for (name, page) in PAGES.into_iter().chain([("broken", BROKEN)]) {
        let whole = report([page]);
        for size in [
            1, 2, 3, 5, 7, 64, 100, 821, 822, 823, 1000, 4095, 4096, 16_384,
        ] {
            assert_eq!(report(page.chunks(size)), whole, "{name} by {size}");
        }
    }
}

/// A split matters to the line that it is in alone, so the lines that matter are split at every byte, the page at some.
#[test]
fn every_split_of_a_recorded_page_gives_the_same_report() {
    let (_, page) = PAGES[1];
    let whole = report([page]);
    let matters = |line: &[u8]| {
        sample::split_name(line).is_some_and(|(name, _)| Metric::of_name(name).is_some())
    };
    let mut start = 0;
    for line in page.split_inclusive(|byte| *byte == b'\n') {
        let step = if matters(line) { 1 } else { line.len() };
        for split in (start..start + line.len()).step_by(step) {
            assert_eq!(
                report([&page[..split], &page[split..]]),
                whole,
                "at {split}"
            );
        }
        start += line.len();
    }
}

#[test]
fn a_missing_line_end_at_the_end_changes_nothing() {
    for (name, page) in PAGES {
        assert_eq!(report([page.trim_ascii_end()]), report([page]), "{name}");
    }
}

#[test]
fn carriage_returns_change_nothing() {
    for (name, page) in PAGES {
        let page = String::from_utf8_lossy(page);
        assert_eq!(of(&page.replace('\n', "\r\n")), of(&page), "{name}");
    }
}
