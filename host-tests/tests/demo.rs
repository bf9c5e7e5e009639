//! The demo itself, for a moment.

use anyhow::{Context, Result};
use host_tests::pod_addresses;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

fn demo() -> Command {
    let pods: Vec<String> = pod_addresses::unused(2)
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command
        .args(["--pods", &pods.join(","), "--slowness", "0.1"])
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_short_replay_ends_well_and_writes_its_figures() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("summary.json");
    let output = demo()
        .args(["--seconds", "2", "--speed", "2", "--summary"])
        .arg(&path)
        .output()
        .await?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let summary: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    for policy in ["ours", "round_robin"] {
        let figures = &summary[policy];
        assert!(
            figures["requests"].as_u64().context("requests")? > 3,
            "{figures}"
        );
        assert_eq!(figures["errors"], 0);
        for figure in [
            "/hit_rate",
            "/ttft_ms/mean",
            "/ttft_ms/p50",
            "/ttft_ms/p90",
            "/ttft_ms/p99",
        ] {
            assert!(
                figures.pointer(figure).is_some_and(Value::is_f64),
                "{policy} has no {figure}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_three_commands_of_a_demo_that_is_kept_work() -> Result<()> {
    let mut process = demo()
        .arg("--keep")
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(process.stdout.take().context("stdout")?);
    let mut text = String::new();
    while !text.contains("Ctrl-C ends it all.") {
        assert!(output.read_line(&mut text).await? > 0, "{text}");
    }
    let mut answers = Vec::new();
    for command in text
        .replace("\\\n", "")
        .lines()
        .filter(|line| line.starts_with("curl "))
    {
        let answer = Command::new("sh").args(["-c", command]).output().await?;
        answers.push(String::from_utf8(answer.stdout)?);
    }
    let [completion, counted, rank] = answers.as_slice() else {
        panic!("three commands in:\n{text}")
    };
    assert!(
        completion.contains("200 OK") && completion.contains("x-simulated-rank"),
        "{completion}"
    );
    assert!(
        counted.contains("wasmcustom.rank_router.picks_lowest_cost: 1"),
        "{counted}"
    );
    assert!(rank.contains("vllm:num_requests_running"), "{rank}");
    let id = process.id().context("it runs")?.to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .await?
            .success()
    );
    assert!(process.wait().await?.success());
    output.read_to_string(&mut text).await?;
    assert!(text.ends_with("stopped\n"), "{text}");
    Ok(())
}
