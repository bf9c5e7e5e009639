//! The sidecar before a decode rank while all goes well, in both versions, over real connections.

use std::time::Instant;

use anyhow::{Context, Result};
use host_tests::connection::get;
use host_tests::lone_rank::{chat, completion};
use host_tests::rank_pair::{PREFILLER, RankPair};
use host_tests::reply::{Reply, rank_in, send};
use host_tests::sim::{Fault, PodsConfig, SidecarVersion, answer_text};
use hyper::Method;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

const VERSIONS: [SidecarVersion; 2] = [SidecarVersion::V0_8, SidecarVersion::V0_9];
const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// A prompt of ten blocks and three tokens.
fn prompt() -> String {
    "x".repeat(4 * 163)
}

/// The last event with usage, or the whole answer.
fn usage(reply: &Reply) -> Result<Value> {
    let text = String::from_utf8_lossy(&reply.body);
    let mut events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let with_usage = events.rfind(|event| event.contains("\"usage\""));
    let answer: Value = serde_json::from_str(with_usage.unwrap_or(&text))?;
    Ok(answer["usage"].clone())
}

fn cached_tokens(reply: &Reply) -> Result<u64> {
    let tokens = &usage(reply)?["prompt_tokens_details"]["cached_tokens"];
    tokens.as_u64().context("cached tokens")
}

#[tokio::test]
async fn a_prompt_is_prefilled_on_the_named_rank_and_decoded_on_the_other() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        let reply = pair.post(COMPLETIONS, &completion(&prompt(), 5)).await?;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()?["choices"][0]["text"], answer_text(5));
        assert_eq!(usage(&reply)?["completion_tokens"], 5);
        assert_eq!(reply.rank(), Some(pair.decode().addr()));
        assert_eq!(
            reply.headers["x-simulated-prefill-rank"],
            pair.prefill().addr().to_string()
        );
        let (prefill, decode) = (pair.prefill().stats(), pair.decode().stats());
        assert_eq!((prefill.prefill_legs, prefill.direct_requests), (1, 0));
        assert_eq!(prefill.counts.computed_prompt_tokens, 163);
        assert_eq!(prefill.counts.generation_tokens, 1);
        assert_eq!((decode.prefill_legs, decode.decode_only), (1, 0));
        assert_eq!((decode.legs_failed, decode.legs_fallen_back), (0, 0));
        assert_eq!(decode.counts.computed_prompt_tokens, 1);
        assert_eq!(decode.counts.received_prompt_tokens, 162);
    }
    Ok(())
}

#[tokio::test]
async fn a_streamed_answer_is_streamed_after_a_prefill_leg_that_is_not() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        let reply = pair.post(CHAT, &chat(true, 3)).await?;
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(
            reply.headers["content-type"],
            "text/event-stream; charset=utf-8"
        );
        assert_eq!(text.matches("\"content\":\" ").count(), 3);
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert_eq!(usage(&reply)?["completion_tokens"], 3);
        assert_eq!(pair.prefill().stats().counts.generation_tokens, 1);
        assert_eq!(pair.decode().stats().counts.computed_prompt_tokens, 1);
    }
    Ok(())
}

#[tokio::test]
async fn without_a_prefill_rank_the_decode_rank_does_all() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        for headers in [vec![], vec![(PREFILLER, " ")]] {
            let body = completion(&prompt(), 2);
            let reply = pair.post_with(COMPLETIONS, &body, &headers).await?;
            assert_eq!(reply.status, 200);
            assert!(reply.headers.get("x-simulated-prefill-rank").is_none());
        }
        let (prefill, decode) = (pair.prefill().stats(), pair.decode().stats());
        assert_eq!((prefill.prefill_legs, prefill.direct_requests), (0, 0));
        assert_eq!((decode.prefill_legs, decode.decode_only), (0, 2));
        assert_eq!(decode.counts.received_prompt_tokens, 0);
    }
    Ok(())
}

#[tokio::test]
async fn cached_tokens_are_those_of_the_decode_rank_before_0_9_and_of_the_prefill_rank_since()
-> Result<()> {
    for (version, told) in [
        (SidecarVersion::V0_8, [162, 162]),
        (SidecarVersion::V0_9, [0, 160]),
    ] {
        for stream in [false, true] {
            let pair = RankPair::start(version).await?;
            let mut body = completion(&prompt(), 2);
            body["stream"] = json!(stream);
            body["stream_options"] = json!({"include_usage": stream});
            for cached in told {
                let reply = pair.post(COMPLETIONS, &body).await?;
                assert_eq!(cached_tokens(&reply)?, cached, "{version:?} {stream}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_prefill_rank_can_be_named_by_an_ipv6_address() -> Result<()> {
    let pair = RankPair::start(SidecarVersion::V0_9).await?;
    let listener = TcpListener::bind("[::1]:0").await?;
    let prefiller = listener.local_addr()?.to_string();
    assert!(prefiller.starts_with("[::1]:"));
    let (to, body) = (pair.prefill().addr(), completion(&prompt(), 2));
    let forwarded = tokio::spawn(async move {
        let (mut from, _) = listener.accept().await?;
        let mut to = TcpStream::connect(to).await?;
        tokio::io::copy_bidirectional(&mut from, &mut to).await
    });
    let headers = [(PREFILLER, prefiller.as_str())];
    let reply = pair.post_with(COMPLETIONS, &body, &headers).await?;
    forwarded.abort();
    assert_eq!(
        (reply.status, pair.prefill().stats().prefill_legs),
        (200, 1)
    );
    assert_eq!(reply.headers["x-simulated-prefill-rank"], prefiller);
    Ok(())
}

#[tokio::test]
async fn a_transfer_takes_as_long_as_its_blocks() -> Result<()> {
    let pair = RankPair::start_as(with_rate(50.0)).await?;
    let start = Instant::now();
    assert_eq!(
        pair.post(COMPLETIONS, &completion(&prompt(), 1))
            .await?
            .status,
        200
    );
    // Eleven blocks: it cannot be faster, however slow the machine is.
    assert!(start.elapsed().as_secs_f64() >= 11.0 / 50.0);
    let reply = pair.post(COMPLETIONS, &completion(&prompt(), 1)).await?;
    assert_eq!(cached_tokens(&reply)?, 162);
    let received = pair.decode().stats().counts.received_prompt_tokens;
    assert_eq!(
        received,
        162 + 2,
        "the second time all but the last block is there"
    );
    Ok(())
}

fn with_rate(transfer_blocks_per_second: f64) -> PodsConfig {
    PodsConfig {
        transfer_blocks_per_second,
        ..PodsConfig::default()
    }
}

#[tokio::test]
async fn the_sidecar_is_well_whatever_its_rank_is_and_passes_its_metrics_on() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        let to = pair.decode().addr();
        pair.post(COMPLETIONS, &completion(&prompt(), 1)).await?;
        let page = get(to, "/metrics").await?;
        let received = page
            .lines()
            .find(|line| line.contains("total{") && line.contains("external_kv_transfer"));
        assert!(received.context("a series")?.ends_with(" 162.0"));
        for fault in [
            Fault::NotReady,
            Fault::Hanging,
            Fault::Failing { status: 500 },
        ] {
            pair.decode().set_fault(fault).await;
            let health = send(to, Method::GET, "/health", &[], "").await?;
            assert_eq!((health.status, rank_in(&health.headers)), (200, Some(to)));
        }
    }
    Ok(())
}
