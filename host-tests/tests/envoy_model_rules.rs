//! What is refused where the model in the body chooses among pools of different rules, in a real Envoy.

use anyhow::{Context, Result};
use host_tests::connection::Protocol;
use host_tests::each_envoy;
use host_tests::reply::Reply;
use host_tests::sim::SimulatedPods;
use host_tests::two_models::{TwoModels, addresses, prompt_tokens};
use serde_json::json;

const PARAMS: &str = r#""kv_transfer_params":{"do_remote_prefill":true}"#;

fn assert_refused(reply: &Reply, param: &str) -> Result<()> {
    assert_eq!((reply.status, reply.rank()), (400, None));
    assert_eq!(reply.json()?["error"]["param"], param);
    Ok(())
}

fn assert_served(reply: &Reply, pods: &SimulatedPods) -> Result<()> {
    assert_eq!(reply.status, 200);
    let rank = reply.rank().context("a rank answers")?;
    assert!(addresses(pods).contains(&rank), "{rank}");
    Ok(())
}

/// The key before and behind the model, and each in a half of its own.
fn bodies(model: &str) -> [(String, String); 4] {
    let model = format!(r#""model":"{model}""#);
    [
        (
            format!(r#"{{{PARAMS},{model},"#),
            r#""prompt":"a"}"#.to_string(),
        ),
        (
            format!(r#"{{{model},{PARAMS},"#),
            r#""prompt":"a"}"#.to_string(),
        ),
        (format!("{{{model},"), format!(r#""prompt":"a",{PARAMS}}}"#)),
        (
            format!(r#"{{{model},"prompt":""#),
            format!(r#"a",{PARAMS}}}"#),
        ),
    ]
}

each_envoy! {
    async fn the_pool_that_the_model_chooses_says_what_is_refused(version: &str) -> Result<()> {
        let allows = json!({"allowKeys": ["kv_transfer_params"]});
        for (large, small) in [(&allows, &json!({})), (&json!({}), &allows)] {
            let stage = TwoModels::start(version, large, small).await?;
            let mut refused = 0;
            for protocol in Protocol::ALL {
                for (model, pods, fields) in [("large-1", &stage.large, large), ("small-1", &stage.small, small)] {
                    for (head, tail) in bodies(model) {
                        let whole = stage.ask(protocol, &format!("{head}{tail}"), &[]).await?;
                        let cut = stage.ask_in_two(protocol, &head, &tail).await;
                        let cut = cut.with_context(|| format!("{protocol:?}, {head}"))?;
                        for reply in [whole, cut] {
                            if fields == &allows {
                                assert_served(&reply, pods)?;
                            } else {
                                assert_refused(&reply, "kv_transfer_params")?;
                                refused += 1;
                            }
                        }
                    }
                }
            }
            stage.envoy.wait_for_metric("requests_refused", refused).await?;
            assert_eq!(stage.envoy.metric("ranks_out").await?, 0);
            stage.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn a_request_without_a_model_is_under_the_rules_of_its_route(version: &str) -> Result<()> {
        let allows = json!({"allowKeys": ["kv_transfer_params"]});
        let forged = [("x-gateway-model-name", "small-1")];
        let body = format!(r#"{{"prompt":"a",{PARAMS}}}"#);
        let stage = TwoModels::start(version, &allows, &json!({})).await?;
        assert_served(&stage.ask(Protocol::Http1Length, &body, &[]).await?, &stage.large)?;
        // Where a header of the client may have chosen the route, those of all pools count.
        assert_refused(&stage.ask(Protocol::Http1Length, &body, &forged).await?, "kv_transfer_params")?;
        let stage = TwoModels::start(version, &json!({}), &allows).await?;
        assert_refused(&stage.ask(Protocol::Http1Length, &body, &[]).await?, "kv_transfer_params")?;
        assert_refused(&stage.ask(Protocol::Http1Length, &body, &forged).await?, "kv_transfer_params")?;
        assert_eq!((prompt_tokens(&stage.large), prompt_tokens(&stage.small)), (0, 0));
        stage.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_shadow_beside_another_pool_lets_no_header_of_a_client_pass(version: &str) -> Result<()> {
        let shadow = json!({"shadow": true});
        for (large, small) in [(&shadow, &json!({})), (&json!({}), &shadow)] {
            let stage = TwoModels::start(version, large, small).await?;
            let forged = [("x-prefiller-host-port", "192.0.2.1:8000"), ("x-gateway-model-name", "small-1")];
            for (model, pods) in [("large-1", &stage.large), ("small-1", &stage.small)] {
                let body = json!({"model": model, "prompt": "a"}).to_string();
                let reply = stage.ask(Protocol::Http1Length, &body, &forged).await?;
                assert_served(&reply, pods)?;
                let digest = reply.digest()?;
                assert!(digest.header("x-prefiller-host-port").is_empty(), "{digest:?}");
            }
            let reply = stage.list_models(&forged).await?;
            assert_served(&reply, &stage.large)?;
            stage.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn shadows_alone_leave_everything_as_it_is(version: &str) -> Result<()> {
        let shadow = json!({"shadow": true});
        let stage = TwoModels::start(version, &shadow, &shadow).await?;
        let steered = [("x-prefiller-host-port", "192.0.2.1:8000"), ("x-gateway-model-name", "small-1")];
        for body in [format!(r#"{{"model":"large-1","prompt":"a",{PARAMS}}}"#), r#"{"prompt":"a"}"#.to_string()] {
            let reply = stage.ask(Protocol::Http1Length, &body, &steered).await?;
            assert_served(&reply, &stage.small)?;
            assert_eq!(reply.digest()?.header("x-prefiller-host-port"), ["192.0.2.1:8000"]);
        }
        assert_eq!(stage.envoy.metric("requests_refused").await?, 0);
        assert_eq!(stage.envoy.metric("steering_headers_removed").await?, 0);
        stage.envoy.wait_until_nothing_is_counted().await
    }

    async fn of_models_that_come_before_the_pick_the_last_counts(version: &str) -> Result<()> {
        let far = json!({"decideAfterIdleMs": 10_000});
        let stage = TwoModels::start(version, &far, &far).await?;
        for protocol in Protocol::ALL {
            for (first, last, pods) in [("small-1", "large-1", &stage.large), ("large-1", "small-1", &stage.small)] {
                let body = format!(r#"{{"model":"{first}","prompt":"a","mo\u0064el":"{last}"}}"#);
                assert_served(&stage.ask(protocol, &body, &[]).await?, pods)?;
            }
        }
        assert_eq!(stage.envoy.metric("requests_refused").await?, 0);
        stage.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_model_behind_the_one_that_was_picked_by_is_refused(version: &str) -> Result<()> {
        let stage = TwoModels::start(version, &json!({}), &json!({})).await?;
        let mut refused = 0;
        for protocol in Protocol::ALL {
            for (head, second) in [
                (r#"{"model":"small-1","#, r#""model":"large-1"}"#),
                (r#"{"model":"small-1","prompt":"a","#, r#""mo\u0064el":"small-1"}"#),
                (r#"{"model":"small-1","prompt":"a""#, r#","model":null}"#),
                (r#"{"model":"small-1","model""#, r#":"large-1"}"#),
                (r#"{"model":"large-1","prompt":"a"#, r#"","model":"small-1"}"#),
            ] {
                let reply = stage.ask_in_two(protocol, head, second).await;
                assert_refused(&reply.with_context(|| format!("{protocol:?}, {head}"))?, "model")?;
                refused += 1;
            }
        }
        stage.envoy.wait_for_metric("requests_refused", refused).await?;
        stage.envoy.wait_until_nothing_is_counted().await?;
        assert_eq!((prompt_tokens(&stage.large), prompt_tokens(&stage.small)), (0, 0));
        Ok(())
    }

    async fn a_model_beyond_what_is_read_of_prompts_is_refused_too(version: &str) -> Result<()> {
        let stage = TwoModels::start(version, &json!({}), &json!({})).await?;
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(12 * 1024 * 1024 / 45);
        let body = format!(r#"{{"model":"small-1","prompt":"{text}","model":"large-1"}}"#);
        for protocol in Protocol::ALL {
            assert_refused(&stage.ask(protocol, &body, &[]).await?, "model")?;
        }
        stage.envoy.wait_until_nothing_is_counted().await?;
        assert_eq!((prompt_tokens(&stage.large), prompt_tokens(&stage.small)), (0, 0));
        Ok(())
    }

    async fn a_model_that_comes_after_the_pick_alone_changes_no_route(version: &str) -> Result<()> {
        let stage = TwoModels::start(version, &json!({}), &json!({})).await?;
        for protocol in Protocol::ALL {
            for (head, tail) in [
                (r#"{"prompt":"a","#, r#""model":"small-1"}"#),
                (r#"{"prompt":"a","model":"sma"#, r#"ll-1"}"#),
            ] {
                let reply = stage.ask_in_two(protocol, head, tail).await;
                assert_served(&reply.with_context(|| format!("{protocol:?}, {head}"))?, &stage.large)?;
            }
        }
        assert_eq!(stage.envoy.metric("requests_refused").await?, 0);
        stage.envoy.wait_until_nothing_is_counted().await
    }
}
