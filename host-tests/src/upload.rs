//! Request bodies that arrive in a certain way.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;

use crate::connection::Upload;

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

/// A body that is sent at a pace.
#[must_use]
pub fn paced(body: Bytes, pace: Pace) -> Upload {
    let (sender, upload) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(send(sender, body, pace));
    upload.boxed()
}

async fn send(
    mut sender: http_body_util::channel::Sender<Bytes, Infallible>,
    mut body: Bytes,
    pace: Pace,
) {
    let stays_bytes = if pace == Pace::StopsHalfWay {
        body.len() / 2
    } else {
        0
    };
    let (piece_bytes, pause) = match pace {
        Pace::ByteByByte => (1, BETWEEN_BYTES),
        Pace::InTurns(bytes) => (bytes.max(1), BETWEEN_TURNS),
        Pace::Fast | Pace::StopsHalfWay => (PIECE_BYTES, Duration::ZERO),
    };
    while body.len() > stays_bytes {
        let piece = body.split_to(piece_bytes.min(body.len() - stays_bytes));
        if sender.send(Frame::data(piece)).await.is_err() {
            return;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    if pace == Pace::StopsHalfWay {
        // Holds the body open: it ends when the connection does.
        std::future::pending::<()>().await;
    }
}
