//! Request bodies that arrive in a certain way.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use tokio::sync::oneshot;

use crate::connection::Upload;

type Sender = http_body_util::channel::Sender<Bytes, Infallible>;

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// In pieces of 64 KiB as fast as they are taken.
    Fast,
    /// Each byte on its own, without a pause that the gateway would take for a stall.
    ByteByByte,
    /// In pieces of so many bytes, each a moment after the last.
    InTurns(usize),
    /// The first half, then silence.
    StopsHalfWay,
    /// After a pause, as [`Pace::Fast`].
    StartsAfter(Duration),
    /// The first half, and the rest after a pause.
    RestsHalfWay(Duration),
}

const PIECE_BYTES: usize = 64 * 1024;
/// Lets the single byte leave before the next is written.
const BETWEEN_BYTES: Duration = Duration::from_micros(200);
/// Long enough for the gateway to decide between two pieces.
const BETWEEN_TURNS: Duration = Duration::from_millis(10);

/// A body that is sent whole.
#[must_use]
pub fn whole(body: impl Into<Bytes>) -> Upload {
    Full::new(body.into()).boxed()
}

/// A body of which the first half is sent now, and the rest on the word that the other end of the channel gives.
#[must_use]
pub fn on_word(body: Bytes) -> (oneshot::Sender<()>, Upload) {
    let (word, given) = oneshot::channel();
    let (mut sender, upload) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        let mut body = body;
        send_half(&mut sender, &mut body).await;
        // Without a word the body stays open: it ends when the connection does.
        if given.await.is_ok() {
            send_pieces(&mut sender, body, PIECE_BYTES, Duration::ZERO).await;
        } else {
            std::future::pending::<()>().await;
        }
    });
    (word, upload.boxed())
}

/// A body that is sent at a pace.
#[must_use]
pub fn paced(body: Bytes, pace: Pace) -> Upload {
    let (sender, upload) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(send(sender, body, pace));
    upload.boxed()
}

async fn send(mut sender: Sender, mut body: Bytes, pace: Pace) {
    match pace {
        Pace::Fast => send_pieces(&mut sender, body, PIECE_BYTES, Duration::ZERO).await,
        Pace::ByteByByte => send_pieces(&mut sender, body, 1, BETWEEN_BYTES).await,
        Pace::InTurns(bytes) => send_pieces(&mut sender, body, bytes.max(1), BETWEEN_TURNS).await,
        Pace::StartsAfter(pause) => {
            tokio::time::sleep(pause).await;
            send_pieces(&mut sender, body, PIECE_BYTES, Duration::ZERO).await;
        }
        Pace::StopsHalfWay => {
            send_half(&mut sender, &mut body).await;
            // Holds the body open: it ends when the connection does.
            std::future::pending::<()>().await;
        }
        Pace::RestsHalfWay(pause) => {
            send_half(&mut sender, &mut body).await;
            tokio::time::sleep(pause).await;
            send_pieces(&mut sender, body, PIECE_BYTES, Duration::ZERO).await;
        }
    }
}

async fn send_half(sender: &mut Sender, body: &mut Bytes) {
    let half = body.split_to(body.len().div_ceil(2));
    send_pieces(sender, half, PIECE_BYTES, Duration::ZERO).await;
}

/// Sends until nobody takes any more.
async fn send_pieces(sender: &mut Sender, mut body: Bytes, piece_bytes: usize, pause: Duration) {
    while !body.is_empty() {
        let piece = body.split_to(piece_bytes.min(body.len()));
        if sender.send(Frame::data(piece)).await.is_err() {
            return;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}
