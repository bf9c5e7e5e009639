//! Counts are taken at the pick and given back whatever ends a request, in a real Envoy.

use anyhow::Result;
use host_tests::connection::Protocol;
use host_tests::each_envoy;
use host_tests::scene::{ECHO, Scene};
use host_tests::sim::Fault;
use host_tests::upload::{self, Pace};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

fn chat(stream: bool, max_tokens: u32) -> Value {
    let text = "what is the tide doing in the harbour today? ".repeat(40);
    json!({"model": "simulated", "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "stream": stream})
}

async fn set_all(scene: &Scene, fault: Fault) {
    for rank in scene.pods.ranks() {
        rank.set_fault(fault).await;
    }
}

/// A filter that answers by itself, as an authorisation would.
fn refuses() -> Value {
    let code =
        "function envoy_on_request(handle) handle:respond({[\":status\"] = \"403\"}, \"no\") end";
    json!({"name": "refuses", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": code},
    }})
}

each_envoy! {
    async fn a_stream_ends_queued_tokens_at_its_first_byte_and_the_request_at_its_end(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        for protocol in [Protocol::Http1Length, Protocol::Http2] {
            set_all(&scene, Fault::Hanging).await;
            let body = chat(true, 50).to_string();
            let request = scene.request(Method::POST, PATH, &[], upload::whole(body), None)?;
            let mut connection = scene.connect(protocol).await?;
            let pending = tokio::spawn(async move { (connection.send(request).await, connection) });
            scene.envoy.wait_for_metric("requests_in_flight", 1).await?;
            assert!(scene.envoy.metric("queued_tokens").await? > 0, "queued while the rank is silent");
            // Slow from here on, so that the answer still runs when the counts are looked at.
            set_all(&scene, Fault::Slow { factor: 20.0 }).await;
            let (response, _connection) = pending.await?;
            let mut answer = response?.into_body();
            answer.frame().await.expect("an event")?;
            scene.envoy.wait_for_metric("queued_tokens", 0).await?;
            assert_eq!(scene.envoy.metric("requests_in_flight").await?, 1, "the stream is still open");
            set_all(&scene, Fault::None).await;
            answer.collect().await?;
            scene.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn a_client_that_leaves_before_the_answer_gives_its_counts_back(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        set_all(&scene, Fault::Hanging).await;
        for protocol in [Protocol::Http1Length, Protocol::Http2] {
            let request = scene.request(Method::POST, PATH, &[], upload::whole(chat(false, 5).to_string()), None)?;
            let mut connection = scene.connect(protocol).await?;
            let pending = tokio::spawn(async move { connection.send(request).await.map(drop) });
            scene.envoy.wait_for_metric("requests_in_flight", 1).await?;
            assert!(scene.envoy.metric("queued_tokens").await? > 0);
            pending.abort();
            scene.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn a_client_that_leaves_while_its_headers_are_held_leaves_nothing(version: &str) -> Result<()> {
        let adapt = |b: host_tests::bootstrap::Bootstrap| b.picker_field("decideAfterIdleMs", json!(10_000));
        let scene = Scene::start(version, 1, 2, adapt).await?;
        for protocol in Protocol::ALL {
            let body = chat(false, 5).to_string();
            let length = (protocol != Protocol::Http1Chunked).then_some(body.len());
            let upload = upload::paced(body.into(), Pace::StopsHalfWay);
            let request = scene.request(Method::POST, PATH, &[], upload, length)?;
            let mut connection = scene.connect(protocol).await?;
            let pending = tokio::spawn(async move { connection.send(request).await.map(drop) });
            scene.envoy.wait_for_metric("requests_held", 1).await?;
            pending.abort();
            scene.envoy.wait_until_nothing_is_counted().await?;
        }
        assert_eq!(scene.envoy.metric("bodies_cut_idle").await?, 0);
        Ok(())
    }

    async fn a_stream_that_times_out_while_its_headers_are_held_is_answered(version: &str) -> Result<()> {
        let adapt = |b: host_tests::bootstrap::Bootstrap| {
            b.picker_field("decideAfterIdleMs", json!(10_000)).stream_idle_timeout(0.3)
        };
        let scene = Scene::start(version, 1, 2, adapt).await?;
        for protocol in Protocol::ALL {
            let body = chat(false, 5).to_string();
            let length = (protocol != Protocol::Http1Chunked).then_some(body.len());
            let upload = upload::paced(body.into(), Pace::StopsHalfWay);
            let reply = scene.exchange(protocol, scene.request(Method::POST, PATH, &[], upload, length)?).await?;
            assert_eq!(reply.status, 408, "{protocol:?}");
            scene.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn a_rank_that_breaks_off_gives_the_counts_back(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        set_all(&scene, Fault::Reset).await;
        for protocol in [Protocol::Http1Length, Protocol::Http2] {
            let request = scene.request(Method::POST, PATH, &[], upload::whole(chat(true, 50).to_string()), None)?;
            let broken = scene.exchange(protocol, request).await;
            assert!(broken.is_err(), "the answer breaks off: {broken:?}");
            scene.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn a_rank_that_fails_gives_the_counts_back(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        set_all(&scene, Fault::Failing { status: 503 }).await;
        let reply = scene.post(PATH, &chat(false, 5), &[]).await?;
        assert_eq!(reply.status, 503);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_rank_that_hangs_is_timed_out_and_gives_the_counts_back(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap.route_timeout(0.3)).await?;
        set_all(&scene, Fault::Hanging).await;
        let reply = scene.post(PATH, &chat(false, 5), &[]).await?;
        assert_eq!(reply.status, 504);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn no_rank_at_all_is_an_answer_too(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 1, |bootstrap| bootstrap).await?;
        set_all(&scene, Fault::Dead).await;
        let reply = scene.post(PATH, &chat(false, 5), &[]).await?;
        assert_eq!(reply.status, 503);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn an_answer_of_another_filter_gives_the_counts_back(version: &str) -> Result<()> {
        // Before the reader, between the two and behind the picker.
        for position in 0..3 {
            let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap.filter(position, refuses())).await?;
            for protocol in Protocol::ALL {
                let body = chat(false, 5).to_string();
                let length = (protocol == Protocol::Http1Length).then_some(body.len());
                let upload = upload::paced(body.into(), Pace::Fast);
                let reply = scene.exchange(protocol, scene.request(Method::POST, PATH, &[], upload, length)?).await?;
                assert_eq!(reply.status, 403, "position {position}, {protocol:?}");
                scene.envoy.wait_until_nothing_is_counted().await?;
            }
        }
        Ok(())
    }

    async fn a_body_with_trailers_is_whole(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        let body = chat(false, 5).to_string();
        let trailers = hyper::HeaderMap::from_iter([("x-checksum".parse()?, "1".parse()?)]);
        let upload = http_body_util::Full::from(body.clone()).with_trailers(async move { Some(Ok(trailers)) }).boxed();
        let request = scene.request(Method::POST, PATH, &[ECHO], upload, None)?;
        let digest = scene.exchange(Protocol::Http2, request).await?.digest()?;
        assert_eq!(digest.body_bytes, u64::try_from(body.len())?);
        assert_eq!(scene.envoy.metric("bodies_whole").await?, 1);
        scene.envoy.wait_until_nothing_is_counted().await
    }
}
