//! A streamed answer: server-sent events, one for each token, as the engine makes them.
//!
//! The body itself waits for the engine, so when the client leaves and the server drops it, the request is aborted at
//! once, as in vLLM.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::Value;
use tokio::time::{Sleep, sleep};

use super::api::Api;
use super::engine::Token;
use super::rank::Answer;
use super::shapes::{self, Answered};

/// Lets the first token leave before the connection is cut.
const BEFORE_THE_CUT: Duration = Duration::from_millis(20);

/// The body of a streamed answer.
#[derive(Debug)]
pub(super) struct EventStream {
    api: Api,
    answer: Answer,
    answered: Answered,
    includes_usage: bool,
    breaks: bool,
    cut: Option<Pin<Box<Sleep>>>,
    is_done: bool,
}

impl EventStream {
    pub(super) fn new(
        api: Api,
        answer: Answer,
        answered: Answered,
        includes_usage: bool,
        breaks: bool,
    ) -> Self {
        Self {
            api,
            answer,
            answered,
            includes_usage,
            breaks,
            cut: None,
            is_done: false,
        }
    }

    fn events(&mut self, token: Token) -> Bytes {
        self.answered.completion_tokens = token.number + 1;
        self.answered.cached_tokens = token.cached;
        let mut events = String::new();
        let mut push = |event: Value| events.push_str(&format!("data: {event}\n\n"));
        let answered = &self.answered;
        match self.api {
            Api::Chat => {
                if token.number == 0 {
                    push(shapes::chat_opening(answered));
                }
                push(shapes::chat_chunk(answered, token.number, token.is_last));
            }
            Api::Completions => push(shapes::completion_chunk(
                answered,
                token.number,
                token.is_last,
            )),
        }
        if token.is_last {
            if self.includes_usage {
                let object = if self.api == Api::Chat {
                    "chat.completion.chunk"
                } else {
                    "text_completion"
                };
                push(shapes::usage_chunk(answered, object));
            }
            events.push_str("data: [DONE]\n\n");
        }
        Bytes::from(events)
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if let Some(cut) = self.cut.as_mut() {
            ready!(cut.as_mut().poll(context));
            return Poll::Ready(Some(Err(io::Error::other("cut by its fault"))));
        }
        let Some(token) = ready!(self.answer.poll_next(context)) else {
            return Poll::Ready(Some(Err(io::Error::other("the engine was restarted"))));
        };
        self.is_done = token.is_last;
        if self.breaks {
            self.cut = Some(Box::pin(sleep(BEFORE_THE_CUT)));
        }
        Poll::Ready(Some(Ok(Frame::data(self.events(token)))))
    }
}
