//! `chaos` itself, for a moment, and that only its module can be made to trap.

use std::process::Output;

use anyhow::{Context, Result};
use host_tests::chaos::blow::TRAP_HEADER;
use host_tests::chaos::hostile::attack::Attack;
use host_tests::repository;
use routing::DESTINATION_HEADER;
use serde_json::{Value, json};
use tokio::process::Command;

/// Runs it for a moment, and gives its end and its figures.
async fn run(arguments: &[&str]) -> Result<(Output, Value)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("summary.json");
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos
        .args(["--seconds", "5", "--rate", "30", "--workers", "2"])
        .args(arguments)
        .arg("--summary")
        .arg(&path)
        .kill_on_drop(true);
    let output = chaos.output().await?;
    let said = format!("{output:?}");
    let summary = std::fs::read_to_string(path).context(said)?;
    Ok((output, serde_json::from_str(&summary)?))
}

#[tokio::test]
async fn a_short_run_loses_nothing_and_writes_its_figures() -> Result<()> {
    let cases = ["--case", "kill-group", "--case", "fail-fast503"];
    let (output, summary) = run(&cases).await?;
    assert!(output.status.success(), "{output:?}");
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

#[tokio::test]
async fn apart_no_request_goes_to_ranks_that_prefill_nor_is_lost_with_a_pod_of_each_role()
-> Result<()> {
    for sidecar in ["v0.8", "v0.9"] {
        let apart = ["--disaggregated", "--sidecar", sidecar];
        let (output, summary) = run(&[&apart[..], &["--case", "kill-pod"]].concat()).await?;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(summary["sidecar"], sidecar);
        let case = &summary["cases"][0];
        assert_eq!(case["victims"]["ranks"], 16, "{case}");
        assert_eq!(case["lost"], 0, "{case}");
        for account in ["reached", "sent", "named"] {
            assert_eq!(case["prefill"][account], 0, "{account} in {case}");
        }
        assert!(count(&case["prefill"]["legs"])? > 10, "{case}");
        assert!(count(&case["outcomes"]["complete"])? > 50, "{case}");
    }
    Ok(())
}

#[tokio::test]
async fn apart_a_run_fails_when_ranks_that_prefill_are_destinations() -> Result<()> {
    let mistaken = [
        "--disaggregated",
        "--roles",
        "nothing",
        "--case",
        "kill-rank",
    ];
    let (output, summary) = run(&mistaken).await?;
    assert!(!output.status.success(), "{output:?}");
    let case = &summary["cases"][0];
    for account in ["reached", "sent", "named"] {
        assert!(count(&case["prefill"][account])? > 0, "{account} in {case}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("destinations of requests"), "{said}");
    Ok(())
}

/// The machine may be busy with other tests: times are not judged.
#[tokio::test]
async fn beside_hostile_clients_no_request_is_lost_and_nothing_stays_counted() -> Result<()> {
    let (output, summary) = run(&["--hostile", "--pairs", "1", "--untimed"]).await?;
    assert!(output.status.success(), "{output:?}");
    let [without, beside] = ["without", "beside"].map(|run| &summary["pairs"][0][run]);
    for run in [without, beside] {
        assert_eq!(run["lost"], 0, "{run}");
        assert!(count(&run["outcomes"]["complete"])? > 50, "{run}");
    }
    assert_eq!(without["sent"], json!({}));
    for attack in Attack::all() {
        let sent = &beside["sent"][attack.name()];
        assert!(count(&sent["requests"])? > 0, "{}: {sent}", attack.name());
    }
    assert_eq!(beside["sent"]["forbidden"]["reached_ranks"], 0, "{beside}");
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
