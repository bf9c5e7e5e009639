//! A request that a rank fails before it has answered anything goes to the next rank named, in a real Envoy.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use host_tests::bootstrap::Bootstrap;
use host_tests::caller::{Call, Caller, Question};
use host_tests::connection::Protocol;
use host_tests::each_envoy;
use host_tests::gateway_log::{GatewayLog, LoggedRequest};
use host_tests::outcome::{Outcome, Outcomes};
use host_tests::pod_addresses;
use host_tests::prompt_text::{ChatRequest, chat_request};
use host_tests::rank_process::{RankProcess, RankProcessConfig};
use host_tests::reply::Reply;
use host_tests::scene::{ECHO, Scene};
use host_tests::sim::{Fault, RankHandle, Role, SidecarVersion};
use host_tests::trace::TraceRequest;
use host_tests::upload;
use hyper::Method;
use routing::DESTINATION_HEADER;
use serde_json::json;
use tokio::task::JoinSet;

const PATH: &str = "/v1/chat/completions";
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: usize = 1024 * 1024;
const LINE: &str = "what is the tide doing in the harbour today? ";

/// A gateway with logs, and a client.
struct Stage {
    scene: Scene,
    log: GatewayLog,
    caller: Caller,
}

impl Stage {
    async fn start(version: &str) -> Result<Self> {
        Self::start_with(version, |bootstrap| bootstrap).await
    }

    async fn start_with(version: &str, adapt: impl FnOnce(Bootstrap) -> Bootstrap) -> Result<Self> {
        let log = GatewayLog::new()?;
        let scene = Scene::start(version, 1, 2, |bootstrap| {
            adapt(bootstrap).logs(log.folder())
        })
        .await?;
        let caller = Caller::new(scene.envoy.gateway(), PATIENCE);
        Ok(Self { scene, log, caller })
    }

    /// The ranks that will be named for this chat, best first.
    async fn named(&self, chat: &ChatRequest) -> Result<Vec<SocketAddr>> {
        let named = self
            .scene
            .post(PATH, &json!(chat), &[ECHO])
            .await?
            .digest()?
            .named_ranks();
        self.scene.envoy.wait_until_nothing_is_counted().await?;
        Ok(named)
    }

    fn rank(&self, address: SocketAddr) -> Result<&RankHandle> {
        let mut ranks = self.scene.pods.ranks().iter();
        ranks
            .find(|rank| rank.addr() == address)
            .context("no such rank")
    }

    async fn ask(&self, chat: &ChatRequest, streams: bool) -> Result<Call> {
        Ok(self
            .caller
            .call(1, &Question::chat(chat, streams)?, &[])
            .await)
    }

    /// The answer to a chat of so many bytes whose best rank is dead; checks that one which came is the next rank's and
    /// that this got the whole body.
    async fn ask_a_dead_rank(&self, bytes: usize, protocol: Protocol) -> Result<Reply> {
        let mut chat = chat(5);
        let start = format!("{protocol:?}, {bytes} bytes: ");
        chat.messages[0].content = start + &LINE.repeat(bytes / LINE.len());
        let body = serde_json::to_string(&chat)?;
        let rank = self.exchange(&body, protocol).await?.rank();
        self.scene.envoy.wait_until_nothing_is_counted().await?;
        let dead = self.rank(rank.context("a rank answers")?)?;
        dead.set_fault(Fault::Dead).await;
        let reply = self.exchange(&body, protocol).await?;
        dead.set_fault(Fault::None).await;
        self.scene.envoy.wait_until_nothing_is_counted().await?;
        if let Some(rank) = reply.rank() {
            let digest = reply.digest()?;
            assert_eq!(digest.body_bytes, u64::try_from(body.len())?);
            assert_eq!(digest.named_ranks()[..2], [dead.addr(), rank]);
        }
        Ok(reply)
    }

    async fn exchange(&self, body: &str, protocol: Protocol) -> Result<Reply> {
        let length = (protocol != Protocol::Http1Chunked).then_some(body.len());
        let upload = upload::whole(body.to_string());
        let request = self
            .scene
            .request(Method::POST, PATH, &[ECHO], upload, length)?;
        self.scene.exchange(protocol, request).await
    }

    /// What Envoy says of the only request with a number, and the ranks that it tried in this order.
    async fn logged(&self) -> Result<(LoggedRequest, Vec<SocketAddr>)> {
        self.log.wait_for(1).await?;
        let request = self.log.requests()?.pop().context("one request")?;
        let mut attempts = self.log.attempts()?;
        attempts.sort_by_key(|attempt| attempt.started);
        Ok((
            request,
            attempts.iter().filter_map(|attempt| attempt.rank).collect(),
        ))
    }
}

/// A chat of some 1,000 tokens with this many tokens of answer.
fn chat(output_tokens: u32) -> ChatRequest {
    let request = TraceRequest {
        at: Duration::ZERO,
        input_tokens: 1000,
        output_tokens,
        blocks: vec![7, 8],
    };
    chat_request(&request, "simulated")
}

/// So that a rank still holds a prompt of megabytes when the next comes.
fn with_large_caches(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.picker_field("rankCapacityTokens", json!(100_000_000))
}

async fn asks_the_next_after(version: &str, faults: &[Fault]) -> Result<()> {
    for streams in [true, false] {
        let stage = Stage::start(version).await?;
        let named = stage.named(&chat(9)).await?;
        for (rank, fault) in named.iter().zip(faults) {
            stage.rank(*rank)?.set_fault(*fault).await;
        }
        let call = stage.ask(&chat(9), streams).await?;
        assert_eq!(
            call.outcome,
            Outcome::Complete,
            "{faults:?}, streams: {streams}"
        );
        assert_eq!(call.rank, named.get(faults.len()).copied(), "{named:?}");
        let (request, tried) = stage.logged().await?;
        assert_eq!(tried, named[..=faults.len()], "{request:?}");
        stage.scene.envoy.wait_until_nothing_is_counted().await?;
    }
    Ok(())
}

async fn is_not_asked_again(version: &str, fault: Fault, expected: Outcome) -> Result<()> {
    let stage = Stage::start(version).await?;
    let named = stage.named(&chat(50)).await?;
    stage.rank(named[0])?.set_fault(fault).await;
    let call = stage.ask(&chat(50), true).await?;
    assert_eq!(call.outcome, expected);
    let (request, tried) = stage.logged().await?;
    assert_eq!(tried, named[..1], "{request:?}");
    stage.scene.envoy.wait_until_nothing_is_counted().await
}

each_envoy! {
    async fn a_dead_rank_costs_an_attempt_and_the_next_named_answers(version: &str) -> Result<()> {
        asks_the_next_after(version, &[Fault::Dead]).await
    }

    async fn two_dead_ranks_cost_two_attempts(version: &str) -> Result<()> {
        asks_the_next_after(version, &[Fault::Dead, Fault::Dead]).await
    }

    async fn a_rank_that_says_503_is_left_for_the_next(version: &str) -> Result<()> {
        asks_the_next_after(version, &[Fault::Failing { status: 503 }]).await
    }

    async fn a_sidecar_that_says_502_is_left_for_the_next(version: &str) -> Result<()> {
        asks_the_next_after(version, &[Fault::Failing { status: 502 }, Fault::Dead]).await
    }

    async fn when_every_named_rank_says_503_so_does_the_gateway(version: &str) -> Result<()> {
        let stage = Stage::start(version).await?;
        let named = stage.named(&chat(9)).await?;
        for rank in stage.scene.pods.ranks() {
            rank.set_fault(Fault::Failing { status: 503 }).await;
        }
        let call = stage.ask(&chat(9), true).await?;
        assert_eq!((call.outcome, call.rank), (Outcome::RankError(503), named.last().copied()));
        let (request, tried) = stage.logged().await?;
        assert_eq!(tried, named);
        assert_eq!((request.flags.as_str(), request.attempts), ("URX", 3));
        stage.scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn a_connection_cut_before_the_answer_began_is_asked_of_the_next(version: &str) -> Result<()> {
        for streams in [true, false] {
            let stage = Stage::start(version).await?;
            let named = stage.named(&chat(9)).await?;
            let first = stage.rank(named[0])?;
            first.set_fault(Fault::Hanging).await;
            let (caller, question) = (stage.caller.clone(), Question::chat(&chat(9), streams)?);
            let call = tokio::spawn(async move { caller.call(1, &question, &[]).await });
            while first.stats().open_requests == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            first.set_fault(Fault::Dead).await;
            let call = call.await?;
            assert_eq!((call.outcome, call.rank), (Outcome::Complete, Some(named[1])));
            assert_eq!(stage.logged().await?.1, named[..2]);
            stage.scene.envoy.wait_until_nothing_is_counted().await?;
        }
        Ok(())
    }

    async fn nothing_is_asked_again_once_the_answer_has_begun(version: &str) -> Result<()> {
        is_not_asked_again(version, Fault::Reset, Outcome::BrokenOff).await
    }

    async fn a_rank_that_says_500_is_believed(version: &str) -> Result<()> {
        is_not_asked_again(version, Fault::Failing { status: 500 }, Outcome::RankError(500)).await
    }

    async fn a_rank_that_refuses_the_request_is_believed(version: &str) -> Result<()> {
        is_not_asked_again(version, Fault::Failing { status: 429 }, Outcome::Refused(429)).await
    }

    async fn requests_of_a_rank_killed_a_moment_ago_are_all_answered(version: &str) -> Result<()> {
        let mut processes = Vec::new();
        for pod in pod_addresses::unused(2) {
            let config = RankProcessConfig { pod, base_port: 8000, ranks: 1, slowness: 1.0, role: Role::Both, sidecar: SidecarVersion::default() };
            processes.push(RankProcess::start(config).await?);
        }
        let ranks: Vec<SocketAddr> = processes.iter().flat_map(RankProcess::ranks).collect();
        let log = GatewayLog::new()?;
        let bootstrap = Bootstrap::with_rank_router(&ranks)?.logs(log.folder());
        let envoy = host_tests::envoy::Envoy::start(version, 2, &bootstrap).await?;
        let caller = Caller::new(envoy.gateway(), PATIENCE);
        // Connections to both ranks are open, idle and known to Envoy when one dies.
        let warm = ask_many(&caller, 0..40).await?;
        assert_eq!(warm.count(Outcome::Complete), 40, "{warm}");
        processes[0].kill().await?;
        let asked = ask_many(&caller, 40..240).await?;
        assert_eq!(asked.count(Outcome::Complete), 200, "{asked}");
        log.wait_for(240).await?;
        let tried_the_dead = log.attempts()?.iter().filter(|attempt| attempt.number >= 40 && attempt.rank == Some(ranks[0])).count();
        assert!(tried_the_dead > 10, "more at once than Envoy retries by default: {tried_the_dead}");
        processes[0].restart().await?;
        envoy.wait_until_nothing_is_counted().await
    }

    async fn a_prompt_of_megabytes_is_sent_again_whole(version: &str) -> Result<()> {
        let stage = Stage::start_with(version, with_large_caches).await?;
        for protocol in Protocol::ALL {
            for mib in [1, 2, 7] {
                let reply = stage.ask_a_dead_rank(mib * MIB, protocol).await?;
                assert_eq!(reply.status, 200, "{mib} MiB over {protocol:?}");
            }
        }
        Ok(())
    }

    async fn without_a_limit_of_its_own_a_long_body_is_not_sent_again(version: &str) -> Result<()> {
        let adapt = |bootstrap| with_large_caches(bootstrap).buffer_limit(None);
        let stage = Stage::start_with(version, adapt).await?;
        for protocol in [Protocol::Http1Length, Protocol::Http1Chunked] {
            // Envoy 1.37 counts what the picker held twice: there the limit is half of 1 MiB.
            let reply = stage.ask_a_dead_rank(400 * 1024, protocol).await?;
            assert_eq!(reply.status, 200, "{protocol:?}");
            let reply = stage.ask_a_dead_rank(2 * MIB, protocol).await?;
            assert_eq!((reply.status, reply.rank()), (503, None), "{protocol:?}");
        }
        Ok(())
    }

    async fn when_the_named_ranks_are_used_up_no_rank_is_tried_twice(version: &str) -> Result<()> {
        // Without the module, so that a client can name ranks, and names just one.
        let without_module = |bootstrap: Bootstrap| {
            bootstrap.without_filter(0).without_filter(0).without_early_header_mutation()
        };
        let stage = Stage::start_with(version, without_module).await?;
        for rank in stage.scene.pods.ranks() {
            rank.set_fault(Fault::Failing { status: 503 }).await;
        }
        let named = stage.scene.pods.ranks()[0].addr().to_string();
        let question = Question::chat(&chat(5), true)?;
        for number in 0..12 {
            stage.caller.call(number, &question, &[(DESTINATION_HEADER, &named)]).await;
        }
        stage.log.wait_for(12).await?;
        for number in 0..12 {
            let attempts = stage.log.attempts()?.into_iter().filter(|attempt| attempt.number == number);
            let tried: HashSet<_> = attempts.filter_map(|attempt| attempt.rank).collect();
            assert_eq!(tried.len(), 3, "{tried:?}");
        }
        Ok(())
    }
}

/// Asks so many chats at once, with different prompts.
async fn ask_many(caller: &Caller, numbers: std::ops::Range<u64>) -> Result<Outcomes> {
    let mut calls = JoinSet::new();
    for number in numbers {
        let request = TraceRequest {
            at: Duration::ZERO,
            input_tokens: 300,
            output_tokens: 5,
            blocks: vec![number],
        };
        let question = Question::chat(&chat_request(&request, "simulated"), number % 2 == 0)?;
        let caller = caller.clone();
        calls.spawn(async move { caller.call(number, &question, &[]).await });
    }
    Ok(calls
        .join_all()
        .await
        .into_iter()
        .map(|call| call.outcome)
        .collect())
}
