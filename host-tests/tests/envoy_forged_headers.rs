//! Headers of clients that would steer, where parts of the module are missing, in a real Envoy: they steer nothing.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use host_tests::bootstrap::{Bootstrap, ModuleFilter};
use host_tests::chaos::blow::TRAP_HEADER;
use host_tests::connection::Protocol;
use host_tests::conversation::turns;
use host_tests::each_envoy;
use host_tests::envoy::Envoy;
use host_tests::pod_addresses;
use host_tests::reply::Reply;
use host_tests::repository;
use host_tests::scene::{ECHO, Scene};
use host_tests::sim::{PodsConfig, RankHandle, SimulatedPods};
use host_tests::upload;
use hyper::Method;
use routing::{DESTINATION_HEADER, MODEL_HEADER, STRIPPED_HEADERS};

const PATH: &str = "/v1/completions";
const RANKS_PER_POD: u16 = 8;
const REQUESTS: usize = 40;
/// What each of 16 ranks gets at most of so many, when they take turns.
const FAIR_SHARE: usize = REQUESTS.div_ceil(2 * RANKS_PER_POD as usize);
/// What a rank gets at most where a picker without a reader goes by load, and all are idle.
const PICKED_SHARE: usize = REQUESTS / 4;

/// What is missing of the module.
const MISSING: [&[ModuleFilter]; 3] = [
    &[ModuleFilter::Picker],
    &[ModuleFilter::Reader],
    &[ModuleFilter::Reader, ModuleFilter::Picker],
];

fn without(bootstrap: Bootstrap, missing: &[ModuleFilter]) -> Bootstrap {
    missing.iter().fold(bootstrap, |bootstrap, filter| {
        bootstrap.without_module_filter(*filter)
    })
}

/// Sends prompts, all on one connection, each of which says in every header that steers that it is for this rank.
async fn forge(scene: &Scene, protocol: Protocol, rank: SocketAddr) -> Result<Vec<Reply>> {
    let target = rank.to_string();
    let mut headers = vec![ECHO];
    let names = STRIPPED_HEADERS.into_iter().chain([MODEL_HEADER]);
    headers.extend(names.flat_map(|name| [(name, target.as_str()), (name, target.as_str())]));
    let mut connection = scene.connect(protocol).await?;
    let mut replies = Vec::new();
    for number in 0..REQUESTS {
        let body = turns(&format!("topic {number}"), 1).to_string();
        let length = Some(body.len());
        let upload = upload::whole(body);
        let request = scene.request(Method::POST, PATH, &headers, upload, length)?;
        replies.push(Reply::read(connection.send(request).await?).await?);
    }
    Ok(replies)
}

/// What a rank gets at most when this is missing.
fn most(missing: &[ModuleFilter]) -> usize {
    match missing.contains(&ModuleFilter::Picker) {
        true => FAIR_SHARE,
        false => PICKED_SHARE,
    }
}

fn share(replies: &[Reply], rank: SocketAddr) -> usize {
    let on_rank = replies.iter().filter(|reply| reply.rank() == Some(rank));
    on_rank.count()
}

/// No header of the client's has reached a rank.
fn assert_clean(replies: &[Reply], rank: SocketAddr) -> Result<()> {
    let target = rank.to_string();
    for reply in replies {
        let digest = reply.digest()?;
        let forged = STRIPPED_HEADERS
            .into_iter()
            .chain([MODEL_HEADER])
            .filter(|name| digest.header(name).contains(&target.as_str()));
        // A picker names that rank beside others.
        assert_eq!(forged.collect::<Vec<_>>(), Vec::<&str>::new());
    }
    Ok(())
}

/// The rank that a client names where it would get least: nobody else has a reason to send there.
fn least(replies: &[Reply], ranks: &[SocketAddr]) -> Result<SocketAddr> {
    let least = ranks.iter().min_by_key(|rank| share(replies, **rank));
    least.copied().context("ranks")
}

/// Forges the rank that had least of the honest requests: it gets no more than `most` now.
async fn assert_steers_nothing(
    scene: &Scene,
    ranks: &[SocketAddr],
    most: usize,
    case: &str,
) -> Result<()> {
    let nobody = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1), 9));
    for protocol in [Protocol::Http1Length, Protocol::Http2] {
        let honest = forge(scene, protocol, nobody).await?;
        let rank = least(&honest, ranks)?;
        let forged = forge(scene, protocol, rank).await?;
        assert!(forged.iter().all(|reply| reply.status == 200), "{case}");
        let share = share(&forged, rank);
        println!("{case}, {protocol:?}: {share} of {REQUESTS} on the forged rank");
        assert!(share <= most, "{case}, {protocol:?}: {share}");
        assert_clean(&honest, nobody)?;
        assert_clean(&forged, rank)?;
    }
    Ok(())
}

/// The gateway of Istio before two pods that decode and two that prefill, and the ranks that decode.
async fn istio(
    version: &str,
    adapt: impl Fn(Bootstrap) -> Bootstrap,
) -> Result<(Scene, Vec<SocketAddr>)> {
    let bootstrap = |addresses| Ok(adapt(Bootstrap::of_istio(addresses)?));
    let (scene, _) = Scene::of_four_pods(version, 1, RANKS_PER_POD, bootstrap).await?;
    let mut decode = scene.addresses();
    decode.truncate(2 * usize::from(RANKS_PER_POD));
    Ok((scene, decode))
}

/// A gateway before the Service of two pods.
async fn services(version: &str, adapt: impl Fn(Bootstrap) -> Bootstrap) -> Result<Scene> {
    let config = PodsConfig {
        pods: pod_addresses::unused(2),
        ranks_per_pod: RANKS_PER_POD,
        ..PodsConfig::default()
    };
    let pods = SimulatedPods::start(config).await?;
    let ranks: Vec<SocketAddr> = pods.ranks().iter().map(RankHandle::addr).collect();
    let envoy = Envoy::start(version, 1, &adapt(Bootstrap::of_services(&ranks)?)).await?;
    Ok(Scene { envoy, pods })
}

each_envoy! {
    async fn headers_of_a_client_steer_nothing_where_the_module_is_missing(version: &str) -> Result<()> {
        for missing in MISSING {
            let adapt = |bootstrap| without(bootstrap, missing);
            let scene = Scene::start(version, 1, RANKS_PER_POD, adapt).await?;
            let case = format!("{version}, without {missing:?}");
            assert_steers_nothing(&scene, &scene.addresses(), most(missing), &case).await?;
        }
        Ok(())
    }

    async fn headers_of_a_client_steer_nothing_where_istio_lost_the_module(version: &str) -> Result<()> {
        for missing in MISSING {
            let (scene, ranks) = istio(version, |bootstrap| without(bootstrap, missing)).await?;
            let case = format!("{version}, Istio without {missing:?}");
            assert_steers_nothing(&scene, &ranks, most(missing), &case).await?;
        }
        Ok(())
    }

    async fn headers_of_a_client_steer_nothing_past_a_dead_vm(version: &str) -> Result<()> {
        let module = repository::trap_module()?;
        let scene = Scene::start(version, 1, RANKS_PER_POD, |bootstrap| {
            bootstrap.module(&module).failure_policy("FAIL_OPEN")
        }).await?;
        scene.post(PATH, &turns("a", 1), &[(TRAP_HEADER, "1")]).await?;
        let reply = scene.post(PATH, &turns("a", 1), &[ECHO]).await?;
        assert_eq!((reply.status, reply.digest()?.named_ranks()), (200, vec![]), "the VM is dead");
        assert_steers_nothing(&scene, &scene.addresses(), FAIR_SHARE, version).await
    }

    async fn the_module_picks_among_services_whatever_headers_a_client_sends(version: &str) -> Result<()> {
        let scene = services(version, |bootstrap| bootstrap).await?;
        scene.envoy.wait_for_metric("ranks_listed", 2 * u64::from(RANKS_PER_POD)).await?;
        let honest = scene.post(PATH, &turns("sea", 2), &[]).await?.rank().context("a rank")?;
        for rank in scene.addresses() {
            let forged = rank.to_string();
            let reply = scene.post(PATH, &turns("sea", 2), &[(DESTINATION_HEADER, &forged)]).await?;
            assert_eq!(reply.rank(), Some(honest), "{forged}");
        }
        assert_eq!(scene.envoy.metric("picks_prefix_hit").await?, 2 * u64::from(RANKS_PER_POD));
        assert_eq!(scene.envoy.metric("pool_missing").await?, 0);
        scene.envoy.wait_until_nothing_is_counted().await
    }

    async fn headers_of_a_client_choose_no_service_where_the_module_is_missing(version: &str) -> Result<()> {
        for missing in [MISSING[0], MISSING[2]] {
            let scene = services(version, |bootstrap| without(bootstrap, missing)).await?;
            // Without a pick all requests go to the last rule's port, whose two pods take turns: a rank of another port is
            // nobody's but the client's.
            let case = format!("{version}, services without {missing:?}");
            assert_steers_nothing(&scene, &scene.addresses(), 0, &case).await?;
        }
        Ok(())
    }
}
