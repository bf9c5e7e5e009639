//! Conversations, of which each turn holds the ones before it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use hyper::{Method, Request};
use serde_json::{Value, json};

use crate::connection::{Connection, Upload};
use crate::reply::Reply;
use crate::scene::Scene;
use crate::upload;

/// Six blocks, so the first turns of a conversation have different starts of 4 KiB: where nothing is known of it, nothing
/// but chance sends two of them to one rank.
const TURN_BYTES: usize = 1600;

/// The body of a conversation's turn, counted from 1.
#[must_use]
pub fn turns(topic: &str, turns: usize) -> Value {
    let line = format!("{topic}: ");
    let text = line.repeat(turns * TURN_BYTES / line.len());
    json!({"model": "simulated", "prompt": text, "max_tokens": 2})
}

/// Such a body as a request.
///
/// # Errors
/// Never, as long as the gateway's address can be written.
pub fn posted(scene: &Scene, body: &Value) -> Result<Request<Upload>> {
    let body = body.to_string();
    let length = body.len();
    let upload = upload::whole(body);
    scene.request(Method::POST, "/v1/completions", &[], upload, Some(length))
}

/// The rank that answers it.
///
/// # Errors
/// When none does.
pub async fn rank_of(
    scene: &Scene,
    connection: &mut Connection,
    body: &Value,
) -> Result<SocketAddr> {
    let reply = Reply::read(connection.send(posted(scene, body)?).await?).await?;
    ensure!(reply.status == 200, "{reply:?}");
    reply.rank().context("a rank answers")
}
