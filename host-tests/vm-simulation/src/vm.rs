//! A VM: a thread with the module in its thread-locals.
//!
//! The SDK's dispatcher and the module's worker state are thread-locals, so one thread is one VM, and a new VM needs a
//! new thread.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use proxy_wasm::types::{Action, NewRootContext};

use crate::baton::{self, Report};
use crate::envoy::Envoy;
use crate::host_abi::module as entry;

/// Enough for the module's deepest callback in a debug build.
const STACK_BYTES: usize = 1024 * 1024;

/// A callback, with what Envoy passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Callback {
    Create {
        root: u32,
    },
    VmStart,
    Configure {
        size: usize,
    },
    Tick,
    QueueReady {
        queue: u32,
    },
    RequestHeaders {
        headers: usize,
        end: bool,
    },
    RequestBody {
        size: usize,
        end: bool,
    },
    RequestTrailers {
        trailers: usize,
    },
    ResponseHeaders {
        headers: usize,
        end: bool,
    },
    ResponseBody {
        size: usize,
        end: bool,
    },
    ResponseTrailers {
        trailers: usize,
    },
    HttpCallResponse {
        token: u32,
        headers: usize,
        size: usize,
    },
    Log,
    Done,
    Delete,
}

impl Callback {
    /// Calls the module; gives its return value, 0 for none.
    fn run(self, context: u32) -> u32 {
        match self {
            Self::VmStart => entry::proxy_on_vm_start(context, 0).into(),
            Self::Configure { size } => entry::proxy_on_configure(context, size).into(),
            Self::Done => entry::proxy_on_done(context).into(),
            other => other.run_on_stream(context).map_or_else(
                || {
                    other.run_without_answer(context);
                    0
                },
                |action| action as u32,
            ),
        }
    }

    /// Runs a callback that gives an action; nothing for others.
    fn run_on_stream(self, context: u32) -> Option<Action> {
        Some(match self {
            Self::RequestHeaders { headers, end } => {
                entry::proxy_on_request_headers(context, headers, end)
            }
            Self::RequestBody { size, end } => entry::proxy_on_request_body(context, size, end),
            Self::RequestTrailers { trailers } => {
                entry::proxy_on_request_trailers(context, trailers)
            }
            Self::ResponseHeaders { headers, end } => {
                entry::proxy_on_response_headers(context, headers, end)
            }
            Self::ResponseBody { size, end } => entry::proxy_on_response_body(context, size, end),
            Self::ResponseTrailers { trailers } => {
                entry::proxy_on_response_trailers(context, trailers)
            }
            _ => return None,
        })
    }

    fn run_without_answer(self, context: u32) {
        match self {
            Self::Create { root } => entry::proxy_on_context_create(context, root),
            Self::Tick => entry::proxy_on_tick(context),
            Self::QueueReady { queue } => entry::proxy_on_queue_ready(context, queue),
            Self::HttpCallResponse {
                token,
                headers,
                size,
            } => entry::proxy_on_http_call_response(context, token, headers, size, 0),
            Self::Log => entry::proxy_on_log(context),
            Self::Delete => entry::proxy_on_delete(context),
            _ => {}
        }
    }
}

struct Turn {
    envoy: Box<Envoy>,
    context: u32,
    callback: Callback,
}

/// The thread of a VM.
pub(crate) struct VmThread {
    turns: Sender<Turn>,
    reports: Receiver<Report>,
    thread: JoinHandle<()>,
}

impl VmThread {
    /// Starts a VM of this module, without any context.
    pub(crate) fn start(module: NewRootContext) -> Self {
        let (turns, inbox) = channel();
        let (outbox, reports) = channel();
        let builder = Builder::new().stack_size(STACK_BYTES);
        let thread = builder
            .spawn(move || live(module, &inbox, outbox))
            .expect("the system has a thread for a VM");
        Self {
            turns,
            reports,
            thread,
        }
    }

    /// Lets the VM run one callback.
    pub(crate) fn run(&self, envoy: Box<Envoy>, context: u32, callback: Callback) -> Report {
        let turn = Turn {
            envoy,
            context,
            callback,
        };
        self.turns.send(turn).expect("a live VM waits for a turn");
        self.reports.recv().expect("a VM reports how a turn ended")
    }

    /// Ends the VM without another callback that could be seen. Waits until its thread is gone, unless it panicked.
    pub(crate) fn end(self) {
        drop(self.turns);
        let is_lost = self.reports.recv().is_ok();
        if !is_lost {
            self.thread.join().expect("a VM's thread ends by itself");
        }
    }
}

fn live(module: NewRootContext, inbox: &Receiver<Turn>, outbox: Sender<Report>) {
    baton::enlist(outbox);
    proxy_wasm::set_root_context(module);
    let mut contexts = BTreeSet::new();
    while let Ok(turn) = inbox.recv() {
        baton::take(turn.envoy);
        let returned = turn.callback.run(turn.context);
        match turn.callback {
            Callback::Create { .. } => contexts.insert(turn.context),
            Callback::Delete => contexts.remove(&turn.context),
            _ => false,
        };
        if !baton::give_back(returned) {
            break;
        }
    }
    // As a ghost: contexts must not be left to the thread-locals' destructors, which find others gone already.
    for context in contexts.into_iter().rev() {
        entry::proxy_on_delete(context);
    }
    baton::discharge();
}
