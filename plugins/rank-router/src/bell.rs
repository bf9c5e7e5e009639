//! Wakes the VM in the next turn of its worker's event loop.
//!
//! A request must not be resumed inside the body callback that carries its end: over HTTP/2 Envoy loses that last
//! chunk. A shared queue that this VM registered for itself calls back on the same worker once the callback is over,
//! which costs about a microsecond.

use proxy_wasm::hostcalls;

/// The queue of a VM, and the root that is called when something is in it.
#[derive(Debug)]
struct Hung {
    root: u32,
    name: String,
    queue: u32,
}

/// The bell of a VM. While none hangs, ticks find what is due.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    hung: Option<Hung>,
    is_rung: bool,
}

impl Bell {
    /// Registers a queue of this name, unless it is there already; calls go to `root`. Only in a root's callbacks.
    ///
    /// Queues are never removed, so names must be few; and a queue calls only the last VM that registered its name, so a
    /// name must belong to one VM at a time.
    pub(crate) fn hang(&mut self, root: u32, name: String) {
        if self.hung.as_ref().is_some_and(|hung| hung.name == name) {
            return;
        }
        let queue = hostcalls::register_shared_queue(&name);
        self.hung = queue.ok().map(|queue| Hung { root, name, queue });
        self.is_rung = false;
    }

    /// Forgets the bell if this root was called by it: the root goes away.
    pub(crate) fn take_down(&mut self, root: u32) {
        self.hung = self.hung.take().filter(|hung| hung.root != root);
    }

    /// Asks for a call soon; does nothing when one is already on its way. Any phase.
    pub(crate) fn ring(&mut self) {
        if !self.is_rung {
            self.is_rung = self.hung.as_ref().is_some_and(|hung| rings(hung.queue));
        }
    }

    /// Empties the queue while a call is waited for: were it never to come, it would grow by a word with each tick.
    pub(crate) fn empty(&self) {
        if let Some(hung) = self.hung.as_ref().filter(|_| self.is_rung) {
            drain(hung.queue);
        }
    }

    /// Notes that the call came, or that it is no longer waited for.
    pub(crate) fn silence(&mut self) {
        self.is_rung = false;
    }
}

/// Empties a queue that called.
pub(crate) fn drain(queue: u32) {
    while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(queue) {}
}

fn rings(queue: u32) -> bool {
    hostcalls::enqueue_shared_queue(queue, Some(b"due")).is_ok()
}
