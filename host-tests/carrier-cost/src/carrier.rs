//! The candidates, behind one face.

use crate::keys::Keys;
use crate::mailboxes::Mailboxes;
use crate::ring::Ring;

/// How events reach the other workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not at all: the baseline.
    #[default]
    Nothing,
    Mailboxes,
    Ring,
    Keys,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "mailboxes" => Self::Mailboxes,
            "ring" => Self::Ring,
            "keys" => Self::Keys,
            _ => Self::Nothing,
        }
    }
}

/// What came in.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The events, each copied out of the carrier.
    pub(crate) events: Vec<Vec<u8>>,
    /// Those that were overwritten before they were read.
    pub(crate) lost: u64,
}

/// Every candidate's end in this VM.
#[derive(Debug, Default)]
pub(crate) struct Carriers {
    mailboxes: Mailboxes,
    ring: Ring,
    keys: Keys,
}

impl Carriers {
    /// Makes this VM's own ends.
    pub(crate) fn open(worker: u32) -> Self {
        Self {
            mailboxes: Mailboxes::open(worker),
            ring: Ring::open(worker),
            keys: Keys::open(worker),
        }
    }

    /// Finds the other workers' ends; all have to be open.
    pub(crate) fn meet(&mut self, peers: &[u32]) {
        self.mailboxes.meet(peers);
        self.ring.meet(peers);
        self.keys.meet(peers);
    }

    /// Tells all other workers.
    pub(crate) fn send(&mut self, kind: Kind, event: &[u8]) {
        match kind {
            Kind::Nothing => {}
            Kind::Mailboxes => self.mailboxes.send(event),
            Kind::Ring => self.ring.send(event),
            Kind::Keys => self.keys.send(event),
        }
    }

    /// Takes what is new from all other workers.
    pub(crate) fn receive(&mut self, kind: Kind, received: &mut Received) {
        match kind {
            Kind::Nothing => {}
            Kind::Mailboxes => self.mailboxes.receive(received),
            Kind::Ring => self.ring.receive(received),
            Kind::Keys => self.keys.receive(received),
        }
    }
}
