//! Every endpoint that carries a prompt, in a real Envoy.

use anyhow::Result;
use host_tests::bootstrap::Bootstrap;
use host_tests::connection::Protocol;
use host_tests::each_envoy;
use host_tests::reply::Digest;
use host_tests::scene::{ECHO, Scene};
use host_tests::upload::{self, Pace};
use hyper::Method;
use serde_json::{Value, json};

fn text(topic: &str, bytes: usize) -> String {
    format!("{topic} and what follows from it, ")
        .repeat(bytes / topic.len())
        .chars()
        .take(bytes)
        .collect()
}

/// A path, a body whose prompt is about 400 tokens, and its word in the metrics.
fn requests() -> Vec<(&'static str, Value, &'static str)> {
    let long = |topic: &str| text(topic, 1600);
    let user = |content: String| json!([{"role": "user", "content": content}]);
    vec![
        (
            "/v1/completions",
            json!({"prompt": [long("tides"), "x"]}),
            "completions",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": user(long("rivers"))}),
            "chat",
        ),
        (
            "/v1/responses",
            json!({"instructions": long("lakes"), "input": "why?"}),
            "responses",
        ),
        (
            "/v1/messages",
            json!({"system": long("seas"), "messages": user("why?".to_string())}),
            "messages",
        ),
        (
            "/v1/embeddings",
            json!({"input": [long("tides")]}),
            "pooling",
        ),
        (
            "/rerank",
            json!({"query": long("tides"), "documents": ["x"]}),
            "rerank",
        ),
        (
            "/score",
            json!({"text_1": long("tides"), "text_2": "x"}),
            "score",
        ),
        (
            "/inference/v1/generate",
            json!({"token_ids": vec![7; 400]}),
            "generate",
        ),
    ]
}

async fn echo(scene: &Scene, path: &str, body: &Value) -> Result<Digest> {
    scene.post(path, body, &[ECHO]).await?.digest()
}

each_envoy! {
    async fn every_prompt_follows_its_prefix_and_is_counted_by_its_endpoint(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        for (number, (path, body, name)) in (1..).zip(requests()) {
            let first = echo(&scene, path, &body).await?.named_ranks();
            assert_eq!(echo(&scene, path, &body).await?.named_ranks()[0], first[0], "{path}");
            assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, number, "{path}");
            assert_eq!(scene.envoy.metric(&format!("requests_{name}_understood")).await?, 2, "{path}");
        }
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_conversation_is_one_prefix_whichever_api_it_came_by(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let (rules, question) = (text("rules", 1600), text("question", 1600));
        let input = json!({"instructions": rules, "input": question});
        let messages = json!({"system": rules, "messages": [{"role": "user", "content": question}]});
        let first = echo(&scene, "/v1/responses", &input).await?.named_ranks()[0];
        assert_eq!(echo(&scene, "/v1/messages", &messages).await?.named_ranks()[0], first);
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 1);
        Ok(())
    }

    async fn what_only_counts_tokens_takes_no_cache(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 8, |bootstrap| bootstrap).await?;
        let body = json!({"messages": [{"role": "user", "content": text("tides", 1600)}]});
        for path in ["/tokenize", "/v1/messages/count_tokens", "/v1/chat/completions"] {
            echo(&scene, path, &body).await?;
        }
        assert_eq!(scene.envoy.metric("requests_tokenize_understood").await?, 2);
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 0);
        assert_eq!(scene.envoy.metric("picks_no_prompt").await?, 2);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn silence_is_visible(version: &str) -> Result<()> {
        let scene = Scene::start(version, 1, 2, |bootstrap| bootstrap).await?;
        for (path, body, headers, name) in [
            ("/v1/chat/completions", r#"{"messages":[]}"#, &[ECHO][..], "chat_not_a_prompt"),
            ("/v1/responses", r#"{"inputs":"misspelt"}"#, &[ECHO], "responses_not_a_prompt"),
            ("/v1/completions", r#"[1,2]"#, &[ECHO], "completions_unreadable"),
            ("/v1/messages", "{", &[ECHO, ("content-encoding", "br")], "messages_unreadable"),
            ("/v1/audio/transcriptions", "x", &[ECHO], "other_not_a_prompt"),
        ] {
            let request = scene.request(Method::POST, path, headers, upload::whole(body), Some(body.len()))?;
            assert_eq!(scene.exchange(Protocol::Http1Length, request).await?.status, 200);
            assert_eq!(scene.envoy.metric(&format!("requests_{name}")).await?, 1, "{path}");
        }
        echo(&scene, "/v1/completions", &json!({"prompt": "too short for a block"})).await?;
        assert_eq!(scene.envoy.metric("prompts_without_block").await?, 1);
        assert_eq!(scene.envoy.metric("reader_missing").await?, 0);
        Ok(())
    }

    async fn a_conversation_is_known_again_though_its_bodies_are_cut_before_the_model(version: &str) -> Result<()> {
        let adapt = |bootstrap: Bootstrap| bootstrap.picker_field("decideAfterBytes", json!(4096));
        let scene = Scene::start(version, 1, 8, adapt).await?;
        let turn = |number: usize| format!(r#"{{"role":"user","content":"{}"}}"#, text(&format!("turn {number}"), 6000));
        let mut ranks = Vec::new();
        for turns in 1..4 {
            let messages: Vec<String> = (0..turns).map(turn).collect();
            let body = format!(r#"{{"messages":[{}],"model":"simulated"}}"#, messages.join(","));
            for protocol in [Protocol::Http2, Protocol::Http1Chunked] {
                let upload = upload::paced(body.clone().into(), Pace::Fast);
                let request = scene.request(Method::POST, "/v1/chat/completions", &[ECHO], upload, None)?;
                ranks.push(scene.exchange(protocol, request).await?.digest()?.named_ranks()[0]);
            }
        }
        assert!(ranks.iter().all(|rank| *rank == ranks[0]), "{ranks:?}");
        assert!(scene.envoy.metric("picks_prefix_hit").await? >= 5);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn what_came_behind_an_early_pick_is_known_for_the_next(version: &str) -> Result<()> {
        let adapt = |bootstrap: Bootstrap| bootstrap.picker_field("decideAfterBytes", json!(4096));
        let scene = Scene::start(version, 1, 8, adapt).await?;
        let messages = format!(r#"[{{"role":"user","content":"{}"}}]"#, text("tides", 9000));
        let model_last = format!(r#"{{"messages":{messages},"model":"simulated"}}"#);
        let model_first = format!(r#"{{"model":"simulated","messages":{messages}}}"#);
        let mut ranks = Vec::new();
        for body in [model_last, model_first] {
            let upload = upload::paced(body.into(), Pace::InTurns(1500));
            let request = scene.request(Method::POST, "/v1/chat/completions", &[ECHO], upload, None)?;
            ranks.push(scene.exchange(Protocol::Http2, request).await?.digest()?.named_ranks()[0]);
        }
        assert_eq!(scene.envoy.metric("bodies_cut_bytes").await?, 2);
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 1, "the model of the first was read after its pick");
        assert_eq!(ranks[0], ranks[1]);
        Ok(())
    }
}
