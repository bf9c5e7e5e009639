//! Events as requests would make them, and how long they take to reach the other workers.

use crate::carrier::{Carriers, Kind, Received};
use crate::clock::now_ns;

/// What the first byte of an answer and its end take.
const SMALL_EVENT_BYTES: usize = 32;

/// What a worker sends and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    kind: Kind,
    pick_bytes: usize,
    pub(crate) sent: u64,
    pub(crate) received: Received,
    /// Of each event that was received, from its sending on.
    pub(crate) delays_us: Vec<u64>,
    /// What each pick spent on taking news.
    pub(crate) looks_ns: Vec<u64>,
    last_tick_ns: Option<u64>,
    /// Between ticks.
    pub(crate) ticks_us: Vec<u64>,
}

impl Load {
    /// Receives from now on; what came before is left out.
    pub(crate) fn listening(kind: Kind, pick_bytes: usize, carriers: &mut Carriers) -> Self {
        carriers.receive(kind, &mut Received::default());
        Self {
            kind,
            pick_bytes,
            ..Self::default()
        }
    }

    pub(crate) fn tick(&mut self, carriers: &mut Carriers) {
        let now = now_ns();
        if let Some(last) = self.last_tick_ns.replace(now) {
            self.ticks_us.push(now.saturating_sub(last) / 1000);
        }
        // Mail calls by itself.
        if self.kind != Kind::Mailboxes {
            self.look(carriers);
        }
    }

    /// Something is in the mailbox.
    pub(crate) fn mail(&mut self, carriers: &mut Carriers) {
        if self.kind == Kind::Mailboxes {
            self.look(carriers);
        } else {
            carriers.receive(Kind::Mailboxes, &mut Received::default());
        }
    }

    /// Takes what is still on its way: where the machine stood still, ticks are late.
    pub(crate) fn finish(&mut self, carriers: &mut Carriers) {
        self.look(carriers);
    }

    /// A pick knows all news before it is made.
    pub(crate) fn pick(&mut self, carriers: &mut Carriers) {
        let start = now_ns();
        self.look(carriers);
        self.looks_ns.push(now_ns().saturating_sub(start));
        self.send(carriers, self.pick_bytes);
    }

    /// The first byte of an answer, or its end.
    pub(crate) fn progress(&mut self, carriers: &mut Carriers) {
        self.send(carriers, SMALL_EVENT_BYTES);
    }

    fn send(&mut self, carriers: &mut Carriers, bytes: usize) {
        carriers.send(self.kind, &event(bytes));
        self.sent += 1;
    }

    fn look(&mut self, carriers: &mut Carriers) {
        carriers.receive(self.kind, &mut self.received);
        if self.received.events.is_empty() {
            return;
        }
        let now = now_ns();
        for event in self.received.events.drain(..) {
            let sent = event
                .first_chunk()
                .map_or(0, |sent| u64::from_le_bytes(*sent));
            self.delays_us.push(now.saturating_sub(sent) / 1000);
        }
    }
}

/// An event that says when it was sent.
pub(crate) fn event(bytes: usize) -> Vec<u8> {
    let mut event = vec![7; bytes];
    event[..8].copy_from_slice(&now_ns().to_le_bytes());
    event
}
