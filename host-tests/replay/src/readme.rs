//! The part of the README that shows what the replay gave.

use std::path::Path;

use anyhow::{Context, Result};

use crate::charts;
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
    let path = root.join("README.md");
    let readme = std::fs::read_to_string(&path).context("cannot read README.md")?;
    std::fs::write(&path, replaced(&readme, rows)?).context("cannot write README.md")
}

fn replaced(readme: &str, rows: &[Row]) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .context("README.md has no place for the table")?;
    let (_, after) = rest
        .split_once(END)
        .context("README.md has no end of the table")?;
    let (verdict, summary) = (verdict::markdown(rows), summary(rows));
    Ok(format!(
        "{before}{BEGIN}\n![Mean time to first token of every policy]({CHART})\n\n{verdict}\n{summary}{END}{after}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let readme = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let text = replaced(&readme, &[]).unwrap();
        assert!(text.starts_with("above\n") && text.ends_with("\nbelow\n"));
        assert!(text.contains(CHART) && !text.contains("old"));
        assert_eq!(replaced(&text, &[]).unwrap(), text);
        assert!(replaced("no marks", &[]).is_err());
    }
}
