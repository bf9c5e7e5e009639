//! The later filter: holds the headers until a rank is picked, and counts the request on it.

use std::net::SocketAddr;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use routing::{Endpoint, Outcome, UsageReader};

use crate::prompt_request::{self, PromptRequest};
use crate::route::{Route, strip};
use crate::worker::{Arrived, Breakdown, ModelPools, Worker};
use crate::{host, worker};

/// A stream, as the picker sees it.
#[derive(Debug)]
pub(crate) struct Picker {
    id: u32,
    pools: Rc<[u64]>,
    reader: Option<u32>,
    is_answered: bool,
    is_complete: bool,
    /// Whether Envoy or another filter answers in a rank's place: then the attempts have failed, if there were any.
    is_from_gateway: bool,
    usage: Option<UsageReader>,
    /// Bytes of the body that have gone on.
    body_bytes: u64,
}

impl Picker {
    pub(crate) fn new(id: u32, pools: Rc<[u64]>) -> Self {
        Self {
            id,
            pools,
            reader: None,
            is_answered: false,
            is_complete: false,
            is_from_gateway: false,
            usage: None,
            body_bytes: 0,
        }
    }

    /// Which pool the request is for, if any.
    fn pool(&self) -> Option<u64> {
        let is_for_all = worker::with(|worker| worker.serves_all(&self.pools));
        if is_for_all {
            return self.pools.first().copied();
        }
        let cluster = host::text_property(vec!["xds", "cluster_name"])?;
        worker::with(|worker| worker.pool_of(&self.pools, &cluster))
    }

    /// Looks which pool the request is for, and takes away what no client may say.
    fn find_route(&self) -> Route {
        let read = self.pool();
        let goes_by_model = worker::with(|worker| worker.goes_by_model(&self.pools));
        let removed = strip(&self.pools, read, goes_by_model);
        // The pool of a model that a header of the client named is not to be charged with this request.
        let pool = read.filter(|_| !removed.model);
        let is_clients = removed.any();
        let model_pools = goes_by_model.then(|| ModelPools {
            pools: self.pools.clone(),
            without: pool,
            is_clients,
        });
        Route {
            pool,
            is_clients,
            model_pools,
        }
    }

    /// Whether the headers stop here: the request is refused, or its pick waits for the body.
    fn stops(&mut self, route: &Route) -> bool {
        let mark = worker::with(|worker| worker.mark().to_string());
        self.reader = host::stream_mark(&mark);
        let Some(reader) = self.reader else {
            note_unread();
            return false;
        };
        let is_read = worker::with(|worker| !worker.exchanges.sees_no_prompt(reader));
        if route.model_pools.is_some() && is_read && self.hold(reader, route) {
            worker::with(|worker| worker.exchanges.guard_by_pick(reader));
            return true;
        }
        // Whatever comes of the body, the pools that it may be for are known now.
        let refusal = worker::with(|worker| worker.guard(reader, route.pools(&self.pools)));
        if let Some(refusal) = refusal {
            host::refuse_request(&refusal);
            return true;
        }
        if !is_read {
            note_unread();
        }
        is_read && self.hold(reader, route)
    }

    /// Whether the headers wait for the body.
    fn hold(&self, reader: u32, route: &Route) -> bool {
        // Until the model is known the limits of one of the pools count.
        let first = self.pools.first().filter(|_| route.model_pools.is_some());
        let Some(pool) = route.pool.or(first.copied()) else {
            return false;
        };
        let (now_ms, model_pools) = (host::now_ms(), route.model_pools.clone());
        let is_held =
            worker::with(|worker| worker.hold(reader, self.id, pool, model_pools, now_ms));
        if is_held && prompt_request::waits_for_a_rank() {
            worker::with(|worker| worker.hurry(reader));
        }
        is_held
    }

    /// The request is for no pool: its body is nobody's business here, unless its route may be another than it seems.
    fn ignore(&self, route: &Route) {
        worker::with(|worker| worker.metrics.no_pool());
        if route.is_clients {
            return;
        }
        let mark = worker::with(|worker| worker.mark().to_string());
        if let Some(reader) = host::stream_mark(&mark) {
            worker::with(|worker| worker.close(reader));
        }
    }

    fn pick_at_once(&self, pool: u64, has_ended: bool) {
        let now_ms = host::now_ms();
        let arrived = Arrived {
            has_ended,
            is_streamed: false,
        };
        let headers = worker::with(|worker| {
            let headers = worker.pick(self.id, pool, None, arrived, now_ms);
            worker.flush();
            headers
        });
        host::set_request_headers(&headers);
    }

    /// The headers of an answer are here, from a rank or from Envoy itself.
    fn note_headers(&mut self, is_refused: bool) {
        let now_ms = host::now_ms();
        let status = host::status().unwrap_or(0);
        let is_surely_a_rank_s = status < 500 && !is_refused;
        let address = upstream_address().filter(|_| is_surely_a_rank_s || is_from_upstream());
        self.is_from_gateway = address.is_none();
        worker::with(|worker| match address {
            Some(address) => worker.answer_began(self.id, address, status, now_ms),
            None => worker.answered_by_envoy(self.id),
        });
        if address.is_some() {
            let kind = host::answer_kind();
            self.usage = worker::with(|worker| worker.begin_usage(self.id, status, kind));
        }
    }

    /// Keeps the last bytes of an answer. Cost: a copy of at most 5 KiB.
    fn read_usage(&mut self, chunk_bytes: usize) {
        let Some(usage) = &mut self.usage else { return };
        for wanted in usage.wanted(chunk_bytes) {
            if !wanted.is_empty() {
                usage.push(&host::response_body(wanted.start, wanted.len()));
            }
        }
    }

    /// The answer has ended as it should.
    fn complete(&mut self) {
        self.is_complete = true;
        if let Some(usage) = self.usage.take() {
            worker::with(|worker| worker.usage(self.id, usage.finish()));
            flush();
        }
    }

    /// All of the body has gone on to the rank.
    fn request_ended(&self) {
        worker::with(|worker| worker.request_ended(self.id, self.body_bytes));
    }

    fn answer_began(&mut self) {
        if !self.is_answered {
            self.is_answered = true;
            let now_ms = host::now_ms();
            worker::with(|worker| worker.first_byte(self.id, now_ms));
        }
    }

    /// Looks what broke a stream off.
    fn note_breakdown(&self) {
        let breakdown = Breakdown {
            flags: host::number_property(vec!["response", "flags"]).unwrap_or(0),
            address: upstream_address(),
        };
        let now_ms = host::now_ms();
        worker::with(|worker| worker.broke_down(self.id, breakdown, now_ms));
    }

    /// Whether the request was refused because of its body.
    fn is_refused(&self) -> bool {
        let reader = self.reader;
        reader
            .is_some_and(|reader| worker::with(|worker| worker.exchanges.refusal(reader).is_some()))
    }

    /// An answer without a decision, from another filter or from Envoy: nothing is to be decided any more.
    fn close(&mut self) {
        if let Some(reader) = self.reader.take() {
            worker::with(|worker| worker.close(reader));
        }
    }
}

/// The rank of the last attempt.
fn upstream_address() -> Option<SocketAddr> {
    host::text_property(vec!["upstream", "address"])?
        .parse()
        .ok()
}

/// Whether an answer is a rank's own and not one that Envoy gives in its place.
fn is_from_upstream() -> bool {
    host::text_property(vec!["response", "code_details"])
        .is_some_and(|details| details == "via_upstream")
}

fn flush() {
    worker::with(Worker::flush);
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
        flush();
        true
    }
}

impl HttpContext for Picker {
    fn on_http_request_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        #[cfg(feature = "trap")]
        crate::trap::if_asked();
        let route = self.find_route();
        if end_of_stream {
            if route.is_for_a_pool() {
                note_empty();
            }
        } else if (route.is_for_a_pool() || route.is_clients) && self.stops(&route) {
            flush();
            return Action::Pause;
        }
        match route.pool {
            Some(pool) => self.pick_at_once(pool, end_of_stream),
            None => self.ignore(&route),
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, chunk_bytes: usize, end_of_stream: bool) -> Action {
        let bytes = u64::try_from(chunk_bytes).unwrap_or(u64::MAX);
        self.body_bytes = self.body_bytes.saturating_add(bytes);
        if end_of_stream {
            self.request_ended();
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        self.request_ended();
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, end_of_stream: bool) -> Action {
        let is_refused = self.is_refused();
        self.close();
        self.note_headers(is_refused);
        if end_of_stream {
            self.answer_began();
            self.complete();
        }
        flush();
        Action::Continue
    }

    fn on_http_response_body(&mut self, chunk_bytes: usize, end_of_stream: bool) -> Action {
        if chunk_bytes > 0 && !self.is_answered {
            self.answer_began();
            flush();
        }
        self.read_usage(chunk_bytes);
        if end_of_stream {
            self.complete();
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _trailers: usize) -> Action {
        self.complete();
        Action::Continue
    }

    fn on_log(&mut self) {
        if !self.is_complete || self.is_from_gateway {
            self.note_breakdown();
        }
    }
}
