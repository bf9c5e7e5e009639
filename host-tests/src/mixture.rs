//! Requests of every kind that end in every way, at random by a seed.

use std::time::Duration;

use anyhow::Result;
use http_body_util::BodyExt;
use hyper::{Method, Request};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::connection::{Connection, Protocol, Upload};
use crate::gateway_log::NUMBER_HEADER;
use crate::scene::Scene;
use crate::sim::Fault;
use crate::upload::{self, Pace};

/// A request with this header is refused by the filter whose place is its value.
const REFUSE_HEADER: &str = "x-refuse";
/// How long a client waits at most before it leaves.
const LEAVES_WITHIN_MS: u64 = 30;

/// A filter that refuses requests that ask this place to.
#[must_use]
pub fn refuses(place: &str) -> Value {
    let asked = json!({"header": {"name": REFUSE_HEADER, "string_match": {"exact": place}}});
    let policy = json!({"permissions": [asked], "principals": [{"any": true}]});
    json!({"name": format!("refuses-{place}"), "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "DENY", "policies": {"asked": policy}},
    }})
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Waits for the end, whatever it is.
    Stays,
    /// Sends half of the body and leaves.
    LeavesInBody,
    /// Leaves before the answer begins, if it does not at once.
    LeavesUnanswered,
    /// Leaves after the first bytes of the answer.
    LeavesInAnswer,
}

/// A request that is still to be made.
#[derive(Clone, Debug)]
struct Plan {
    protocol: Protocol,
    client: Client,
    leaves_after: Duration,
    refused_by: Option<&'static str>,
    /// None for a request without a body.
    body: Option<String>,
}

/// An endless row of requests and faults, the same for a seed.
#[derive(Debug)]
pub struct Mixture {
    random: ChaCha8Rng,
    number: u64,
}

impl Mixture {
    /// The row of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            number: 0,
        }
    }

    /// Breaks some of the ranks and mends all others; `round` tells which, so that each has its turn.
    pub async fn break_ranks(&mut self, scene: &Scene, round: usize) {
        let faults = [
            Fault::Dead,
            Fault::Reset,
            Fault::Failing { status: 503 },
            Fault::Hanging,
            Fault::Slow { factor: 10.0 },
        ];
        scene.set_all(Fault::None).await;
        let ranks = scene.pods.ranks();
        for (place, fault) in faults.into_iter().enumerate() {
            let rank = &ranks[(round * faults.len() + place) % ranks.len()];
            rank.set_fault(fault).await;
        }
    }

    /// Makes the next request; gives what ends when it has. Connections of clients that reset a stream and stay are handed
    /// back.
    ///
    /// # Errors
    /// Never, as long as a request can be written.
    pub fn request(
        &mut self,
        scene: &Scene,
    ) -> Result<impl Future<Output = Option<Connection>> + Send + use<>> {
        self.number += 1;
        let plan = self.plan();
        let request = plan.request(scene, self.number)?;
        let gateway = scene.envoy.gateway();
        Ok(async move {
            let mut connection = Connection::open(gateway, plan.protocol).await.ok()?;
            plan.follow(&mut connection, request).await;
            (plan.protocol == Protocol::Http2).then_some(connection)
        })
    }

    fn plan(&mut self) -> Plan {
        let random = &mut self.random;
        let client = match random.random_range(0..10) {
            0..5 => Client::Stays,
            5 => Client::LeavesInBody,
            6 | 7 => Client::LeavesUnanswered,
            _ => Client::LeavesInAnswer,
        };
        let refused_by = match random.random_range(0..10) {
            0 => Some("before"),
            1 => Some("behind"),
            _ => None,
        };
        let body = match random.random_range(0..10) {
            0 if client != Client::LeavesInBody => None,
            1 => Some("no JSON ".repeat(random.random_range(1..200))),
            _ => Some(completion(random)),
        };
        Plan {
            protocol: Protocol::ALL[random.random_range(0..3)],
            leaves_after: Duration::from_millis(random.random_range(0..LEAVES_WITHIN_MS)),
            client,
            refused_by,
            body,
        }
    }
}

/// One of few conversations, more or less far.
fn completion(random: &mut ChaCha8Rng) -> String {
    let text =
        format!("topic {}: ", random.random_range(0..20)).repeat(random.random_range(1..2000));
    let max_tokens = random.random_range(1..40);
    let streams = random.random_bool(0.6);
    json!({"model": "simulated", "prompt": text, "max_tokens": max_tokens, "stream": streams})
        .to_string()
}

impl Plan {
    fn request(&self, scene: &Scene, number: u64) -> Result<Request<Upload>> {
        let number = number.to_string();
        let mut headers = vec![(NUMBER_HEADER, number.as_str())];
        headers.extend(self.refused_by.map(|place| (REFUSE_HEADER, place)));
        let Some(body) = &self.body else {
            let upload = upload::whole("");
            return scene.request(Method::GET, "/v1/models", &headers, upload, None);
        };
        let pace = match self.client {
            Client::LeavesInBody => Pace::StopsHalfWay,
            _ => Pace::Fast,
        };
        let length = (self.protocol == Protocol::Http1Length).then_some(body.len());
        let upload = upload::paced(body.clone().into(), pace);
        scene.request(Method::POST, "/v1/completions", &headers, upload, length)
    }

    /// Sends it and does what the client does; every way in which that ends is fine.
    async fn follow(&self, connection: &mut Connection, request: Request<Upload>) {
        let answer = connection.send(request);
        match self.client {
            Client::Stays => {
                if let Ok(response) = answer.await {
                    let _ = response.into_body().collect().await;
                }
            }
            Client::LeavesInAnswer => {
                if let Ok(response) = answer.await {
                    let _ = response.into_body().frame().await;
                }
            }
            Client::LeavesInBody | Client::LeavesUnanswered => {
                let _ = timeout(self.leaves_after, answer).await;
            }
        }
    }
}
