//! Requests that make every server fail put no rank out that answers others, in a real Envoy.
//!
//! How many ranks were out on average and what became of honest requests is printed: `cargo test ... -- --nocapture`.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use host_tests::apart::{Apart, ApartScene};
use host_tests::bootstrap::Bootstrap;
use host_tests::caller::{Call, Caller};
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::outcome::Outcome;
use host_tests::prompt_text::{ChatRequest, chat_request};
use host_tests::provocation::Provocation;
use host_tests::scene::Scene;
use host_tests::sim::{Fault, SidecarVersion};
use host_tests::trace::TraceRequest;
use host_tests::traffic::{Traffic, chat, lost, share};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);
/// 40 honest requests a second.
const PACE: Duration = Duration::from_millis(25);
/// 83 provoked errors a second.
const PROVOKED_PACE: Duration = Duration::from_millis(12);
/// How often it is looked how many ranks are out, and for how long.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOOKING: Duration = Duration::from_secs(10);
/// Numbers of chats that no honest request asks.
const OTHERS: u64 = 10_000_000;

/// What ten seconds of provoked errors did.
struct Harm {
    ranks_out: f64,
    honest: Vec<Call>,
    provoked: u64,
}

impl Harm {
    fn print(&self, version: &str, what: &str) {
        let (all, lost) = (self.honest.len(), lost(&self.honest).len());
        println!(
            "{version}: {what}: {:.2} ranks out on average, {} of {all} honest requests answered, {} errors provoked",
            self.ranks_out,
            all - lost,
            self.provoked,
        );
    }

    fn assert_bounded(&self) {
        let lost = lost(&self.honest);
        assert!(self.ranks_out <= 1.0, "{} ranks out", self.ranks_out);
        assert!(lost.is_empty(), "{lost:?}");
        assert!(self.provoked > 300, "{} errors", self.provoked);
    }
}

/// Honest requests that every rank has answered a part of.
async fn honest_traffic(envoy: &Envoy, ranks: &[SocketAddr]) -> Result<Traffic> {
    let traffic = Traffic::start(Caller::new(envoy.gateway(), PATIENCE), 0, PACE);
    for rank in ranks {
        traffic
            .wait_until_answered_by(*rank, SystemTime::UNIX_EPOCH)
            .await?;
    }
    Ok(traffic)
}

fn provoke(
    envoy: &Envoy,
    status: u16,
    chats: impl Fn(u64) -> ChatRequest + Send + 'static,
) -> Provocation {
    let caller = Caller::new(envoy.gateway(), PATIENCE);
    Provocation::start(caller, status, PROVOKED_PACE, chats)
}

/// How many ranks are out on average over the next ten seconds.
async fn average_ranks_out(envoy: &Envoy) -> Result<f64> {
    let (start, mut sum, mut looks) = (Instant::now(), 0, 0);
    while start.elapsed() < LOOKING {
        sum += u32::try_from(envoy.metric("ranks_out").await?)?;
        looks += 1;
        sleep(LOOK_AGAIN).await;
    }
    Ok(f64::from(sum) / f64::from(looks))
}

/// Sixteen ranks, honest requests, and chats that get this status from each of them.
async fn attack(
    version: &str,
    what: &str,
    status: u16,
    retried: &[u16],
    chats: impl Fn(u64) -> ChatRequest + Send + 'static,
) -> Result<Harm> {
    let adapt = |bootstrap: Bootstrap| bootstrap.retried_statuses(retried);
    let scene = Scene::start(version, 2, 8, adapt).await?;
    let traffic = honest_traffic(&scene.envoy, &scene.addresses()).await?;
    let provocation = provoke(&scene.envoy, status, chats);
    let ranks_out = average_ranks_out(&scene.envoy).await?;
    let provoked = provocation.failed();
    drop(provocation);
    let harm = Harm {
        ranks_out,
        honest: traffic.stop().await,
        provoked,
    };
    harm.print(version, what);
    scene.envoy.wait_until_nothing_is_counted().await?;
    Ok(harm)
}

/// A chat of another number each time.
fn other(number: u64) -> ChatRequest {
    chat(OTHERS + number)
}

/// The same chat each time: its prompt has one best rank.
fn same(_number: u64) -> ChatRequest {
    chat(OTHERS)
}

/// Long enough to be prefilled by a rank that only does that.
fn long_chat(number: u64) -> ChatRequest {
    let first = (OTHERS + number) * 100;
    let request = TraceRequest {
        at: Duration::ZERO,
        input_tokens: 1024,
        output_tokens: 4,
        blocks: vec![first, first + 1],
    };
    chat_request(&request, "simulated")
}

fn errors(calls: &[Call]) -> usize {
    let is_error = |call: &&Call| matches!(call.outcome, Outcome::RankError(_));
    calls.iter().filter(is_error).count()
}

each_envoy! {
    async fn provoked_errors_put_at_most_one_of_sixteen_ranks_out(version: &str) -> Result<()> {
        attack(version, "500, never retried, other prompts", 500, &[502, 503], other).await?.assert_bounded();
        Ok(())
    }

    async fn the_same_request_again_and_again_puts_at_most_one_rank_out(version: &str) -> Result<()> {
        attack(version, "500, never retried, one prompt", 500, &[502, 503], same).await?.assert_bounded();
        Ok(())
    }

    async fn provoked_errors_that_envoy_takes_from_rank_to_rank_put_at_most_one_out(version: &str) -> Result<()> {
        for (status, retried) in [(500, &[500, 502, 503][..]), (502, &[502, 503]), (503, &[502, 503])] {
            let what = format!("{status}, retried");
            attack(version, &what, status, retried, other).await?.assert_bounded();
        }
        Ok(())
    }

    async fn a_repeated_request_that_envoy_takes_from_rank_to_rank_puts_at_most_one_out(version: &str) -> Result<()> {
        attack(version, "503, retried, one prompt", 503, &[502, 503], same).await?.assert_bounded();
        Ok(())
    }

    async fn errors_that_no_rank_is_put_out_for_are_counted(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 8, |bootstrap| bootstrap).await?;
        let _traffic = honest_traffic(&scene.envoy, &scene.addresses()).await?;
        let _provocation = provoke(&scene.envoy, 500, other);
        scene.envoy.wait_for_stat_at_least("wasmcustom.rank_router.failures_not_counted", 20).await
    }

    async fn a_rank_that_is_broken_goes_out_beside_provoked_errors(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 8, |bootstrap| bootstrap).await?;
        let ranks = scene.addresses();
        let traffic = honest_traffic(&scene.envoy, &ranks).await?;
        let _provocation = provoke(&scene.envoy, 500, other);
        // The attack has been seen.
        scene.envoy.wait_for_stat_at_least("wasmcustom.rank_router.failures_not_counted", 20).await?;
        let broken = SystemTime::now();
        scene.rank(ranks[0])?.set_fault(Fault::Failing { status: 500 }).await;
        let took = traffic.wait_until_left(&ranks[..1], 100, broken).await?;
        let mut calls = traffic.stop().await;
        calls.retain(|call| call.sent >= broken);
        println!(
            "{version}: beside provoked errors a broken rank got {} of {} honest requests, the last after {took:?}",
            errors(&calls), calls.len(),
        );
        assert_eq!(errors(&calls), share(&calls, ranks[0]), "no other rank failed one");
        Ok(())
    }

    async fn half_of_the_ranks_that_break_at_once_go_out(version: &str) -> Result<()> {
        let scene = Scene::start(version, 2, 8, |bootstrap| bootstrap).await?;
        let ranks = scene.addresses();
        let traffic = honest_traffic(&scene.envoy, &ranks).await?;
        let broken: Vec<SocketAddr> = ranks.iter().copied().step_by(2).collect();
        let since = SystemTime::now();
        for rank in &broken {
            scene.rank(*rank)?.set_fault(Fault::Failing { status: 500 }).await;
        }
        let took = traffic.wait_until_left(&broken, 40, since).await?;
        let mut calls = traffic.stop().await;
        calls.retain(|call| call.sent >= since);
        let failed = errors(&calls);
        println!("{version}: half of the ranks failed {failed} of {} honest requests, the last after {took:?}", calls.len());
        ensure!(failed <= 300, "{failed}");
        Ok(())
    }

    async fn provoked_errors_put_no_rank_out_where_prefill_and_decode_are_apart(version: &str) -> Result<()> {
        for sidecar in [SidecarVersion::V0_8, SidecarVersion::V0_9] {
            let apart = Apart { pods: 1, ranks_per_pod: 8, sidecar };
            let scene = ApartScene::start(version, apart, |bootstrap| bootstrap).await?;
            let decode: Vec<SocketAddr> = scene.decode.ranks().iter().map(|rank| rank.addr()).collect();
            let traffic = honest_traffic(&scene.envoy, &decode).await?;
            let provocation = provoke(&scene.envoy, 500, long_chat);
            let ranks_out = average_ranks_out(&scene.envoy).await?;
            let harm = Harm { ranks_out, honest: traffic.stop().await, provoked: provocation.failed() };
            harm.print(version, &format!("prefill and decode apart, {sidecar:?}"));
            println!("{version}: legs {:?}", scene.legs());
            harm.assert_bounded();
        }
        Ok(())
    }
}
