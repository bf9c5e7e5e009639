//! Counts the HTTP requests of a rank whose answers are not finished.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::api::AnswerBody;
use super::rank::Rank;

/// Counts a request as open until it is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Rank>);

/// A body whose request is open until it was sent or given up.
#[derive(Debug)]
pub(super) struct OpenBody {
    body: AnswerBody,
    _open: Open,
}

impl Open {
    pub(super) fn new(rank: &Arc<Rank>) -> Self {
        rank.open_requests.fetch_add(1, Ordering::Relaxed);
        Self(rank.clone())
    }

    pub(super) fn until_the_end_of(self, body: AnswerBody) -> OpenBody {
        OpenBody { body, _open: self }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Body for OpenBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
