//! Prefill and decode on different ranks, in a real Envoy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use host_tests::apart::{Apart, ApartScene};
use host_tests::bootstrap::Bootstrap;
use host_tests::caller::{Call, Caller, Question};
use host_tests::each_envoy;
use host_tests::outcome::Outcome;
use host_tests::prompt_text::{ChatRequest, chat_request};
use host_tests::sim::{Fault, RankHandle, SidecarVersion};
use host_tests::trace::TraceRequest;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const PATIENCE: Duration = Duration::from_secs(60);
const SIDECARS: [SidecarVersion; 2] = [SidecarVersion::V0_8, SidecarVersion::V0_9];

/// A chat of 4,096 tokens that starts like no other of another number.
fn chat(number: u64) -> ChatRequest {
    let request = TraceRequest {
        at: Duration::ZERO,
        input_tokens: 4096,
        output_tokens: 4,
        blocks: (number * 100..number * 100 + 8).collect(),
    };
    chat_request(&request, "simulated")
}

struct Stage {
    scene: ApartScene,
    caller: Caller,
}

impl Stage {
    async fn start(
        version: &str,
        pods: u32,
        ranks_per_pod: u16,
        sidecar: SidecarVersion,
    ) -> Result<Self> {
        Self::start_with(version, pods, ranks_per_pod, sidecar, |bootstrap| bootstrap).await
    }

    async fn start_with(
        version: &str,
        pods: u32,
        ranks_per_pod: u16,
        sidecar: SidecarVersion,
        adapt: impl FnOnce(Bootstrap) -> Bootstrap,
    ) -> Result<Self> {
        let apart = Apart {
            pods,
            ranks_per_pod,
            sidecar,
        };
        let scene = ApartScene::start(version, apart, adapt).await?;
        let caller = Caller::new(scene.envoy.gateway(), PATIENCE);
        Ok(Self { scene, caller })
    }

    async fn ask(&self, number: u64) -> Result<Call> {
        let question = Question::chat(&chat(number), true)?;
        Ok(self.caller.call(number, &question, &[]).await)
    }

    /// Asks a chat that nobody has seen, and gives its call and the rank that prefilled.
    async fn ask_for_leg(&self, number: u64) -> Result<(Call, Option<&RankHandle>)> {
        let before = self.scene.legs();
        let call = self.ask(number).await?;
        let after = self.scene.legs();
        let place = before
            .iter()
            .zip(&after)
            .position(|(before, after)| before < after);
        Ok((call, place.map(|place| &self.scene.prefill.ranks()[place])))
    }

    async fn end(&self) -> Result<()> {
        assert_eq!(
            self.scene.direct_requests(),
            0,
            "a rank that prefills was a destination"
        );
        self.scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn metric(&self, name: &str) -> Result<u64> {
        self.scene.envoy.metric(name).await
    }
}

fn decodes(stage: &Stage, rank: Option<SocketAddr>) -> bool {
    let mut ranks = stage.scene.decode.ranks().iter();
    ranks.any(|decode| Some(decode.addr()) == rank)
}

each_envoy! {
    async fn a_prompt_is_prefilled_where_its_start_is_and_its_next_turn_where_all_of_it_is(version: &str) -> Result<()> {
        let stage = Stage::start(version, 2, 2, SidecarVersion::V0_9).await?;
        let (call, prefiller) = stage.ask_for_leg(1).await?;
        assert_eq!(call.outcome, Outcome::Complete, "{call:?}");
        assert!(decodes(&stage, call.rank), "{call:?}");
        prefiller.context("no rank prefilled")?;
        assert_eq!(stage.metric("prefill_legs").await?, 1);
        let (again, prefiller) = stage.ask_for_leg(1).await?;
        assert!(prefiller.is_none(), "the decode rank holds all of it");
        assert_eq!((again.outcome, again.rank), (Outcome::Complete, call.rank));
        assert_eq!(stage.metric("prefill_legs_spared").await?, 1);
        stage.end().await
    }

    async fn a_failed_leg_is_made_good_before_the_client_sees_anything(version: &str) -> Result<()> {
        for sidecar in SIDECARS {
            for fault in [Fault::Failing { status: 500 }, Fault::NotReady, Fault::Dead, Fault::Failing { status: 503 }] {
                let stage = Stage::start(version, 2, 1, sidecar).await?;
                let (_, prefiller) = stage.ask_for_leg(1).await?;
                let broken = prefiller.context("no rank prefilled")?;
                broken.set_fault(fault).await;
                let mut calls = Vec::new();
                for number in 2..14 {
                    calls.push(stage.ask(number).await?);
                }
                let complete = calls.iter().filter(|call| call.outcome == Outcome::Complete).count();
                let moved = stage.metric("prefill_legs_moved").await?;
                let slowest = calls.iter().filter_map(|call| call.first_byte).max();
                println!("{version}, sidecar {sidecar:?}, {fault:?}: {complete} of 12 answered, {moved} legs moved, slowest first byte {slowest:?}");
                assert_eq!(complete, 12, "{sidecar:?} {fault:?}: {calls:?}");
                assert!(sidecar == SidecarVersion::V0_9 || moved == 0, "{sidecar:?} falls back by itself");
                stage.end().await?;
            }
        }
        Ok(())
    }

    async fn errors_of_a_rank_that_prefills_are_charged_to_it(version: &str) -> Result<()> {
        let stage = Stage::start(version, 2, 2, SidecarVersion::V0_9).await?;
        for number in 1..20 {
            stage.ask(number).await?;
        }
        let broken = &stage.scene.prefill.ranks()[0];
        broken.set_fault(Fault::Failing { status: 500 }).await;
        let mut number = 100;
        let start = SystemTime::now();
        while stage.metric("ranks_out").await? == 0 {
            ensure!(start.elapsed()? < PATIENCE, "it never goes out");
            let call = stage.ask(number).await?;
            assert_eq!(call.outcome, Outcome::Complete, "{call:?}");
            number += 1;
        }
        println!("{version}: out after {} requests", number - 100);
        let legs = stage.scene.legs()[0];
        let answered_before: Vec<u64> = decode_only_and_legs(&stage);
        for number in 1000..1030 {
            let call = stage.ask(number).await?;
            assert_eq!(call.outcome, Outcome::Complete, "{call:?}");
        }
        // Every decode rank still works, so none of them was put out in its place.
        let idle = decode_only_and_legs(&stage).iter().zip(&answered_before).filter(|(after, before)| after == before).count();
        assert_eq!(idle, 0, "a decode rank was put out");
        assert!(stage.scene.legs()[0] <= legs + 3, "only probes");
        stage.end().await
    }

    async fn a_rank_that_hangs_in_prefill_is_found_through_the_decode_ranks(version: &str) -> Result<()> {
        for sidecar in SIDECARS {
            let stage = Stage::start(version, 2, 2, sidecar).await?;
            for number in 1..12 {
                stage.ask(number).await?;
            }
            let hanging = &stage.scene.prefill.ranks()[0];
            hanging.set_fault(Fault::Hanging).await;
            let start = SystemTime::now();
            let caller = stage.caller.clone();
            let asking = tokio::spawn(async move {
                let mut tasks = JoinSet::new();
                for number in 100..400 {
                    let (caller, question) = (caller.clone(), Question::chat(&chat(number), true));
                    tasks.spawn(async move { Ok::<_, anyhow::Error>(caller.call(number, &question?, &[]).await) });
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                tasks
            });
            stage.scene.envoy.wait_for_metric("ranks_out", 1).await?;
            println!("{version}, sidecar {sidecar:?}: found after {:?}", start.elapsed()?);
            assert!(stage.metric("failures_no_first_byte").await? >= 1);
            let legs = stage.scene.legs()[0];
            let mut tasks = asking.await?;
            assert!(stage.scene.legs()[0] <= legs + 5, "only probes: {} and {legs}", stage.scene.legs()[0]);
            hanging.set_fault(Fault::None).await;
            while let Some(call) = tasks.join_next().await {
                let call = call??;
                assert_eq!(call.outcome, Outcome::Complete, "{call:?}");
            }
            stage.end().await?;
        }
        Ok(())
    }

    async fn while_no_rank_prefills_decode_ranks_do_and_it_is_counted(version: &str) -> Result<()> {
        let stage = Stage::start(version, 1, 1, SidecarVersion::V0_9).await?;
        for rank in stage.scene.prefill.ranks() {
            rank.set_fault(Fault::Dead).await;
        }
        stage.scene.envoy.wait_for_metric("ranks_out", 1).await?;
        let legs = stage.scene.legs();
        for number in 1..5 {
            let call = stage.ask(number).await?;
            assert_eq!(call.outcome, Outcome::Complete, "{call:?}");
        }
        assert!(stage.metric("prefill_legs_no_rank").await? >= 1);
        assert_eq!(stage.scene.legs(), legs);
        stage.end().await
    }

    async fn whatever_dies_no_request_goes_to_a_rank_that_only_prefills(version: &str) -> Result<()> {
        let stage = Stage::start(version, 2, 2, SidecarVersion::V0_8).await?;
        for rank in stage.scene.decode.ranks() {
            rank.set_fault(Fault::Dead).await;
        }
        for number in 1..5 {
            let call = stage.ask(number).await?;
            assert_ne!(call.outcome, Outcome::Complete, "{call:?}");
        }
        for rank in stage.scene.decode.ranks() {
            rank.set_fault(Fault::None).await;
        }
        let start = SystemTime::now();
        while stage.ask(9).await?.outcome != Outcome::Complete {
            ensure!(start.elapsed()? < PATIENCE, "no decode rank comes back");
        }
        stage.end().await
    }

    /// A sidecar that is not there passes on no error of a prefill.
    async fn ranks_that_prefill_are_not_charged_with_dead_decode_ranks(version: &str) -> Result<()> {
        let stage = Stage::start(version, 2, 2, SidecarVersion::V0_9).await?;
        for number in 1..12 {
            stage.ask(number).await?;
        }
        for rank in stage.scene.decode.ranks() {
            rank.set_fault(Fault::Dead).await;
        }
        for number in 100..140 {
            let call = stage.ask(number).await?;
            assert_ne!(call.outcome, Outcome::Complete, "{call:?}");
        }
        let without = stage.metric("prefill_legs_no_rank").await?;
        assert_eq!(without, 0, "ranks that prefill went out");
        stage.end().await
    }

    /// A LeaderWorkerSet replaces a group at a time, all its pods at once. Answers that have begun are lost with their rank.
    async fn a_rolling_update_loses_no_request_that_could_be_sent_again(version: &str) -> Result<()> {
        for sidecar in SIDECARS {
            let stage = Stage::start(version, 4, 2, sidecar).await?;
            let traffic = Chats::start(&stage.caller);
            traffic.wait_for(50).await?;
            let groups = [&stage.scene.prefill, &stage.scene.decode].map(|pods| pods.ranks().chunks(4));
            for group in groups.into_iter().flatten() {
                for rank in group {
                    rank.set_fault(Fault::Dead).await;
                }
                traffic.wait_for(100).await?;
                for rank in group {
                    rank.restart();
                    rank.set_fault(Fault::None).await;
                }
                traffic.wait_for(100).await?;
            }
            let calls = traffic.stop().await?;
            let broken = calls.iter().filter(|call| call.outcome == Outcome::BrokenOff).count();
            let lost: Vec<&Call> = calls.iter().filter(|call| !matches!(call.outcome, Outcome::Complete | Outcome::BrokenOff)).collect();
            println!("{version}, sidecar {sidecar:?}: of {} requests {broken} broke off with their rank, {} were lost", calls.len(), lost.len());
            assert!(lost.is_empty(), "{sidecar:?}: {lost:?}");
            stage.end().await?;
        }
        Ok(())
    }

    async fn a_client_cannot_name_the_rank_that_prefills(version: &str) -> Result<()> {
        // The manifest removes these headers, too: this is about the module.
        let adapt = Bootstrap::without_early_header_mutation;
        let stage = Stage::start_with(version, 2, 1, SidecarVersion::V0_9, adapt).await?;
        let elsewhere = "127.0.0.1:1";
        let question = Question::chat(&chat(1), true)?;
        for name in ["x-prefiller-host-port", "x-rank-router-next-prefiller"] {
            let call = stage.caller.call(1, &question, &[(name, elsewhere)]).await;
            assert_eq!(call.outcome, Outcome::Complete, "{call:?}");
        }
        let failed: u64 = stage.scene.decode.ranks().iter().map(|rank| rank.stats().legs_failed).sum();
        assert_eq!(failed, 0);
        stage.end().await
    }

    async fn decode_ranks_prefill_no_more_than_they_may_however_dear_a_leg_is(version: &str) -> Result<()> {
        let dear = |bootstrap: Bootstrap| bootstrap.picker_field("prefillLegCostMs", json!(100_000));
        let stage = Stage::start_with(version, 2, 1, SidecarVersion::V0_9, dear).await?;
        for number in 1..6 {
            stage.ask(number).await?;
        }
        assert_eq!((stage.scene.legs().iter().sum::<u64>(), stage.metric("prefill_legs_spared").await?), (5, 0));
        stage.end().await
    }

    async fn the_cost_of_a_leg_is_configured(version: &str) -> Result<()> {
        let dear = |bootstrap: Bootstrap| {
            bootstrap
                .picker_field("prefillLegCostMs", json!(100_000))
                .picker_field("localPrefillTokens", json!(100_000))
        };
        let stage = Stage::start_with(version, 2, 1, SidecarVersion::V0_9, dear).await?;
        for number in 1..6 {
            stage.ask(number).await?;
        }
        assert_eq!((stage.scene.legs(), stage.metric("prefill_legs_spared").await?), (vec![0, 0], 5));
        stage.end().await
    }
}

/// Chats that each start like no other, one each 25 ms.
struct Chats {
    ended: Arc<AtomicUsize>,
    sender: JoinHandle<Result<Vec<Call>>>,
    stop: watch::Sender<()>,
}

impl Chats {
    fn start(caller: &Caller) -> Self {
        let ended = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = watch::channel(());
        let sender = tokio::spawn(send_chats(caller.clone(), ended.clone(), stopped));
        Self {
            ended,
            sender,
            stop,
        }
    }

    /// Waits until so many more have ended.
    async fn wait_for(&self, chats: usize) -> Result<()> {
        let (start, before) = (SystemTime::now(), self.ended.load(Ordering::Relaxed));
        while self.ended.load(Ordering::Relaxed) < before + chats {
            ensure!(start.elapsed()? < PATIENCE, "chats no longer end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn stop(self) -> Result<Vec<Call>> {
        drop(self.stop);
        self.sender.await?
    }
}

async fn send_chats(
    caller: Caller,
    ended: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<()>,
) -> Result<Vec<Call>> {
    let mut clock = tokio::time::interval(Duration::from_millis(25));
    let mut running = JoinSet::new();
    for number in 10_000.. {
        tokio::select! {
            _ = clock.tick() => {}
            _ = stopped.changed() => break,
        }
        let (caller, ended) = (caller.clone(), ended.clone());
        let question = Question::chat(&chat(number), true)?;
        running.spawn(async move {
            let call = caller.call(number, &question, &[]).await;
            ended.fetch_add(1, Ordering::Relaxed);
            call
        });
    }
    Ok(running.join_all().await)
}

/// Requests that each decode rank has got.
fn decode_only_and_legs(stage: &Stage) -> Vec<u64> {
    let ranks = stage.scene.decode.ranks().iter();
    let stats = ranks.map(RankHandle::stats);
    stats
        .map(|stats| stats.decode_only + stats.prefill_legs)
        .collect()
}
