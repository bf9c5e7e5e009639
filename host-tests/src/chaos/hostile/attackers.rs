//! Sends what hostile clients send, as often as they do, for as long as this is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::attack::Attack;
use crate::connection::{Connection, Protocol, Upload};
use crate::reply::rank_in;
use crate::trace::TraceRequest;
use crate::upload::{self, Pace};

/// No attack sends more, however long it runs.
const MOST_REQUESTS: u64 = 20_000;
/// A client that is answered by then has got what it wanted, and one that is not gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between the end of a held stream and the next.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause of a late body.
const LATE: Duration = Duration::from_millis(120);
/// An honest request is asked again so long after it was due: it has been answered by then.
const ANSWERED: Duration = Duration::from_secs(1);

/// What became of the requests of one attack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Requests sent.
    pub requests: u64,
    /// Those that a rank answered.
    pub reached_ranks: u64,
    /// By the status of the answer; 0 for none.
    pub statuses: BTreeMap<u16, u64>,
}

type Tally = Arc<Mutex<BTreeMap<Attack, Sent>>>;

/// All attackers; they end when this is dropped, and their streams with them.
#[derive(Debug)]
pub struct Attackers {
    tally: Tally,
    tasks: JoinSet<()>,
}

/// What each attacker knows.
#[derive(Clone, Debug)]
struct Attacker {
    attack: Attack,
    gateway: SocketAddr,
    model: Arc<str>,
    honest: Arc<[TraceRequest]>,
    start: Instant,
    tally: Tally,
}

impl Attackers {
    /// Starts them. `honest` is what others have begun to ask at `start`.
    #[must_use]
    pub fn start(
        attacks: &[Attack],
        gateway: SocketAddr,
        model: &str,
        honest: &[TraceRequest],
        start: Instant,
    ) -> Self {
        let (tally, mut tasks) = (Tally::default(), JoinSet::new());
        for attack in attacks {
            let attacker = Attacker {
                attack: *attack,
                gateway,
                model: model.into(),
                honest: honest.into(),
                start,
                tally: tally.clone(),
            };
            for place in 0..attack.held() {
                tasks.spawn(attacker.clone().hold(place));
            }
            if attack.per_second() > 0.0 {
                tasks.spawn(attacker.ask());
            }
        }
        Self { tally, tasks }
    }

    /// Ends them and says what they sent.
    pub async fn stop(mut self) -> BTreeMap<String, Sent> {
        self.tasks.shutdown().await;
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let named = tally
            .iter()
            .map(|(attack, sent)| (attack.name(), sent.clone()));
        named.collect()
    }
}

impl Attacker {
    /// Keeps one stream open.
    async fn hold(self, place: usize) {
        let places = u64::try_from(self.attack.held()).unwrap_or(1);
        let first = u64::try_from(place).unwrap_or(0);
        for round in 0..MOST_REQUESTS / places {
            self.send(first + round * places, None).await;
            sleep(AGAIN).await;
        }
    }

    /// Asks again and again, whether or not it is answered.
    async fn ask(self) {
        let every = Duration::from_secs_f64(1.0 / self.attack.per_second());
        let mut clock = interval(every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running = JoinSet::new();
        for number in 0..MOST_REQUESTS {
            clock.tick().await;
            while running.try_join_next().is_some() {}
            let one = self.clone();
            running.spawn(async move { one.send(number, Some(PATIENCE)).await });
        }
        running.join_all().await;
    }

    async fn send(&self, number: u64, patience: Option<Duration>) {
        self.note(|sent| sent.requests += 1);
        let answer = self.answer(number);
        let answer = match patience {
            Some(patience) => timeout(patience, answer).await.ok(),
            None => Some(answer.await),
        };
        let (status, is_of_rank) = answer.and_then(Result::ok).unwrap_or_default();
        self.note(|sent| {
            *sent.statuses.entry(status).or_default() += 1;
            sent.reached_ranks += u64::from(is_of_rank);
        });
    }

    /// The status of the answer, and whether a rank gave it.
    async fn answer(&self, number: u64) -> Result<(u16, bool)> {
        let body = self
            .attack
            .body(number, &self.model, self.asked_before(number));
        let request = self.request(number, &body)?;
        let protocol = match self.attack.length(&body) {
            Some(_) => Protocol::Http1Length,
            None => Protocol::Http1Chunked,
        };
        let mut connection = Connection::open(self.gateway, protocol).await?;
        let response = connection.send(request).await?;
        let (status, rank) = (response.status().as_u16(), rank_in(response.headers()));
        let _ = response.into_body().collect().await;
        Ok((status, rank.is_some()))
    }

    fn request(&self, number: u64, body: &str) -> Result<Request<Upload>> {
        let attack = self.attack;
        let is_bare = attack.is_bare(number);
        let method = if is_bare { Method::GET } else { Method::POST };
        let mut request = Request::builder()
            .method(method)
            .uri(attack.path(number))
            .header(HOST, self.gateway.to_string())
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in attack.headers(number) {
            request = request.header(name, value);
        }
        if is_bare {
            return Ok(request.body(upload::whole(""))?);
        }
        if let Some(length) = attack.length(body) {
            request = request.header(CONTENT_LENGTH, length);
        }
        let pace = match attack {
            Attack::Announce | Attack::Stop => Pace::StopsHalfWay,
            Attack::Late => Pace::StartsAfter(LATE),
            _ => Pace::Fast,
        };
        Ok(request.body(upload::paced(body.to_string().into(), pace))?)
    }

    /// A request that somebody has been answered; the first of all until there is one.
    fn asked_before(&self, number: u64) -> &TraceRequest {
        let until = self.start.elapsed().saturating_sub(ANSWERED);
        let answered = self.honest.partition_point(|request| request.at < until);
        let place = usize::try_from(number).unwrap_or(0) % answered.max(1);
        &self.honest[place]
    }

    fn note(&self, change: impl FnOnce(&mut Sent)) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        change(tally.entry(self.attack).or_default());
    }
}
