//! The later filter: holds the headers until a rank is picked, and counts the request on it.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use routing::{DESTINATION_HEADER, Endpoint, Outcome, STRIPPED_HEADERS};

use crate::prompt_request::{self, PromptRequest};
use crate::{host, worker};

/// A stream, as the picker sees it.
#[derive(Debug)]
pub(crate) struct Picker {
    id: u32,
    pool: Rc<str>,
    reader: Option<u32>,
    is_answered: bool,
}

impl Picker {
    pub(crate) fn new(id: u32, pool: Rc<str>) -> Self {
        Self {
            id,
            pool,
            reader: None,
            is_answered: false,
        }
    }

    /// Whether the headers wait for the body.
    fn hold(&mut self) -> bool {
        let mark = worker::with(|worker| worker.mark().to_string());
        self.reader = host::stream_mark(&mark);
        let Some(reader) = self.reader else {
            note_unread();
            return false;
        };
        let now_ms = host::now_ms();
        worker::with(|worker| worker.hold(reader, self.id, &self.pool, now_ms))
    }

    fn pick_at_once(&self) {
        if let Some(destination) = worker::with(|worker| worker.pick(self.id, &self.pool, None)) {
            host::set_request_header(DESTINATION_HEADER, &destination);
        }
    }

    fn answer_began(&mut self) {
        if !self.is_answered {
            self.is_answered = true;
            worker::with(|worker| worker.first_byte(self.id));
        }
    }

    /// An answer without a decision, from another filter or from Envoy: nothing is to be decided any more.
    fn close(&mut self) {
        if let Some(reader) = self.reader.take() {
            worker::with(|worker| worker.close(reader));
        }
    }
}

/// A body goes by that no reader read.
fn note_unread() {
    match prompt_request::look() {
        PromptRequest::Readable(endpoint) => {
            count(Some(endpoint), Outcome::Unreadable);
            note_missing_reader();
        }
        PromptRequest::Compressed(endpoint) => count(Some(endpoint), Outcome::Unreadable),
        PromptRequest::Other => count(None, Outcome::NotAPrompt),
    }
}

/// A request without a body goes by.
fn note_empty() {
    match prompt_request::look() {
        PromptRequest::Readable(endpoint) | PromptRequest::Compressed(endpoint) => {
            count(Some(endpoint), Outcome::NotAPrompt);
        }
        PromptRequest::Other => count(None, Outcome::NotAPrompt),
    }
}

fn count(endpoint: Option<Endpoint>, outcome: Outcome) {
    worker::with(|worker| worker.metrics.request(endpoint, outcome));
}

fn note_missing_reader() {
    let is_news = worker::with(|worker| {
        worker.metrics.reader_missing();
        !std::mem::replace(&mut worker.warned_of_reader, true)
    });
    if is_news {
        log::warn!(
            "rank-router: a prompt reached the picker unread: put the reader of the same module before it"
        );
    }
}

impl Context for Picker {
    fn on_done(&mut self) -> bool {
        self.close();
        worker::with(|worker| worker.end(self.id));
        true
    }
}

impl HttpContext for Picker {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        STRIPPED_HEADERS
            .iter()
            .for_each(|name| host::remove_request_header(name));
        if end_of_stream {
            note_empty();
        } else if self.hold() {
            return Action::Pause;
        }
        self.pick_at_once();
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        self.close();
        if end_of_stream {
            self.answer_began();
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, chunk_bytes: usize, _end_of_stream: bool) -> Action {
        if chunk_bytes > 0 {
            self.answer_began();
        }
        Action::Continue
    }
}
