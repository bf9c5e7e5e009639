//! Which rank answers, in a real Envoy.

use std::collections::HashSet;
use std::net::SocketAddr;

use anyhow::Result;
use host_tests::bootstrap::Bootstrap;
use host_tests::connection::Protocol;
use host_tests::each_envoy;
use host_tests::reply::Reply;
use host_tests::scene::{ECHO, Scene};
use host_tests::sim::Fault;
use host_tests::upload;
use hyper::Method;
use serde_json::{Value, json};

const GZIP: (&str, &str) = ("content-encoding", "gzip");

/// Six blocks of the default size.
fn long_text(topic: &str) -> String {
    format!("{topic}: ").repeat(1600 / (topic.len() + 2))
}

fn completion(prompt: &str) -> Value {
    json!({"model": "simulated", "prompt": prompt, "max_tokens": 2})
}

fn chat(system: &str, user: &str) -> Value {
    let messages =
        json!([{"role": "system", "content": system}, {"role": "user", "content": user}]);
    json!({"model": "simulated", "messages": messages, "max_tokens": 2})
}

/// Method, path, body and headers of a request without a readable prompt.
type Unread = (
    Method,
    &'static str,
    &'static [u8],
    &'static [(&'static str, &'static str)],
);

async fn rank_of(scene: &Scene, path: &str, body: &Value) -> Result<SocketAddr> {
    let reply = scene.post(path, body, &[]).await?;
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    Ok(reply.rank().expect("a simulated rank answered"))
}

each_envoy! {
    async fn a_prompt_goes_where_its_prefix_is(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        for topic in ["tides", "volcanoes", "glaciers"] {
            let text = long_text(topic);
            let first = rank_of(&scene, "/v1/completions", &completion(&text)).await?;
            let longer = completion(&format!("{text} And why is that so?"));
            assert_eq!(rank_of(&scene, "/v1/completions", &longer).await?, first, "{topic}");
            let first = rank_of(&scene, "/v1/chat/completions", &chat(&text, "Why?")).await?;
            assert_eq!(rank_of(&scene, "/v1/chat/completions", &chat(&text, "How?")).await?, first, "{topic}");
        }
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 6);
        assert_eq!(scene.envoy.metric("picks_lowest_cost").await?, 6);
        assert_eq!(scene.envoy.metric("bodies_whole").await?, 12);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn the_rank_serves_the_repeated_prefix_from_its_cache(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let body = chat(&long_text("harbours"), "Why?");
        let mut cached = Vec::new();
        for _ in 0..2 {
            let usage = scene.post("/v1/chat/completions", &body, &[]).await?.json()?["usage"].take();
            cached.push(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0));
        }
        assert_eq!(cached[0], 0);
        assert!(cached[1] > 300, "{cached:?} of about 400 tokens");
        Ok(())
    }

    async fn equal_prompts_with_different_salts_share_nothing(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let mut body = chat(&long_text("ledgers"), "Why?");
        for salt in [json!("tenant-a"), json!("tenant-b"), Value::Null] {
            body["cache_salt"] = salt;
            let mut cached = Vec::new();
            for _ in 0..2 {
                let usage = scene.post("/v1/chat/completions", &body, &[]).await?.json()?["usage"].take();
                cached.push(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0));
            }
            assert_eq!(cached[0], 0, "{} finds what others sent", body["cache_salt"]);
            assert!(cached[1] > 300, "{} has lost its own: {cached:?}", body["cache_salt"]);
        }
        assert_eq!(scene.envoy.metric("picks_lowest_cost").await?, 3, "the first of each");
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 3, "the second of each");
        Ok(())
    }

    async fn other_prompts_spread_over_pods_and_ranks(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let mut ranks = HashSet::new();
        for number in 0..48 {
            ranks.insert(rank_of(&scene, "/v1/completions", &completion(&long_text(&format!("topic {number}")))).await?);
        }
        assert!(ranks.len() >= 12, "48 prompts reached only {} of 16 ranks", ranks.len());
        Ok(())
    }

    async fn the_best_rank_and_two_fallbacks_are_named(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let reply = scene.post("/v1/completions", &completion(&long_text("rivers")), &[ECHO]).await?;
        let named = reply.digest()?.named_ranks();
        assert_eq!(named.len(), 3, "{named:?}");
        assert_eq!(Some(named[0]), reply.rank());
        assert_ne!(named[0].ip(), named[1].ip(), "the first fallback is on another pod");
        assert_eq!(named.iter().collect::<HashSet<_>>().len(), 3);
        Ok(())
    }

    async fn a_dead_rank_costs_a_retry_and_no_request(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let body = completion(&long_text("lakes"));
        let first = rank_of(&scene, "/v1/completions", &body).await?;
        let rank = scene.pods.ranks().iter().find(|rank| rank.addr() == first).expect("a rank of ours");
        rank.set_fault(Fault::Dead).await;
        let second = rank_of(&scene, "/v1/completions", &body).await?;
        assert_ne!(second.ip(), first.ip(), "the first fallback is on another pod");
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn what_carries_no_prompt_goes_on_unchanged(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let cases: [Unread; 8] = [
            (Method::GET, "/v1/models?x=1", b"", &[ECHO]),
            (Method::POST, "/v1/chat/completions", b"", &[ECHO]),
            (Method::POST, "/v1/audio/transcriptions", b"{\"input\":\"tides\"}", &[ECHO]),
            (Method::POST, "/v1/chat/completions", b"--no-json\r\n", &[ECHO]),
            (Method::POST, "/v1/completions", b"{\"prompt\":\"broken off", &[ECHO]),
            (Method::POST, "/v1/completions", b"\x1f\x8b\x08\x00\xff", &[ECHO, GZIP]),
            (Method::POST, "/v1/completions", b"\xff\xfe\x00[", &[ECHO]),
            (Method::DELETE, "/", b"", &[ECHO]),
        ];
        for protocol in [Protocol::Http1Length, Protocol::Http2] {
            for (method, path, body, headers) in &cases {
                let length = (!body.is_empty()).then_some(body.len());
                let upload = upload::whole(body.to_vec());
                let request = scene.request(method.clone(), path, headers, upload, length)?;
                let reply = scene.exchange(protocol, request).await?;
                let digest = reply.digest()?;
                assert_eq!((digest.method.as_str(), digest.path.as_str()), (method.as_str(), *path));
                assert_eq!(digest.body_xxh3, format!("{:016x}", xxhash_rust::xxh3::xxh3_64(body)), "{path} {protocol:?}");
                assert_eq!(Some(digest.named_ranks()[0]), reply.rank());
            }
        }
        assert_eq!(scene.envoy.metric("picks_no_prompt").await?, 16);
        assert_eq!(scene.envoy.metric("bodies_unreadable").await?, 6);
        assert_eq!(scene.envoy.metric("reader_missing").await?, 0);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn what_carries_no_prompt_goes_to_the_least_loaded_rank(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        // Three of four ranks stream for longer than the test takes.
        let mut streams = Vec::new();
        for number in 0..3 {
            let mut body = completion(&long_text(&format!("topic {number}")));
            body["max_tokens"] = json!(20_000);
            body["stream"] = json!(true);
            let upload = upload::whole(body.to_string());
            let request = scene.request(Method::POST, "/v1/completions", &[], upload, None)?;
            let mut connection = scene.connect(Protocol::Http1Length).await?;
            streams.push((connection.send(request).await?, connection));
        }
        let is_idle = |rank: SocketAddr| scene.pods.ranks().iter().any(|r| r.addr() == rank && r.stats().running == 0);
        let idle = scene.pods.ranks().iter().filter(|rank| is_idle(rank.addr())).count();
        assert_eq!(idle, 1, "each stream has its rank");
        for _ in 0..4 {
            let request = scene.request(Method::GET, "/v1/models", &[], upload::whole(""), None)?;
            let reply = scene.exchange(Protocol::Http1Length, request).await?;
            assert!(is_idle(reply.rank().expect("a rank")), "an idle rank was there");
        }
        drop(streams);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn clients_cannot_steer(version: &str) -> Result<()> {
        // The manifest removes these headers, too: this is about the module.
        let scene = Scene::start(version, 1, 8, Bootstrap::without_early_header_mutation).await?;
        let target = scene.pods.ranks()[3].addr().to_string();
        let mut headers = vec![ECHO];
        for name in routing::STRIPPED_HEADERS {
            headers.extend([(name, target.as_str()), (name, "10.0.0.1:9")]);
        }
        for (method, body) in [(Method::GET, None), (Method::POST, Some(completion(&long_text("seas"))))] {
            let body = body.map(|body| body.to_string()).unwrap_or_default();
            let length = (!body.is_empty()).then_some(body.len());
            let request = scene.request(method, "/v1/completions", &headers, upload::whole(body), length)?;
            let digest = scene.exchange(Protocol::Http1Length, request).await?.digest()?;
            for name in routing::STRIPPED_HEADERS {
                let expected = usize::from(name == routing::DESTINATION_HEADER);
                assert_eq!(digest.header(name).len(), expected, "{name}: {:?}", digest.header(name));
            }
            assert!(!digest.header(routing::DESTINATION_HEADER)[0].contains("10.0.0.1"));
        }
        Ok(())
    }

    async fn four_workers_serve_a_crowd_and_count_to_zero(version: &str) -> Result<()> {
        let scene = std::sync::Arc::new(Scene::start(version, 4, 8, |bootstrap| bootstrap).await?);
        let mut crowd = tokio::task::JoinSet::new();
        for number in 0..200 {
            let scene = scene.clone();
            crowd.spawn(async move {
                let body = chat(&long_text(&format!("topic {}", number % 20)), "Why?");
                let protocol = Protocol::ALL[number % 3];
                let request = scene.request(Method::POST, "/v1/chat/completions", &[], upload::whole(body.to_string()), None)?;
                scene.exchange(protocol, request).await
            });
        }
        while let Some(reply) = crowd.join_next().await {
            let reply: Reply = reply??;
            assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        }
        assert_eq!(scene.envoy.metric("bodies_whole").await?, 200);
        scene.envoy.wait_until_nothing_is_counted().await
    }
}
