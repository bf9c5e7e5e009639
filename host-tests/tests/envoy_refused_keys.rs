//! Requests with a key that no client may set are refused, whenever and however they say it, in a real Envoy.

use anyhow::{Context, Result};
use bytes::Bytes;
use host_tests::connection::Protocol;
use host_tests::each_envoy;
use host_tests::reply::Reply;
use host_tests::scene::{ECHO, Scene};
use host_tests::upload::{self, Pace};
use hyper::Method;
use routing::default_refused_keys;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

const MIB: usize = 1 << 20;
const CHAT: &str = "/v1/chat/completions";
const PARAMS: &str = r#","kv_transfer_params":{"do_remote_prefill":true,"remote_block_ids":[1,2]}"#;
/// The same key, as nobody writes it who has nothing to hide.
const ESCAPED: &str = r#","kv_transfer_p\u0061rams":{"do_remote_prefill":true}"#;

/// A chat of so many bytes of text, and `behind` as its last fields.
fn chat(text_bytes: usize, behind: &str) -> String {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(text_bytes / 45);
    format!(
        r#"{{"model":"simulated","max_tokens":1,"messages":[{{"role":"user","content":"{text}"}}]{behind}}}"#
    )
}

/// Sends a body to a path, with headers of its own.
async fn send_to(
    scene: &Scene,
    protocol: Protocol,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
    pace: Pace,
) -> Result<Reply> {
    let body = body.into();
    let length = (protocol == Protocol::Http1Length).then_some(body.len());
    let request = scene.request(
        Method::POST,
        path,
        headers,
        upload::paced(body, pace),
        length,
    )?;
    scene.exchange(protocol, request).await
}

async fn send(scene: &Scene, protocol: Protocol, body: String, pace: Pace) -> Result<Reply> {
    send_to(scene, protocol, CHAT, &[], body, pace).await
}

fn check_refusal(reply: &Reply) -> Result<()> {
    check_refusal_of(reply, "kv_transfer_params")
}

fn check_refusal_of(reply: &Reply, key: &str) -> Result<()> {
    assert_eq!(reply.status, 400, "{key}");
    assert_eq!(reply.headers["content-type"], "application/json");
    let error = &reply.json()?["error"];
    assert_eq!(error["param"], key);
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!(400), &json!("BadRequestError"))
    );
    assert_eq!(reply.rank(), None, "no rank has answered");
    Ok(())
}

/// What the engines of all ranks were asked for so far.
fn asked(scene: &Scene) -> u64 {
    let ranks = scene.pods.ranks().iter();
    ranks.map(|rank| rank.stats().counts.prompt_tokens).sum()
}

/// Sends a body that is to be refused, and checks that no engine was asked for anything and no count is left.
async fn refused(scene: &Scene, protocol: Protocol, body: String, pace: Pace) -> Result<()> {
    let (before, counted) = (asked(scene), scene.envoy.metric("requests_refused").await?);
    let reply = send(scene, protocol, body, pace).await;
    check_refusal(&reply.with_context(|| format!("{protocol:?}, {pace:?}"))?)?;
    scene
        .envoy
        .wait_for_metric("requests_refused", counted + 1)
        .await?;
    scene.envoy.wait_until_nothing_is_counted().await?;
    assert_eq!(asked(scene), before, "{protocol:?}, {pace:?}");
    Ok(())
}

each_envoy! {
    async fn what_says_it_before_the_decision_is_refused(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 2, |bootstrap| bootstrap).await?;
        for protocol in Protocol::ALL {
            for behind in [PARAMS, ESCAPED] {
                refused(&scene, protocol, chat(500, behind), Pace::Fast).await?;
            }
            refused(&scene, protocol, chat(100_000, PARAMS), Pace::InTurns(16 * 1024)).await?;
            refused(&scene, protocol, chat(500, PARAMS), Pace::ByteByByte).await?;
            let first = chat(4 * MIB, "").replacen('{', &format!("{{{},", &PARAMS[1..]), 1);
            refused(&scene, protocol, first, Pace::Fast).await?;
        }
        assert_eq!(scene.envoy.metric("picks_lowest_cost").await?, 0);
        Ok(())
    }

    async fn what_says_it_after_the_decision_is_refused_too(version: &str) -> Result<()> {
        let by_bytes = Scene::start(version, 2, 2, |bootstrap| bootstrap).await?;
        let by_timer = Scene::start(version, 2, 2, |b| b.picker_field("decideAfterIdleMs", json!(5))).await?;
        for protocol in Protocol::ALL {
            // The second is read beyond what is read of a prompt.
            for bytes in [2 * MIB, 12 * MIB] {
                refused(&by_bytes, protocol, chat(bytes, PARAMS), Pace::Fast).await?;
            }
            refused(&by_timer, protocol, chat(64 * 1024, PARAMS), Pace::InTurns(16 * 1024)).await?;
        }
        // A body that comes at once is refused before its pick.
        let (cut, idle) = (by_bytes.envoy.metric("bodies_cut_bytes").await?, by_timer.envoy.metric("bodies_cut_idle").await?);
        assert!((1..=6).contains(&cut) && (1..=3).contains(&idle), "{cut} {idle}");
        for scene in [by_bytes, by_timer] {
            assert_eq!(scene.envoy.metric("ranks_out").await?, 0, "a refusal says nothing against a rank");
            assert_eq!(scene.envoy.metric("failures_reset").await?, 0);
        }
        Ok(())
    }

    async fn every_key_of_the_list_is_refused_in_every_place(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        let mut refused = 0;
        for (number, key) in default_refused_keys().enumerate() {
            let protocol = Protocol::ALL[number % Protocol::ALL.len()];
            let field = format!(r#""{key}":{{"a":[1]}}"#);
            for behind in [
                format!(",{field}"),
                format!(r#","vllm_xargs":{{"x":1,{field}}}"#),
                format!(r#","sampling_params":{{"extra_args":{{{field}}}}}"#),
            ] {
                let reply = send(&scene, protocol, chat(500, &behind), Pace::Fast).await?;
                check_refusal_of(&reply, key)?;
                refused += 1;
            }
            // Where no rank takes it from, and as text.
            let elsewhere = format!(r#","tools":[{{{field}}}],"user":"\",{}""#, field.replace('"', "\\\""));
            passes(&scene, protocol, CHAT, chat(500, &elsewhere)).await?;
            let null = chat(500, &format!(r#","{key}":null"#));
            if key == "cache_hit_threshold" {
                check_refusal_of(&send(&scene, protocol, null, Pace::Fast).await?, key)?;
                refused += 1;
            } else {
                passes(&scene, protocol, CHAT, null).await?;
            }
        }
        assert_eq!(scene.envoy.metric("requests_refused").await?, refused);
        assert_eq!(asked(&scene), 0);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_pool_adds_keys_of_its_own_and_allows_some(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| {
            let bootstrap = bootstrap.picker_field("refuseKeys", json!(["x.request_id"]));
            bootstrap.picker_field("allowKeys", json!(["bootstrap_host", "data_parallel_rank"]))
        })
        .await?;
        for protocol in Protocol::ALL {
            for bytes in [500, 2 * MIB] {
                for (behind, key) in [
                    (r#","x.request_id":"a""#, "x.request_id"),
                    (r#","vllm_xargs":{"x\u002erequest_id":1}"#, "x.request_id"),
                    (r#","bootstrap_host":"a","bootstrap_port":1"#, "bootstrap_port"),
                ] {
                    let reply = send(&scene, protocol, chat(bytes, behind), Pace::Fast).await;
                    check_refusal_of(&reply.with_context(|| format!("{protocol:?}, {behind}"))?, key)?;
                }
                let allowed = r#","bootstrap_host":"a","data_parallel_rank":1,"tools":[{"x.request_id":1}]"#;
                passes(&scene, protocol, CHAT, chat(bytes, allowed)).await?;
            }
        }
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn the_gateway_goes_on_after_refusals(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        for protocol in Protocol::ALL {
            for _ in 0..4 {
                refused(&scene, protocol, chat(2 * MIB, PARAMS), Pace::Fast).await?;
                assert_eq!(send(&scene, protocol, chat(500, ""), Pace::Fast).await?.status, 200);
            }
        }
        Ok(())
    }

    async fn a_pool_that_allows_it_passes_everything_on(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |b| b.picker_field("allowKeys", json!(["kv_transfer_params"]))).await?;
        for protocol in Protocol::ALL {
            for bytes in [500, 4 * MIB] {
                passes(&scene, protocol, CHAT, chat(bytes, PARAMS)).await?;
            }
        }
        assert_eq!(scene.envoy.metric("requests_refused").await?, 0);
        Ok(())
    }

    async fn honest_requests_pass_untouched(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        let nested = r#","tools":[{"kv_transfer_params":{}}],"stop":"\",\"kv_transfer_params\":{}","kv_transfer_params":null,"bootstrap_host":null"#;
        for protocol in Protocol::ALL {
            for bytes in [500, 4 * MIB] {
                passes(&scene, protocol, CHAT, chat(bytes, nested)).await?;
            }
            for body in ["--boundary\r\nkv_transfer_params", "", "{\"kv_transfer_params", "[\"kv_transfer_params\",{}]"] {
                passes(&scene, protocol, "/v1/audio/transcriptions", body.to_string()).await?;
                passes(&scene, protocol, CHAT, body.to_string()).await?;
            }
        }
        assert_eq!(scene.envoy.metric("requests_refused").await?, 0);
        Ok(())
    }

    async fn what_no_prompt_is_read_from_is_refused_too(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        let said = chat(500, PARAMS);
        let wide: Vec<u8> = said.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        let deep = chat(500, &format!(r#","x":{deep}{PARAMS}"#));
        for protocol in Protocol::ALL {
            for body in [wide.clone(), deep.clone().into_bytes(), format!("\u{feff}{said}").into_bytes()] {
                check_refusal(&send_to(&scene, protocol, CHAT, &[], body, Pace::InTurns(1000)).await?)?;
            }
            for path in ["/invocations", "/v1/chat/c%6fmpletions", "/v1//chat/completions", "/v1/chat/completions/"] {
                for bytes in [500, 2 * MIB] {
                    let reply = send_to(&scene, protocol, path, &[ECHO], chat(bytes, PARAMS), Pace::Fast).await;
                    check_refusal(&reply.with_context(|| format!("{path} over {protocol:?}"))?)?;
                }
            }
            for headers in [[("content-encoding", "gzip")], [("content-encoding", "br")], [("accept", "text/plain")]] {
                check_refusal(&send_to(&scene, protocol, CHAT, &headers, said.clone(), Pace::Fast).await?)?;
            }
        }
        scene.envoy.wait_until_nothing_is_counted().await?;
        assert_eq!(asked(&scene), 0);
        Ok(())
    }
}

/// A body reaches a rank with the same bytes.
async fn passes(scene: &Scene, protocol: Protocol, path: &str, body: String) -> Result<()> {
    let (bytes, hash) = (body.len() as u64, xxh3_64(body.as_bytes()));
    let reply = send_to(scene, protocol, path, &[ECHO], body, Pace::Fast).await?;
    let digest = reply.digest()?;
    assert_eq!(
        (reply.status, digest.body_bytes),
        (200, bytes),
        "{path} over {protocol:?}"
    );
    assert_eq!(digest.body_xxh3, format!("{hash:016x}"));
    Ok(())
}
