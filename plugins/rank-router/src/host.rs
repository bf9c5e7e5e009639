//! What the filters ask of Envoy, with every status in one place.
//!
//! The SDK panics on statuses it does not expect, and a panic costs the worker its VM. So each call here is only
//! made in a phase in which it cannot fail that way; the phase is said with it.

use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, Status};
use routing::{AnswerKind, REFUSAL_HEADERS, REFUSAL_STATUS, Refusal};

/// Milliseconds since the epoch; 0 if the host has no clock. Any phase.
pub(crate) fn now_ms() -> u64 {
    now_us() / 1000
}

/// Microseconds since the epoch; 0 if the host has no clock. Any phase.
pub(crate) fn now_us() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}

/// Nanoseconds since the epoch; 0 if the host has no clock. Any phase.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

fn since_epoch() -> Duration {
    let now = hostcalls::get_current_time().ok();
    let since_epoch = now.and_then(|now| now.duration_since(UNIX_EPOCH).ok());
    since_epoch.unwrap_or_default()
}

/// A request header as bytes. Only in the request headers callback.
pub(crate) fn request_header(name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, name)
        .ok()
        .flatten()
}

/// A response header as a number. Only in the response headers callback.
pub(crate) fn status() -> Option<u16> {
    number(MapType::HttpResponseHeaders)
}

fn number(map: MapType) -> Option<u16> {
    let bytes = hostcalls::get_map_value_bytes(map, ":status")
        .ok()
        .flatten()?;
    std::str::from_utf8(&bytes).ok()?.parse().ok()
}

/// How an answer is written, if it can be read. Only in the response headers callback.
///
/// What is compressed is not: unpacking it would cost more than what it says is worth.
pub(crate) fn answer_kind() -> Option<AnswerKind> {
    let header = |name| {
        let value = hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, name);
        value.ok().flatten()
    };
    let encoding = header("content-encoding");
    let is_plain = encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"identity"));
    AnswerKind::of(&header("content-type").filter(|_| is_plain)?)
}

/// Bytes of the chunk at hand. Only in the response body callback.
pub(crate) fn response_body(start: usize, bytes: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpResponseBody, start, bytes)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// What became of asking a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The answer will come under this number.
    Waiting(u32),
    /// The cluster has no host to ask.
    Unreachable,
    /// Envoy has no such cluster.
    NoCluster,
}

/// Asks a cluster for a path, with `rank` as the address that an `ORIGINAL_DST` cluster connects to. Only in a root's
/// callbacks.
pub(crate) fn get(cluster: &str, path: &str, rank: Option<&str>, timeout_ms: u64) -> Asked {
    let mut headers = vec![
        (":method", "GET"),
        (":path", path),
        (":authority", rank.unwrap_or("localhost")),
    ];
    headers.extend(rank.map(|rank| ("x-envoy-original-dst-host", rank)));
    let timeout = Duration::from_millis(timeout_ms);
    match hostcalls::dispatch_http_call(cluster, headers, None, vec![], timeout) {
        Ok(token) => Asked::Waiting(token),
        Err(Status::BadArgument) => Asked::NoCluster,
        Err(_) => Asked::Unreachable,
    }
}

/// The status of the answer to a call. Only in its callback, and only if there were headers: a call that was reset has
/// none, and then Envoy's status makes the SDK panic.
pub(crate) fn call_status() -> Option<u16> {
    number(MapType::HttpCallResponseHeaders)
}

/// Bytes of the answer to a call. Only in its callback.
pub(crate) fn call_body(start: usize, bytes: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, start, bytes)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// A property of the stream as text. Any phase of a stream.
pub(crate) fn text_property(path: Vec<&str>) -> Option<String> {
    let bytes = hostcalls::get_property(path).ok().flatten()?;
    String::from_utf8(bytes).ok()
}

/// A property of the stream as a number. Any phase of a stream.
pub(crate) fn number_property(path: Vec<&str>) -> Option<u64> {
    let bytes = hostcalls::get_property(path).ok().flatten()?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Removes every value of a request header; true when there was one. Only in the request headers callback.
pub(crate) fn take_request_header(name: &str) -> bool {
    let is_there = request_header(name).is_some();
    if is_there {
        let _ = hostcalls::remove_map_value(MapType::HttpRequestHeaders, name);
    }
    is_there
}

/// Replaces a request header. Only while the headers are at hand or held.
pub(crate) fn set_request_header(name: &str, value: &str) {
    let _ = hostcalls::set_map_value(MapType::HttpRequestHeaders, name, Some(value));
}

/// Replaces request headers. Only while the headers are at hand or held.
pub(crate) fn set_request_headers(headers: &[(&'static str, String)]) {
    for (name, value) in headers {
        set_request_header(name, value);
    }
}

/// Bytes of the chunk at hand. Only in the request body callback.
pub(crate) fn request_body(start: usize, bytes: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpRequestBody, start, bytes)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// The configuration of the plugin. Only while configuring.
pub(crate) fn plugin_configuration() -> Vec<u8> {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// A word that another filter left on the stream. Any phase of a stream.
pub(crate) fn stream_mark(name: &str) -> Option<u32> {
    let bytes = hostcalls::get_property(vec![name]).ok().flatten()?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Leaves a word on the stream; a second word under one name is refused by the host with a status that the SDK
/// panics on, so look first.
pub(crate) fn set_stream_mark(name: &str, word: u32) {
    let _ = hostcalls::set_property(vec![name], Some(&word.to_le_bytes()));
}

/// Lets the calls that follow act on another stream of this VM; false when it is gone.
pub(crate) fn act_on(context: u32) -> bool {
    hostcalls::set_effective_context(context).is_ok()
}

/// Lets a held request go on. Only after [`act_on`] a stream whose headers are held.
pub(crate) fn resume_request() {
    let _ = hostcalls::resume_http_request();
}

/// Answers in the ranks' place that the request is refused; where an answer has begun Envoy resets the stream instead. Only
/// once, in the callbacks of a stream's request, which then have to pause, so that nothing of what they were called with goes
/// on, or after [`act_on`] a stream whose headers are held.
pub(crate) fn refuse_request(refusal: &Refusal) {
    let body = refusal.body();
    let headers = REFUSAL_HEADERS.to_vec();
    let _ = hostcalls::send_http_response(REFUSAL_STATUS, headers, Some(body.as_bytes()));
}

/// Lets Envoy choose the route anew, by the headers as they are now. Only while the headers are held.
pub(crate) fn clear_route() {
    let _ = hostcalls::call_foreign_function("clear_route_cache", None);
}

/// Calls `on_tick` of the root at hand at this period. Only in a root's callbacks.
pub(crate) fn tick_every(period: Duration) {
    let _ = hostcalls::set_tick_period(period);
}

/// Lets the module say as much as Envoy's own log level for wasm wants to hear.
pub(crate) fn follow_log_level() {
    proxy_wasm::set_log_level(hostcalls::get_log_level().unwrap_or(LogLevel::Info));
}

/// How often a lost race for a number is run again: each loser had a winner, and workers start within moments.
const NUMBER_TRIES: usize = 64;

/// A number that no other caller in this Envoy has, or 0 when the races were lost. Any phase.
pub(crate) fn unique_number(key: &str) -> u64 {
    count(key, |last| Some(last.saturating_add(1))).unwrap_or(0)
}

/// The number under a key, which is the same in every VM: the first one puts `number` there. Any phase.
pub(crate) fn first_number(key: &str, number: u64) -> u64 {
    count(key, |last| (last == 0).then_some(number)).unwrap_or(number)
}

/// Puts the number that follows the last one under a key, and gives it; or the last one where none follows. `None` when the
/// races were lost.
fn count(key: &str, next: impl Fn(u64) -> Option<u64>) -> Option<u64> {
    for _ in 0..NUMBER_TRIES {
        let (bytes, version) = hostcalls::get_shared_data(key).ok()?;
        if version.is_none() {
            // Nothing compares with an absent key: seed it, and race for the seeded value.
            let _ = hostcalls::set_shared_data(key, Some(&0u64.to_le_bytes()), None);
            continue;
        }
        let last = bytes.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        let last = last.unwrap_or(0);
        let Some(next) = next(last) else {
            return Some(last);
        };
        if hostcalls::set_shared_data(key, Some(&next.to_le_bytes()), version).is_ok() {
            return Some(next);
        }
    }
    None
}
