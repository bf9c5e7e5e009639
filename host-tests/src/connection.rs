//! A client connection with one HTTP version, so that a test knows what is on the wire.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The body of a request.
pub type Upload = BoxBody<Bytes, Infallible>;

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with content-length.
    Http1Length,
    /// HTTP/1.1 with chunks.
    Http1Chunked,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http1Length, Self::Http1Chunked, Self::Http2];
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Upload>),
    Http2(http2::SendRequest<Upload>),
}

/// An open connection; dropping it closes it at once, with whatever is under way.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens or the handshake fails.
    pub async fn open(to: SocketAddr, protocol: Protocol) -> Result<Self> {
        let stream = TcpStream::connect(to)
            .await
            .with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        if protocol == Protocol::Http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
            return Ok(Self {
                sender: Sender::Http2(sender),
                driver: tokio::spawn(async { drop(driver.await) }),
            });
        }
        let (sender, driver) = http1::handshake(io).await?;
        Ok(Self {
            sender: Sender::Http1(sender),
            driver: tokio::spawn(async { drop(driver.await) }),
        })
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// When the connection breaks before.
    pub async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Fetches a page over HTTP/1.1 as text.
///
/// # Errors
/// When there is no whole answer.
pub async fn get(from: SocketAddr, path: &str) -> Result<String> {
    let mut connection = Connection::open(from, Protocol::Http1Length).await?;
    let request = Request::get(path)
        .header(HOST, from.to_string())
        .body(Empty::new().boxed())?;
    let answer = connection
        .send(request)
        .await?
        .into_body()
        .collect()
        .await?;
    Ok(String::from_utf8_lossy(&answer.to_bytes()).into_owned())
}
