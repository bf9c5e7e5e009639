//! The sockets of a simulated rank: listens, and stops listening when it is dead.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api::{self, AnswerBody, RequestBody};
use super::fault::Fault;
use super::open::Open;
use super::rank::Rank;

/// uvicorn closes a connection that was idle for this long.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Listens on the rank's address.
///
/// # Errors
/// When somebody else does; the error names the address.
pub(super) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

/// Serves until the task is dropped; `is_listening` tells whether anybody can connect.
pub(super) async fn serve(rank: Arc<Rank>, first: TcpListener, is_listening: watch::Sender<bool>) {
    let mut fault = rank.fault.subscribe();
    let mut listener = Some(first);
    loop {
        let listening = match listener.take() {
            Some(listener) => listener,
            None => match listen(rank.address).await {
                Ok(listener) => listener,
                Err(error) => return eprintln!("simulated rank cannot come back: {error}"),
            },
        };
        is_listening.send_replace(true);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listening.accept() => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(serve_connection(rank.clone(), stream));
                    }
                }
                _ = fault.wait_for(|fault| *fault == Fault::Dead) => break,
                _ = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        drop(listening);
        connections.shutdown().await;
        is_listening.send_replace(false);
        if fault.wait_for(|fault| *fault != Fault::Dead).await.is_err() {
            return;
        }
    }
}

async fn serve_connection(rank: Arc<Rank>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let rank = rank.clone();
        async move { Ok::<_, Infallible>(answer(&rank, request).await) }
    });
    // The timer runs from the end of an answer to the head of the next request.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

/// Answers a request to the rank's port: the rank does, or the sidecar before it.
async fn answer(rank: &Arc<Rank>, request: Request<Incoming>) -> Response<AnswerBody> {
    let open = Open::new(rank);
    let request = request.map(|body| -> RequestBody { body.map_err(io::Error::other).boxed() });
    let response = match &rank.sidecar {
        Some(sidecar) => sidecar.answer(rank, request).await,
        None => api::answer(rank, request).await,
    };
    response.map(|body| open.until_the_end_of(body).boxed())
}
