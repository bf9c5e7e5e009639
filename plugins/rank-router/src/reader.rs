//! The first filter: sees every chunk of a body pass, reads the prompt from it and stops what must not reach a rank.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::{host, prompt_request, worker};

/// Bytes taken into the VM at once: a few frames, so that a chunk of any size costs bounded memory.
const SLICE_BYTES: usize = 64 * 1024;

/// A stream, as the reader sees it. It passes everything on and changes nothing, or ends the request.
#[derive(Debug)]
pub(crate) struct Reader {
    id: u32,
    is_open: bool,
    is_refused: bool,
}

impl Reader {
    pub(crate) fn new(id: u32) -> Self {
        Self {
            id,
            is_open: false,
            is_refused: false,
        }
    }

    fn open(&mut self) {
        let mark = worker::with(|worker| worker.mark().to_string());
        // Another reader came first: one is enough.
        if host::stream_mark(&mark).is_some() {
            return;
        }
        host::set_stream_mark(&mark, self.id);
        let endpoint = prompt_request::look().readable();
        worker::with(|worker| worker.exchanges.open(self.id, endpoint));
        self.is_open = true;
    }

    fn read(&self, chunk_bytes: usize) {
        let now_ms = host::now_ms();
        let starts = (0..chunk_bytes).step_by(SLICE_BYTES);
        let mut is_due = false;
        for start in starts {
            let bytes = SLICE_BYTES.min(chunk_bytes.saturating_sub(start));
            let slice = host::request_body(start, bytes);
            is_due |= worker::with(|worker| worker.exchanges.feed(self.id, &slice, now_ms));
        }
        self.note(is_due);
    }

    /// Answers in the ranks' place, if the body says what it must not say.
    fn refuse_if_asked(&mut self) {
        let refusal = worker::with(|worker| worker.refused(self.id));
        if let Some(refusal) = refusal {
            self.is_refused = true;
            host::refuse_request(&refusal);
        }
    }

    fn end_body(&self) {
        self.note(worker::with(|worker| worker.exchanges.end_body(self.id)));
    }

    /// Rings for a decision that is due, or takes in what was read after one.
    fn note(&self, is_due: bool) {
        worker::with(|worker| {
            if is_due {
                worker.bell.ring();
            } else {
                worker.learn();
            }
            worker.flush();
        });
    }

    fn is_reading(&self) -> bool {
        self.is_open && worker::with(|worker| worker.exchanges.is_reading(self.id))
    }
}

impl Context for Reader {
    fn on_done(&mut self) -> bool {
        if self.is_open {
            worker::with(|worker| worker.close(self.id));
        }
        true
    }
}

impl HttpContext for Reader {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        if !end_of_stream {
            self.open();
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, chunk_bytes: usize, end_of_stream: bool) -> Action {
        if !self.is_refused && self.is_reading() {
            self.read(chunk_bytes);
            self.refuse_if_asked();
        }
        if self.is_refused {
            return Action::Pause;
        }
        if self.is_open && end_of_stream {
            self.end_body();
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        if self.is_open && !self.is_refused {
            self.end_body();
        }
        Action::Continue
    }
}
