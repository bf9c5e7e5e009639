//! The sidecar before a decode rank when a leg fails, stands still or is given up, in both versions, over real connections.

use anyhow::{Context, Result};
use host_tests::connection::{Connection, Protocol, get};
use host_tests::lone_rank::completion;
use host_tests::rank_pair::{PREFILLER, RankPair};
use host_tests::reply::{Reply, send};
use host_tests::sim::{Fault, PodsConfig, SidecarVersion, answer_text};
use hyper::Method;
use serde_json::{Value, json};

const VERSIONS: [SidecarVersion; 2] = [SidecarVersion::V0_8, SidecarVersion::V0_9];
const COMPLETIONS: &str = "/v1/completions";

/// A prompt of ten blocks and three tokens.
fn prompt() -> String {
    "x".repeat(4 * 163)
}

async fn until(is_true: impl Fn() -> bool) {
    while !is_true() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn after_a_failed_prefill_leg_0_8_decodes_alone_and_0_9_gives_the_error() -> Result<()> {
    for (fault, status) in [
        (Fault::Failing { status: 500 }, 500),
        (Fault::NotReady, 503),
        (Fault::Dead, 502),
    ] {
        for version in VERSIONS {
            let pair = RankPair::start(version).await?;
            pair.prefill().set_fault(fault).await;
            let reply = pair.post(COMPLETIONS, &completion(&prompt(), 2)).await?;
            assert_failed_leg(&pair, version, &reply, status)?;
        }
    }
    Ok(())
}

/// Checks answer and counters after a prefill leg that ended with this status.
fn assert_failed_leg(
    pair: &RankPair,
    version: SidecarVersion,
    reply: &Reply,
    status: u16,
) -> Result<()> {
    let falls_back = version == SidecarVersion::V0_8;
    let decode = pair.decode().stats();
    assert_eq!(reply.rank(), Some(pair.decode().addr()));
    assert_eq!((decode.prefill_legs, decode.legs_failed), (1, 1));
    assert_eq!(decode.legs_fallen_back, u64::from(falls_back));
    if falls_back {
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()?["choices"][0]["text"], answer_text(2));
        assert_eq!(decode.counts.computed_prompt_tokens, 163);
    } else {
        assert_eq!(reply.status, status);
        // A connection that fails has no body to pass on.
        let has_body = status != 502;
        assert_eq!(!reply.body.is_empty(), has_body);
        assert!(!has_body || reply.json()?["error"]["code"] == status);
        assert_eq!(decode.counts, Default::default());
    }
    Ok(())
}

#[tokio::test]
async fn a_prefill_rank_that_dies_in_the_middle_of_a_leg_is_one_that_fails() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        // The first leg leaves a connection open, which the death then cuts under the second.
        pair.post(COMPLETIONS, &completion("tide", 1)).await?;
        pair.prefill()
            .set_fault(Fault::Slow { factor: 10_000.0 })
            .await;
        let body = completion(&prompt(), 2);
        let (reply, ()) = tokio::join!(pair.post(COMPLETIONS, &body), async {
            until(|| pair.prefill().stats().running == 1).await;
            pair.prefill().set_fault(Fault::Dead).await;
        });
        let (reply, stats) = (reply?, pair.decode().stats());
        assert_eq!((stats.prefill_legs, stats.legs_failed), (2, 1));
        let is_0_8 = version == SidecarVersion::V0_8;
        assert_eq!(stats.legs_fallen_back, u64::from(is_0_8));
        assert_eq!(reply.status, if is_0_8 { 200 } else { 502 });
    }
    Ok(())
}

#[tokio::test]
async fn a_prefill_rank_that_hangs_is_waited_for() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        pair.prefill().set_fault(Fault::Hanging).await;
        let body = completion(&prompt(), 2);
        let (reply, ()) = tokio::join!(pair.post(COMPLETIONS, &body), async {
            until(|| pair.prefill().stats().prefill_legs == 1).await;
            let decode = pair.decode().stats();
            assert_eq!((decode.open_requests, decode.legs_failed), (1, 0));
            assert_eq!(decode.counts.queries, 0, "it was not asked");
            pair.prefill().set_fault(Fault::None).await;
        });
        assert_eq!(reply?.status, 200);
        assert_eq!(pair.decode().stats().counts.received_prompt_tokens, 162);
    }
    Ok(())
}

#[tokio::test]
async fn what_the_client_did_wrong_is_told_by_both_and_not_tried_again() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        let prefiller = pair.prefill().addr().to_string();
        let headers = [
            (PREFILLER, prefiller.as_str()),
            ("x-data-parallel-rank", "3"),
        ];
        let body = completion(&prompt(), 2);
        let reply = pair.post_with(COMPLETIONS, &body, &headers).await?;
        assert_eq!(
            (reply.status, &reply.json()?["error"]["code"]),
            (400, &json!(400))
        );
        let decode = pair.decode().stats();
        assert_eq!((decode.legs_failed, decode.legs_fallen_back), (1, 0));
        assert_eq!(decode.counts, Default::default());
        let no_json = send(
            pair.decode().addr(),
            Method::POST,
            COMPLETIONS,
            &headers,
            "{",
        )
        .await?;
        assert_eq!(
            (no_json.status, &no_json.json()?["object"]),
            (400, &json!("error"))
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_prefill_rank_with_a_malformed_name_is_an_error_in_both_versions() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        for name in [
            "10.0.0.1:port",
            "fd00::1:8000",
            "[fd00::1:8000",
            "10.0.0.1:8000/x",
            ":",
        ] {
            let body = completion(&prompt(), 2);
            let reply = pair
                .post_with(COMPLETIONS, &body, &[(PREFILLER, name)])
                .await?;
            assert_eq!(reply.status, 502, "{name}");
            assert_eq!(reply.json()?["type"], "BadGateway");
        }
        let decode = pair.decode().stats();
        assert_eq!((decode.prefill_legs, decode.legs_failed), (0, 0));
        assert_eq!(decode.counts, Default::default());
    }
    Ok(())
}

#[tokio::test]
async fn a_request_on_whose_blocks_it_waits_is_seen_and_holds_room() -> Result<()> {
    let config = PodsConfig {
        transfer_blocks_per_second: 0.0,
        ..PodsConfig::default()
    };
    let pair = RankPair::start_as(config).await?;
    let client = Client::send(&pair, &completion(&prompt(), 1)).await?;
    until(|| pair.decode().stats().transferring == 1).await;
    let stats = pair.decode().stats();
    assert_eq!(
        (stats.waiting, stats.running, stats.counts.generation_tokens),
        (1, 0, 0)
    );
    assert!(stats.cache_usage > 0.0);
    let page = get(pair.decode().addr(), "/metrics").await?;
    let deferred = page
        .lines()
        .find(|line| line.contains("reason=\"deferred\""));
    assert!(deferred.context("a series")?.ends_with(" 1.0"));
    client.leave().await;
    until(|| pair.decode().stats().transferring == 0).await;
    assert_eq!(pair.decode().stats().cache_usage, 0.0);
    Ok(())
}

/// A client whose request is under way.
struct Client(tokio::task::JoinHandle<Result<()>>);

impl Client {
    async fn send(pair: &RankPair, body: &Value) -> Result<Self> {
        let (to, request) = pair.request(COMPLETIONS, body)?;
        let mut connection = Connection::open(to, Protocol::Http1Length).await?;
        Ok(Self(tokio::spawn(async move {
            let _response = connection.send(request).await?;
            std::future::pending().await
        })))
    }

    /// Closes its connection, whatever is under way.
    async fn leave(self) {
        self.0.abort();
        drop(self.0.await);
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_the_prefill_leg_ends_it_and_no_other_begins() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        pair.prefill()
            .set_fault(Fault::Slow { factor: 10_000.0 })
            .await;
        let client = Client::send(&pair, &completion(&prompt(), 2)).await?;
        until(|| pair.prefill().stats().running == 1).await;
        client.leave().await;
        until(|| pair.prefill().stats().running == 0).await;
        until(|| pair.prefill().stats().open_requests == 0).await;
        until(|| pair.decode().stats().open_requests == 0).await;
        let decode = pair.decode().stats();
        assert_eq!((decode.legs_fallen_back, decode.counts.queries), (0, 0));
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_during_the_decode_leg_ends_it() -> Result<()> {
    for (version, stream) in VERSIONS
        .into_iter()
        .flat_map(|version| [(version, false), (version, true)])
    {
        let pair = RankPair::start(version).await?;
        let mut body = completion(&prompt(), 20_000);
        body["stream"] = json!(stream);
        let client = Client::send(&pair, &body).await?;
        until(|| pair.decode().stats().running == 1).await;
        client.leave().await;
        until(|| pair.decode().stats().running == 0).await;
        until(|| pair.decode().stats().open_requests == 0).await;
        assert_eq!(pair.decode().stats().cache_usage, 0.0);
    }
    Ok(())
}

#[tokio::test]
async fn before_a_rank_that_is_not_ready_the_sidecar_says_so_after_the_prefill_leg() -> Result<()> {
    for version in VERSIONS {
        let pair = RankPair::start(version).await?;
        pair.decode().set_fault(Fault::NotReady).await;
        let reply = pair.post(COMPLETIONS, &completion(&prompt(), 1)).await?;
        let said = reply.json()?;
        assert_eq!(
            (reply.status, &said["code"], &said["object"]),
            (503, &json!(503), &json!("error"))
        );
        assert_eq!(pair.prefill().stats().prefill_legs, 1);
        let metrics = send(pair.decode().addr(), Method::GET, "/metrics", &[], "").await?;
        assert_eq!(metrics.status, 503);
    }
    Ok(())
}
