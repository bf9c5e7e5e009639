//! Ranks with a role: what a prefill rank answers and counts, ranks that are not ready, the program's flags.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use host_tests::connection::get;
use host_tests::lone_rank::{MODEL, completion};
use host_tests::pod_addresses;
use host_tests::rank_pair::{PREFILLER, RankPair};
use host_tests::reply::{post, send};
use host_tests::sim::{Fault, PodsConfig, Role, SidecarVersion, SimulatedPods};
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

const COMPLETIONS: &str = "/v1/completions";

async fn one(role: Role, starts_with: Fault) -> Result<SimulatedPods> {
    let config = PodsConfig {
        pods: pod_addresses::unused(1),
        ranks_per_pod: 1,
        model: MODEL.to_string(),
        role,
        starts_with,
        ..PodsConfig::default()
    };
    Ok(SimulatedPods::start(config).await?)
}

/// A prompt of two blocks and a token.
fn to_prefill() -> Value {
    let mut body = completion(&"x".repeat(4 * 33), 1);
    body["kv_transfer_params"] = json!({
        "do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null,
        "remote_block_ids": null, "remote_host": null, "remote_port": null,
    });
    body
}

#[tokio::test]
async fn a_rank_tells_where_the_kv_is_when_another_is_to_decode() -> Result<()> {
    for role in [Role::Prefill, Role::Both] {
        let pods = one(role, Fault::None).await?;
        let to = pods.ranks()[0].addr();
        let answer = post(to, COMPLETIONS, &to_prefill()).await?.json()?;
        let params = &answer["kv_transfer_params"];
        assert_eq!(params["do_remote_prefill"], true);
        assert_eq!(params["remote_host"], to.ip().to_string());
        assert_eq!(params["remote_block_ids"].as_array().map(Vec::len), Some(3));
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        let plain = post(to, COMPLETIONS, &completion("tide", 1))
            .await?
            .json()?;
        assert_eq!(plain["kv_transfer_params"], Value::Null);
    }
    Ok(())
}

#[tokio::test]
async fn a_prompt_counts_as_prefilled_only_when_all_is_told_of_where() -> Result<()> {
    let pair = RankPair::start(SidecarVersion::V0_8).await?;
    let (prefill, decode) = (pair.prefill(), pair.decode());
    let answer = post(prefill.addr(), COMPLETIONS, &to_prefill())
        .await?
        .json()?;
    let mut body = to_prefill();
    body["kv_transfer_params"] = answer["kv_transfer_params"].clone();
    post(decode.addr(), COMPLETIONS, &body).await?;
    assert_eq!(decode.stats().counts.received_prompt_tokens, 32);
    decode.restart();
    body["kv_transfer_params"]["remote_host"] = Value::Null;
    post(decode.addr(), COMPLETIONS, &body).await?;
    let counts = decode.stats().counts;
    assert_eq!(
        (counts.received_prompt_tokens, counts.computed_prompt_tokens),
        (0, 33)
    );
    Ok(())
}

#[tokio::test]
async fn what_comes_to_a_prefill_rank_from_no_sidecar_is_counted() -> Result<()> {
    let pair = RankPair::start(SidecarVersion::V0_9).await?;
    let (rank, to) = (pair.prefill(), pair.prefill().addr());
    get(to, "/metrics").await?;
    get(to, "/health").await?;
    pair.post(COMPLETIONS, &completion("tide", 1)).await?;
    assert_eq!(
        (rank.stats().direct_requests, rank.stats().prefill_legs),
        (0, 1)
    );
    post(to, COMPLETIONS, &completion("tide", 1)).await?;
    get(to, "/v1/models").await?;
    // Also one that says of itself that it is a leg, and one that the rank fails.
    post(to, COMPLETIONS, &to_prefill()).await?;
    rank.set_fault(Fault::Failing { status: 500 }).await;
    post(to, COMPLETIONS, &completion("tide", 1)).await?;
    assert_eq!(
        (rank.stats().direct_requests, rank.stats().prefill_legs),
        (4, 1)
    );
    rank.restart();
    assert_eq!(
        rank.stats().direct_requests,
        4,
        "a restart does not hide them"
    );
    assert_eq!(pair.decode().stats().direct_requests, 0);
    Ok(())
}

#[tokio::test]
async fn a_rank_that_starts_not_ready_answers_503_until_it_is() -> Result<()> {
    for role in [Role::Both, Role::Prefill] {
        let pods = one(role, Fault::NotReady).await?;
        let rank = &pods.ranks()[0];
        for path in ["/health", "/metrics", "/v1/models"] {
            let reply = send(rank.addr(), Method::GET, path, &[], "").await?;
            assert_eq!(reply.status, 503, "{path}");
        }
        let ask = async || post(rank.addr(), COMPLETIONS, &completion("tide", 1)).await;
        assert_eq!(ask().await?.status, 503);
        rank.set_fault(Fault::None).await;
        assert_eq!(ask().await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_to_be_echoed_is_told_as_it_reached_the_sidecar() -> Result<()> {
    for version in [SidecarVersion::V0_8, SidecarVersion::V0_9] {
        let pair = RankPair::start(version).await?;
        let prefiller = pair.prefill().addr().to_string();
        let headers = [
            (PREFILLER, prefiller.as_str()),
            ("x-simulated-echo", "digest"),
        ];
        let reply = pair
            .post_with(COMPLETIONS, &completion("tide", 1), &headers)
            .await?;
        assert_eq!(reply.digest()?.header(PREFILLER), [prefiller.as_str()]);
        assert_eq!(pair.prefill().stats().prefill_legs, 0);
    }
    Ok(())
}

#[tokio::test]
async fn the_program_has_ranks_of_both_roles() -> Result<()> {
    let pods: Vec<String> = pod_addresses::unused(2)
        .iter()
        .map(ToString::to_string)
        .collect();
    let flags = [
        ["--pods", &pods[0]],
        ["--role", "decode"],
        ["--prefill-pods", &pods[1]],
        ["--sidecar-version", "v0.9"],
        ["--transfer-blocks-per-second", "100000"],
        ["--ranks-per-pod", "1"],
        ["--control", "127.0.0.1:0"],
    ];
    let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_simulated-ranks"))
        .args(flags.as_flattened())
        .arg("--not-ready")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut line = String::new();
    let output = process.stdout.take().context("stdout")?;
    BufReader::new(output).read_line(&mut line).await?;
    assert!(line.starts_with("2 simulated ranks"), "{line}");
    let (_, control) = line.trim().split_once("http://").context("the switches")?;
    let control: SocketAddr = control.trim_end_matches("/ranks").parse()?;
    let (decode, prefill) = (format!("{}:8000", pods[0]), format!("{}:8000", pods[1]));
    let body = json!({"prompt": "tide", "max_tokens": 1}).to_string();
    let headers = [(PREFILLER, prefill.as_str())];
    let ask = async || send(decode.parse()?, Method::POST, COMPLETIONS, &headers, &body).await;
    assert_eq!(
        ask().await?.status,
        503,
        "the prefill rank's error, as of 0.9"
    );
    for rank in [&decode, &prefill] {
        let path = format!("/ranks/{rank}/fault");
        let mended = send(control, Method::PUT, &path, &[], r#"{"fault": "none"}"#).await?;
        assert_eq!(mended.status, 200);
    }
    assert_eq!(ask().await?.status, 200);
    let ranks: Value = serde_json::from_str(&get(control, "/ranks").await?)?;
    assert_eq!(
        (&ranks[0]["role"], &ranks[1]["role"]),
        (&json!("decode"), &json!("prefill"))
    );
    assert_eq!(
        (&ranks[0]["legs_failed"], &ranks[1]["prefill_legs"]),
        (&json!(1), &json!(2))
    );
    Ok(())
}
