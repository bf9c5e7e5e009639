//! A shared queue for each VM: the sender puts each event into the queue of each other worker.

use proxy_wasm::hostcalls;

use crate::carrier::Received;

#[derive(Debug, Default)]
pub(crate) struct Mailboxes {
    own: Option<u32>,
    peers: Vec<u32>,
}

impl Mailboxes {
    pub(crate) fn open(worker: u32) -> Self {
        let own = hostcalls::register_shared_queue(&name(worker)).ok();
        Self {
            own,
            peers: Vec::new(),
        }
    }

    pub(crate) fn meet(&mut self, peers: &[u32]) {
        let queue = |peer: &u32| {
            let queue = hostcalls::resolve_shared_queue("", &name(*peer)).ok();
            queue.flatten().expect("the peer has opened its mailbox")
        };
        self.peers = peers.iter().map(queue).collect();
    }

    pub(crate) fn send(&mut self, event: &[u8]) {
        for peer in &self.peers {
            hostcalls::enqueue_shared_queue(*peer, Some(event)).expect("the queue is there");
        }
    }

    pub(crate) fn receive(&mut self, received: &mut Received) {
        let Some(own) = self.own else { return };
        while let Ok(Some(event)) = hostcalls::dequeue_shared_queue(own) {
            received.events.push(event);
        }
    }
}

fn name(worker: u32) -> String {
    format!("carrier.mailbox.{worker}")
}
