//! The fake Envoy: everything that is not inside a VM.

mod clock;
mod header_map;
mod hostcalls;
mod metrics;
mod properties;
mod queues;
mod shared_data;
mod streams;

use std::collections::BTreeMap;

use clock::Clock;
pub(crate) use header_map::HeaderMap;
use metrics::Metrics;
use queues::Queues;
use shared_data::SharedData;

use crate::backend::{CallAnswer, CallRequest};
use crate::chance::Chance;
use crate::chaos::Chaos;
use crate::findings::Findings;
use crate::ranks::Ranks;
use crate::schedule::{Agenda, Event};
use crate::stream::{Stream, StreamId};
use crate::trace::{Detail, Trace};
use crate::vm::Callback;
use crate::vm_record::{VmId, VmRecord};

/// What a host call asks for that Envoy does once the callback is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The request goes on.
    Resume(StreamId),
    /// The stream is answered with this status.
    Answer(StreamId, u32),
    /// The stream is broken off.
    Reset(StreamId),
    /// A root is done at last.
    DeleteRoot(u32),
}

/// The callback that runs.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) vm: VmId,
    pub(crate) context: u32,
    pub(crate) callback: Callback,
    effective: u32,
    /// Host calls until the VM traps.
    pub(crate) fuse: Option<u32>,
    pub(crate) actions: Vec<Action>,
    pub(crate) configuration: Option<Vec<u8>>,
    pub(crate) answer: Option<CallAnswer>,
}

impl Turn {
    pub(crate) fn new(vm: VmId, context: u32, callback: Callback) -> Self {
        Self {
            vm,
            context,
            callback,
            effective: context,
            fuse: None,
            actions: Vec::new(),
            configuration: None,
            answer: None,
        }
    }
}

/// A call that is not answered yet.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) root: u32,
    pub(crate) request: CallRequest,
}

/// The state of one Envoy process and its world.
pub(crate) struct Envoy {
    pub(crate) chance: Chance,
    pub(crate) chaos: Chaos,
    pub(crate) clock: Clock,
    pub(crate) agenda: Agenda,
    pub(crate) shared_data: SharedData,
    pub(crate) queues: Queues,
    pub(crate) metrics: Metrics,
    pub(crate) vms: BTreeMap<VmId, VmRecord>,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) calls: BTreeMap<(VmId, u32), Call>,
    pub(crate) ranks: Ranks,
    pub(crate) findings: Findings,
    pub(crate) trace: Trace,
    pub(crate) turn: Option<Turn>,
}

impl Envoy {
    pub(crate) fn new(mut chance: Chance, detail: Detail) -> Self {
        let ranks = Ranks::new(chance.length(1, 8));
        let chaos = Chaos::draw(&mut chance);
        Self {
            chaos,
            chance,
            clock: Clock::default(),
            agenda: Agenda::default(),
            shared_data: SharedData::default(),
            queues: Queues::default(),
            metrics: Metrics::default(),
            vms: BTreeMap::new(),
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            ranks,
            findings: Findings::default(),
            trace: Trace::new(detail),
            turn: None,
        }
    }

    /// Lets something happen after a while.
    pub(crate) fn after(&mut self, wait_ns: u64, event: Event) {
        let lot = self.chance.between(0, u64::MAX);
        let at_ns = self.clock.now_ns().saturating_add(wait_ns);
        self.agenda.add(at_ns, lot, event);
    }

    pub(crate) fn note<L: std::fmt::Display>(
        &mut self,
        detail: Detail,
        what: impl std::hash::Hash,
        line: impl FnOnce() -> L,
    ) {
        self.trace.note(detail, self.clock.now_ns(), what, line);
    }

    /// Counts a host call; true when the VM traps instead of making it.
    pub(crate) fn traps_now(&mut self) -> bool {
        let fuse = self.turn.as_mut().and_then(|turn| turn.fuse.as_mut());
        match fuse {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// The next tick of a root, unless its timer is off or in a canary.
    pub(crate) fn arm_tick(&mut self, vm: VmId, root: u32) {
        let Some(record) = self.vms.get(&vm) else {
            return;
        };
        let is_canary = record.is_canary;
        let Some(state) = record.root(root) else {
            return;
        };
        let (period_ms, epoch) = (state.tick_period_ms, state.tick_epoch);
        if period_ms == 0 || is_canary {
            return;
        }
        let period_ns = u64::from(period_ms) * crate::schedule::MS;
        let mut wait_ns = period_ns.max(self.chaos.tick_floor_ns);
        while self.chance.hits(self.chaos.lost_tick) {
            self.findings.count("ticks left out");
            wait_ns += period_ns;
        }
        self.after(wait_ns, Event::Tick { vm, root, epoch });
    }
}
