//! A whole answer, and how a test asks a server for one.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::connection::{Connection, Protocol, Upload};
use crate::upload;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// What reached a rank, as it tells when it is asked with [`crate::scene::ECHO`].
#[derive(Clone, Debug, Deserialize)]
pub struct Digest {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// XXH3 of the body, hexadecimal.
    pub body_xxh3: String,
    /// Headers in their order.
    pub headers: Vec<(String, String)>,
}

impl Reply {
    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn read(response: Response<Incoming>) -> Result<Self> {
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .context("the answer broke off")?
            .to_bytes();
        Ok(Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    /// The rank that answered.
    #[must_use]
    pub fn rank(&self) -> Option<SocketAddr> {
        rank_in(&self.headers)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// What reached the rank.
    ///
    /// # Errors
    /// When the request did not ask for it.
    pub fn digest(&self) -> Result<Digest> {
        serde_json::from_value(self.json()?).context("no digest")
    }
}

impl Digest {
    /// Every value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The ranks that the picker named, best first.
    #[must_use]
    pub fn named_ranks(&self) -> Vec<SocketAddr> {
        let lists = self.header(routing::DESTINATION_HEADER);
        lists
            .iter()
            .flat_map(|list| list.split(','))
            .filter_map(|rank| rank.parse().ok())
            .collect()
    }
}

/// The rank that answered with these headers.
#[must_use]
pub fn rank_in(headers: &HeaderMap) -> Option<SocketAddr> {
    headers.get("x-simulated-rank")?.to_str().ok()?.parse().ok()
}

/// Makes a request with a JSON body straight to a server.
///
/// # Errors
/// When a header is malformed.
pub fn request(
    to: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Request<Upload>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, to.to_string());
    request = request.header(CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.body(upload::whole(body.to_string()))?)
}

/// Sends such a request on a connection of its own and waits for the whole answer.
///
/// # Errors
/// When there is none.
pub async fn send(
    to: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Reply> {
    let mut connection = Connection::open(to, Protocol::Http1Length).await?;
    let request = request(to, method, path, headers, body)?;
    Reply::read(connection.send(request).await?).await
}

/// Posts JSON.
///
/// # Errors
/// When there is no answer.
pub async fn post(to: SocketAddr, path: &str, body: &Value) -> Result<Reply> {
    send(to, Method::POST, path, &[], &body.to_string()).await
}
