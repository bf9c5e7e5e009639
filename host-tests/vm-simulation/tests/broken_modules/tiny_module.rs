//! The smallest module that keeps every invariant, and can be made to break any one.
//!
//! Its reader marks the stream and keeps the start of the body; its picker holds the headers and resumes them on the next
//! tick, to one rank after the other. It knows by their start the prompts that were served.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType};

/// What goes wrong.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Panics,
    ChangesHeadersLate,
    ReadsBrokenCall,
    MarksTwice,
    ResumesTwice,
    NeverResumes,
    ResumesInLastChunk,
    LeaksGauge,
    GivesGaugeBackTwice,
    CountsTwice,
    CountsNot,
    FillsQueue,
    FillsSharedData,
    NamesNoRank,
    KeepsSteering,
    PausesBody,
    AcceptsAnything,
    WeighsAnnounced,
    TakesRankOut,
    BlamesRank,
    RemembersRefused,
    ForgetsByRefusal,
    LosesCaches,
    SticksToOneRank,
}

/// Bytes of a body by which it is known.
const START_BYTES: usize = 70;
/// Longer than any body.
const ABSURD_BYTES: u64 = 1_000_000_000;

const DESTINATION: &str = "x-gateway-destination-endpoint";
const STEERING: [&str; 6] = [
    DESTINATION,
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
    "x-data-parallel-rank",
];

/// One VM's state.
#[derive(Default)]
struct Vm {
    metrics: BTreeMap<&'static str, u32>,
    /// Held pickers by their reader.
    held: BTreeMap<u32, u32>,
    queue: Option<u32>,
    ranks: Vec<String>,
    requests: u32,
    /// The starts of bodies that are read, by reader.
    starts: BTreeMap<u32, Vec<u8>>,
    /// The starts of bodies that were served.
    known: BTreeSet<Vec<u8>>,
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
}

fn add(name: &'static str, kind: MetricType, offset: i64) {
    let define = || hostcalls::define_metric(kind, &format!("rank_router.{name}")).unwrap();
    let metric = VM.with_borrow_mut(|vm| *vm.metrics.entry(name).or_insert_with(define));
    hostcalls::increment_metric(metric, offset).unwrap();
}

fn gauge(offset: i64) {
    add("requests_held", MetricType::Gauge, offset);
}

fn count(name: &'static str) {
    add(name, MetricType::Counter, 1);
}

/// Says how many ranks there are, and that all have reported.
fn show_ranks(count: usize) {
    for name in ["ranks_listed", "ranks_reported"] {
        let name = format!("rank_router.{name}");
        let metric = hostcalls::define_metric(MetricType::Gauge, &name).unwrap();
        hostcalls::record_metric(metric, count as u64).unwrap();
    }
}

/// Makes a root with this fault.
pub fn root<const FAULT: u8>(_id: u32) -> Box<dyn RootContext> {
    Box::new(Root::<FAULT> { is_picker: false })
}

/// Says when the host does not keep its word; not by a panic, because a VM that trapped gets no true answers.
fn expect(is_so: bool, what: &str) {
    if !is_so {
        hostcalls::log(LogLevel::Critical, what).unwrap();
    }
}

const fn is(fault: u8, other: Fault) -> bool {
    fault == other as u8
}

struct Root<const FAULT: u8> {
    is_picker: bool,
}

impl<const FAULT: u8> Root<FAULT> {
    fn call(&self, cluster: &str, header: (&str, &str)) {
        let headers = vec![
            (":method", "GET"),
            (":path", "/config_dump"),
            (":authority", "x"),
            header,
        ];
        let timeout = Duration::from_secs(1);
        let _ = hostcalls::dispatch_http_call(cluster, headers, None, Vec::new(), timeout);
    }
}

impl<const FAULT: u8> Context for Root<FAULT> {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, size: usize, _: usize) {
        if headers > 0 || is(FAULT, Fault::ReadsBrokenCall) {
            let kind = MapType::HttpCallResponseHeaders;
            let status = hostcalls::get_map_value_bytes(kind, ":status").unwrap();
            expect(status.is_some(), "an answer has a status");
            let pairs = hostcalls::get_map_bytes(kind).unwrap();
            expect(pairs.len() == headers, "headers are as many as was said");
        }
        let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size).unwrap();
        let length = body.map_or(0, |body| body.len());
        expect(length == size, "a body is as long as was said");
    }
}

impl<const FAULT: u8> RootContext for Root<FAULT> {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).unwrap();
        let text = String::from_utf8(bytes.unwrap_or_default()).unwrap();
        let ranks = text
            .split_once("[\"")
            .and_then(|(_, rest)| rest.split_once("\"]"));
        self.is_picker = ranks.is_some();
        if let Some((ranks, _)) = ranks {
            let ranks: Vec<String> = ranks.split("\",\"").map(ToString::to_string).collect();
            show_ranks(ranks.len());
            VM.with_borrow_mut(|vm| vm.ranks = ranks);
            hostcalls::set_tick_period(Duration::from_millis(20)).unwrap();
            let queue = hostcalls::register_shared_queue("rank_router.tiny").unwrap();
            VM.with_borrow_mut(|vm| vm.queue = Some(queue));
        }
        self.is_picker || text.contains("\"reader\"") || is(FAULT, Fault::AcceptsAnything)
    }

    fn on_tick(&mut self) {
        self.call("prometheus_stats", ("x", "y"));
        self.call(
            "rank_router_scrape",
            ("x-envoy-original-dst-host", "10.0.0.1:8000"),
        );
        if is(FAULT, Fault::NeverResumes) {
            return;
        }
        let held = VM.with_borrow_mut(|vm| std::mem::take(&mut vm.held));
        for (reader, picker) in held {
            hostcalls::set_effective_context(picker).unwrap();
            pick::<FAULT>(Some(reader));
            gauge(-1);
            hostcalls::resume_http_request().unwrap();
            if is(FAULT, Fault::ResumesTwice) {
                hostcalls::resume_http_request().unwrap();
            }
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while !is(FAULT, Fault::FillsQueue)
            && let Ok(Some(_)) = hostcalls::dequeue_shared_queue(queue)
        {}
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match self.is_picker {
            true => Box::new(Picker::<FAULT> {
                id,
                ..Picker::default()
            }),
            false => Box::new(Reader::<FAULT> { id }),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Names the rank for the stream at work, and counts.
fn pick<const FAULT: u8>(reader: Option<u32>) {
    let rank = match is(FAULT, Fault::NamesNoRank) {
        true => "10.9.9.9:1".to_string(),
        false => next_rank::<FAULT>(),
    };
    let is_known = VM.with_borrow(|vm| {
        let start = reader.and_then(|reader| vm.starts.get(&reader));
        start.is_some_and(|start| vm.known.contains(start))
    });
    if is_known {
        count("matched_tokens");
    }
    hostcalls::set_map_value(MapType::HttpRequestHeaders, DESTINATION, Some(&rank)).unwrap();
    let times = match () {
        () if is(FAULT, Fault::CountsTwice) => 2,
        () if is(FAULT, Fault::CountsNot) => return,
        () => 1,
    };
    add("picks_all", MetricType::Counter, times);
    add("requests_all", MetricType::Counter, 1);
}

fn next_rank<const FAULT: u8>() -> String {
    VM.with_borrow_mut(|vm| {
        if !is(FAULT, Fault::SticksToOneRank) {
            vm.ranks.rotate_left(1);
        }
        vm.ranks[0].clone()
    })
}

/// Writes and enqueues more the more requests there are.
fn hoard<const FAULT: u8>() {
    let (request, queue) = VM.with_borrow_mut(|vm| {
        vm.requests += 1;
        (vm.requests, vm.queue)
    });
    if is(FAULT, Fault::FillsSharedData) {
        for part in 0..500 {
            let key = format!("rank_router.{request}.{part}");
            hostcalls::set_shared_data(&key, Some(b"x"), None).unwrap();
        }
    }
    let items = if is(FAULT, Fault::FillsQueue) { 10 } else { 1 };
    for _ in 0..items {
        let _ = hostcalls::enqueue_shared_queue(queue.unwrap_or(0), Some(b"x"));
    }
}

struct Reader<const FAULT: u8> {
    id: u32,
}

impl<const FAULT: u8> Context for Reader<FAULT> {}

impl<const FAULT: u8> HttpContext for Reader<FAULT> {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let times = if is(FAULT, Fault::MarksTwice) { 2 } else { 1 };
        for _ in 0..times {
            hostcalls::set_property(vec!["tiny"], Some(&self.id.to_le_bytes())).unwrap();
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        let piece = hostcalls::get_buffer(BufferType::HttpRequestBody, 0, size).unwrap();
        VM.with_borrow_mut(|vm| {
            let start = vm.starts.entry(self.id).or_default();
            start.extend(piece.unwrap_or_default());
            start.truncate(START_BYTES);
        });
        if is(FAULT, Fault::ChangesHeadersLate) {
            let _ = hostcalls::set_map_value(MapType::HttpRequestHeaders, "x", Some("y"));
        }
        let picker = VM.with_borrow(|vm| vm.held.get(&self.id).copied());
        if is(FAULT, Fault::ResumesInLastChunk)
            && end
            && let Some(picker) = picker
        {
            hostcalls::set_effective_context(picker).unwrap();
            hostcalls::resume_http_request().unwrap();
        }
        match is(FAULT, Fault::PausesBody) {
            true => Action::Pause,
            false => Action::Continue,
        }
    }
}

#[derive(Default)]
struct Picker<const FAULT: u8> {
    id: u32,
    reader: Option<u32>,
    weight: i64,
}

impl<const FAULT: u8> Picker<FAULT> {
    fn weigh(&mut self) {
        let length = hostcalls::get_map_value(MapType::HttpRequestHeaders, "content-length");
        let announced = length
            .unwrap()
            .and_then(|length| length.parse::<u64>().ok());
        if is(FAULT, Fault::WeighsAnnounced) && announced.is_some_and(|bytes| bytes > ABSURD_BYTES)
        {
            self.weight = 100_000_000;
            add("queued_tokens", MetricType::Gauge, self.weight);
        }
    }

    /// Learns from an answer with this status.
    fn learn(&self, is_served: bool) {
        if is(FAULT, Fault::TakesRankOut) {
            let metric = hostcalls::define_metric(MetricType::Gauge, "rank_router.ranks_out");
            hostcalls::record_metric(metric.unwrap(), 100).unwrap();
        }
        if is(FAULT, Fault::BlamesRank) && !is_served {
            count("failures_no_first_byte");
        }
        let start = VM.with_borrow(|vm| vm.starts.get(&self.reader?).cloned());
        let Some(start) = start else { return };
        let is_new = VM.with_borrow_mut(|vm| {
            if is(FAULT, Fault::ForgetsByRefusal) && !is_served {
                vm.known.clear();
            }
            let is_learnt = is_served || is(FAULT, Fault::RemembersRefused);
            is_learnt && vm.known.insert(start)
        });
        if is(FAULT, Fault::LosesCaches) && !is_new {
            count("caches_lost");
        }
    }
}

impl<const FAULT: u8> Context for Picker<FAULT> {
    fn on_done(&mut self) -> bool {
        let is_held = self.reader.take().is_some_and(|reader| {
            VM.with_borrow_mut(|vm| {
                vm.starts.remove(&reader);
                vm.held.remove(&reader).is_some()
            })
        });
        if self.weight > 0 {
            add("queued_tokens", MetricType::Gauge, -self.weight);
        }
        let gives_back = is_held && !is(FAULT, Fault::LeaksGauge);
        if gives_back || is(FAULT, Fault::GivesGaugeBackTwice) {
            gauge(-1);
        }
        true
    }
}

impl<const FAULT: u8> HttpContext for Picker<FAULT> {
    fn on_http_request_headers(&mut self, _: usize, end: bool) -> Action {
        for name in STEERING
            .into_iter()
            .filter(|_| !is(FAULT, Fault::KeepsSteering))
        {
            hostcalls::remove_map_value(MapType::HttpRequestHeaders, name).unwrap();
        }
        hoard::<FAULT>();
        self.weigh();
        let mark = hostcalls::get_property(vec!["tiny"]).unwrap();
        let reader = mark.and_then(|mark| Some(u32::from_le_bytes(mark.try_into().ok()?)));
        match reader.filter(|_| !end) {
            Some(reader) => {
                self.reader = Some(reader);
                VM.with_borrow_mut(|vm| vm.held.insert(reader, self.id));
                gauge(1);
                Action::Pause
            }
            None => {
                pick::<FAULT>(None);
                Action::Continue
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        assert!(!is(FAULT, Fault::Panics), "a module's own panic");
        let status = hostcalls::get_map_value(MapType::HttpResponseHeaders, ":status");
        let status = status.unwrap().unwrap_or_default();
        self.learn(status.starts_with('2'));
        Action::Continue
    }
}
