//! `chaos` itself, for a moment, and that only its module can be made to trap.

use anyhow::{Context, Result};
use host_tests::chaos::case::TRAP_HEADER;
use host_tests::repository;
use routing::DESTINATION_HEADER;
use serde_json::Value;
use tokio::process::Command;

#[tokio::test]
async fn a_short_run_loses_nothing_and_writes_its_figures() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("summary.json");
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos
        .args(["--case", "kill-group", "--case", "fail-fast503"])
        .args([
            "--seconds",
            "5",
            "--rate",
            "30",
            "--workers",
            "2",
            "--summary",
        ])
        .arg(&path)
        .kill_on_drop(true);
    let output = chaos.output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let summary: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    for (place, ranks) in [(0, 16), (1, 1)] {
        let case = &summary["cases"][place];
        assert_eq!(case["lost"], 0, "{case}");
        assert_eq!(case["victims"]["ranks"], ranks, "{case}");
        assert!(count(&case["outcomes"]["complete"])? > 50, "{case}");
    }
    // Dead ranks get requests at first, and others answer those.
    let group = &summary["cases"][0];
    assert!(count(&group["victims"]["attempts"])? > 0, "{group}");
    assert!(count(&group["retried"])? > 0, "{group}");
    Ok(())
}

fn count(figure: &Value) -> Result<u64> {
    figure.as_u64().context("a figure is missing")
}

#[test]
fn the_module_that_ships_cannot_be_made_to_trap() -> Result<()> {
    let module = std::fs::read(repository::module()?)?;
    let holds = |text: &str| {
        module
            .windows(text.len())
            .any(|bytes| bytes == text.as_bytes())
    };
    assert!(holds(DESTINATION_HEADER), "names of headers can be found");
    assert!(!holds(TRAP_HEADER));
    Ok(())
}
