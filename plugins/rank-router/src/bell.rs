//! Wakes the VM in the next turn of its worker's event loop.
//!
//! A request must not be resumed inside the body callback that carries its end: over HTTP/2 Envoy loses that last
//! chunk. A shared queue that this VM registered for itself calls back on the same worker once the callback is over,
//! which costs about a microsecond.

use proxy_wasm::hostcalls;

/// A queue and the root that is called when something is in it.
#[derive(Clone, Copy, Debug)]
struct Bell {
    root: u32,
    queue: u32,
}

/// The bells of a VM: one for each picker root, of which any will do.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    bells: Vec<Bell>,
    is_rung: bool,
}

impl Bells {
    /// Registers a queue for `root`; its name must be new in this Envoy, because a queue calls only the last VM that
    /// registered it. Only in a root's callbacks.
    pub(crate) fn hang(&mut self, root: u32, name: &str) {
        if self.bells.iter().any(|bell| bell.root == root) {
            return;
        }
        if let Ok(queue) = hostcalls::register_shared_queue(name) {
            self.bells.push(Bell { root, queue });
        }
    }

    /// Forgets the bell of a root that goes away.
    pub(crate) fn take_down(&mut self, root: u32) {
        self.bells.retain(|bell| bell.root != root);
    }

    /// Asks for a call soon; does nothing when one is already on its way. Any phase.
    ///
    /// The newest bell first: the roots of an old configuration go away before those of a new one. When every bell
    /// is broken the next tick finds what is due.
    pub(crate) fn ring(&mut self) {
        if !self.is_rung {
            self.is_rung = self.bells.iter().rev().any(|bell| rings(bell.queue));
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
