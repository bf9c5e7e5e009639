//! The part of the README that shows what the replay gave.

use std::path::Path;

use anyhow::{Context, Result};

use crate::charts;
use crate::disaggregated::report;
use crate::table::{Row, summary};
use crate::verdict;

/// Where the part begins; it says who wrote it.
pub const BEGIN: &str = "<!-- scripts/replay --readme writes from here -->";
/// Where it ends.
pub const END: &str = "<!-- scripts/replay --readme writes to here -->";
/// The chart, from the top of the repository.
pub const CHART: &str = "host-tests/replay/ttft.svg";

/// Writes the table and the chart into the repository at `root`.
///
/// # Errors
/// When the README has no such part, or a file cannot be written.
pub fn write(rows: &[Row], root: &Path) -> Result<()> {
    charts::summary(rows, &root.join(CHART))?;
    let (verdict, summary) = (verdict::markdown(rows), summary(rows));
    let image = format!("![Mean time to first token of every policy]({CHART})");
    replace(
        &root.join("README.md"),
        &format!("{image}\n\n{verdict}\n{summary}"),
    )
}

/// Writes the summary of rows where prefill and decode are apart, and how the deployed decision did against the EPP's guide,
/// into the README of the host tests.
///
/// # Errors
/// As [`write()`].
pub fn write_apart(rows: &[Row], root: &Path) -> Result<()> {
    let (summary, against) = (summary(rows), report::against_guide(rows));
    replace(
        &root.join("host-tests/README.md"),
        &format!("{summary}\n{against}"),
    )
}

fn replace(path: &Path, part: &str) -> Result<()> {
    let name = path.display();
    let readme = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let text = replaced(&readme, part).with_context(|| format!("cannot change {name}"))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {name}"))
}

fn replaced(readme: &str, part: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .context("there is no place for the table")?;
    let (_, after) = rest
        .split_once(END)
        .context("there is no end of the table")?;
    Ok(format!("{before}{BEGIN}\n{part}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let readme = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let text = replaced(&readme, "new\n").unwrap();
        assert!(text.starts_with("above\n") && text.ends_with("\nbelow\n"));
        assert!(text.contains("new") && !text.contains("old"));
        assert_eq!(replaced(&text, "new\n").unwrap(), text);
        assert!(replaced("no marks", "new").is_err());
    }
}
