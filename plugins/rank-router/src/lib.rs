//! The proxy-wasm module: two filters around the `routing` crate.
//!
//! Envoy decides on a destination when the headers reach its router filter, but the choice needs the body, and a
//! filter that pauses on headers does not get the body. So there are two filters of this one module in the chain, in
//! one VM per worker: the *reader* comes first and sees every body chunk pass, the *picker* comes later and holds the
//! headers (and behind them the body, in Envoy) until the decision is made.
//!
//! | callback | reads | decides | does |
//! | --- | --- | --- | --- |
//! | reader, request headers | method, path, encoding, length | does it carry a prompt? | opens an exchange, marks the stream |
//! | picker, request headers | the mark | wait for the body? | strips steering headers; joins and holds, or picks at once |
//! | reader, request body, trailers | each chunk once | enough seen? must it be refused? | rings the bell when due; answers 400 |
//! | picker root, queue ready (bell) | what is due | the rank; must it be refused? | sets the destination, resumes; or answers 400 |
//! | picker root, tick | time | idle too long? | the same for stalled bodies and lost bells |
//! | picker, response body | first byte; the last few KiB | was the cache as believed? | ends the queued tokens; corrects the index |
//! | picker, done | - | - | ends the request in flight |
//!
//! Resuming happens on the bell and not in the body callback, where over HTTP/2 the last chunk would be lost. The bell
//! is a shared queue that this VM registered for itself: Envoy calls back on the same worker in the next turn of its
//! loop. When anything is missing or odd, the request goes on: fail open, and a counter says so. Only what no client may say
//! is refused.

mod bell;
mod host;
mod metrics;
mod picker;
mod prompt_request;
mod reader;
mod root;
mod route;
mod shared;
mod stream;
#[cfg(feature = "trap")]
mod trap;
mod watch;
mod worker;

pub use root::Root;

/// The module's entry point, which only exists where a host calls it.
#[cfg(target_arch = "wasm32")]
#[allow(missing_docs)]
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
        proxy_wasm::set_root_context(|id| Box::new(crate::Root::new(id)));
    }}
}
