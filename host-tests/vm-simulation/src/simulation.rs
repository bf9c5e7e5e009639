//! One run: an Envoy with its VMs, from start to rest.
//!
//! First there is traffic with troubles. Then everything calms down: one plain request to each worker (which reloads a
//! VM that trapped), and time enough for every lease to run out. What must hold afterwards is in
//! [`crate::invariants`].

mod afterwards;
mod answers;
mod configuration;
mod endings;
mod probes;
mod requests;
mod router;
mod troubles;
mod turns;
mod usage;
mod vms;

use std::collections::BTreeMap;

use proxy_wasm::types::NewRootContext;

use crate::baton;
use crate::chance::Chance;
use crate::chaos::Chaos;
use crate::envoy::Envoy;
use crate::findings::Figures;
use crate::hostile;
use crate::invariants::{self, Underway};
use crate::schedule::{Event, MS};
use crate::stream::StreamId;
use crate::trace::Detail;
use crate::vm::VmThread;
use crate::vm_record::{Plugin, VmId};

use configuration::Configuration;

/// How long a gateway rests before it is judged: longer than any lease.
const REST_NS: u64 = 32_000 * MS;
/// No worker reloads a VM sooner after the last load.
const RELOAD_BACKOFF_NS: u64 = 1_100 * MS;
/// More events than any run has that comes to rest.
const MOST_EVENTS: u64 = 400_000;

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What makes the roots of the module under test.
    pub module: NewRootContext,
    /// Requests per run are drawn up to this.
    pub most_requests: u64,
    /// Whether VMs may trap: a module must take back what a dead VM had counted to pass with that.
    pub may_trap: bool,
    /// How many bodies say what a client must not say: a module must refuse these to pass with any.
    pub forbidden_share: f64,
    /// Whether some of a seed's clients may be hostile.
    pub may_be_hostile: bool,
    /// Invariants that are not judged, by the beginning of their name.
    pub except: &'static [String],
    /// What is printed.
    pub detail: Detail,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            module: |id| Box::new(rank_router::Root::new(id)),
            most_requests: 30,
            may_trap: true,
            forbidden_share: 0.05,
            may_be_hostile: true,
            except: &[],
            detail: Detail::Silent,
        }
    }
}

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Broken invariants; the run ended at the first.
    pub violations: Vec<String>,
    /// Counts and peaks.
    pub figures: Figures,
    /// Equal for equal runs.
    pub digest: u64,
}

/// A thread of Envoy and the VM in it.
#[derive(Debug, Default)]
struct EnvoyThread {
    vm: Option<VmId>,
    loaded_ns: u64,
    stalled_until_ns: u64,
}

/// A run under way.
pub(crate) struct Simulation {
    /// Away while a VM runs.
    envoy: Option<Box<Envoy>>,
    vms: BTreeMap<VmId, VmThread>,
    threads: Vec<EnvoyThread>,
    module: NewRootContext,
    forbidden_share: f64,
    configuration: Configuration,
    last_vm: u32,
    last_stream: u32,
    arrivals_left: u64,
    is_resting: bool,
    /// Bytes that Envoy holds of a body before it stops reading.
    buffer_limit: usize,
    hostile_share: f64,
    /// Whether no rank, clock or VM has any trouble in this run: then only clients can be to blame for anything.
    pub(crate) spares_ranks: bool,
    /// Requests of which all has come.
    pub(crate) underway: Underway,
    /// Prompts that no rank served, as they are asked again after rest.
    refused: Vec<Vec<u8>>,
    pub(crate) passed: u64,
    pub(crate) lost_to_traps: u64,
    pub(crate) traps: u64,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    baton::prepare();
    let mut simulation = Simulation::new(seed, options);
    simulation.live();
    simulation.end()
}

/// Draws how many clients are hostile. Half of the seeds with any have no other trouble that a rank could be blamed for.
fn draw_hostile_share(envoy: &mut Envoy, options: Options) -> f64 {
    if !options.may_be_hostile {
        return 0.0;
    }
    let share = hostile::draw_share(&mut envoy.chance);
    if share > 0.0 && envoy.chance.hits(0.5) {
        envoy.chaos.spare_ranks();
    }
    share
}

impl Simulation {
    fn new(seed: u64, options: Options) -> Self {
        let mut envoy = Box::new(Envoy::new(Chance::of(seed), options.detail));
        envoy.findings.except = options.except;
        if !options.may_trap {
            envoy.chaos.trap = 0.0;
        }
        let hostile_share = draw_hostile_share(&mut envoy, options);
        let spares_ranks = envoy.chaos.spares_ranks();
        envoy.ranks.are_truthful = spares_ranks && hostile_share > 0.0;
        let chance = &mut envoy.chance;
        let workers = chance.length(1, 4);
        let threads = (0..=workers).map(|_| EnvoyThread::default()).collect();
        Self {
            configuration: Configuration::draw(&envoy.ranks, &mut envoy.chance),
            arrivals_left: envoy.chance.between(1, options.most_requests),
            buffer_limit: envoy.chance.pick(&[2_000, 32_768, 1_048_576]),
            envoy: Some(envoy),
            vms: BTreeMap::new(),
            threads,
            module: options.module,
            forbidden_share: options.forbidden_share,
            last_vm: 0,
            last_stream: 0,
            is_resting: false,
            hostile_share,
            spares_ranks,
            underway: Underway::default(),
            refused: Vec::new(),
            passed: 0,
            lost_to_traps: 0,
            traps: 0,
        }
    }

    /// The Envoy, which is here between callbacks.
    pub(crate) fn envoy(&mut self) -> &mut Envoy {
        self.envoy.as_deref_mut().expect("no VM runs")
    }

    fn live(&mut self) {
        self.boot();
        self.next_arrival();
        self.begin_troubles();
        if self.run_until(u64::MAX) {
            self.begin_rest();
            let end_ns = self.stalled_until_ns() + REST_NS;
            if self.run_until(end_ns) && self.ask_afterwards() {
                invariants::judge(self);
            }
        }
    }

    /// Since when a stream has been waiting for nothing but its VM: its client's last byte, or the end of its thread's
    /// last stall.
    pub(crate) fn idle_since_ns(&mut self, id: StreamId) -> Option<u64> {
        let stream = self.envoy().streams.get(&id)?;
        let (thread, last_byte_ns) = (stream.thread, stream.last_byte_ns);
        let stalled_until_ns = self.threads[thread].stalled_until_ns;
        Some(last_byte_ns.max(stalled_until_ns))
    }

    /// Runs until the traffic is over or to a moment; false when an invariant broke.
    fn run_until(&mut self, end_ns: u64) -> bool {
        for _ in 0..MOST_EVENTS {
            if !self.envoy().findings.violations.is_empty() {
                return false;
            }
            if !self.is_resting && self.is_traffic_over() {
                return true;
            }
            match self.envoy().agenda.next_until(end_ns) {
                Some((at_ns, event)) => self.happen(at_ns, event),
                None => return true,
            }
        }
        let how = format!("more than {MOST_EVENTS} events");
        self.envoy().findings.violate("a run comes to rest", how);
        false
    }

    /// When the last stall is over.
    fn stalled_until_ns(&mut self) -> u64 {
        let now_ns = self.envoy().clock.now_ns();
        let stalls = self.threads.iter().map(|thread| thread.stalled_until_ns);
        stalls.fold(now_ns, u64::max)
    }

    fn is_traffic_over(&mut self) -> bool {
        self.arrivals_left == 0 && self.envoy().streams.is_empty()
    }

    /// Ends all troubles, and sends a last request to each worker once it may reload.
    fn begin_rest(&mut self) {
        self.is_resting = true;
        let threads = self.threads.len();
        let envoy = self.envoy();
        envoy.note(Detail::Callbacks, "rest", || "=== rest");
        envoy.chaos = Chaos::rest();
        envoy.agenda.drop_all(troubles::is_trouble);
        for thread in 1..threads {
            envoy.after(RELOAD_BACKOFF_NS, Event::Arrival { thread });
        }
        troubles::mend(&mut envoy.ranks);
    }

    fn happen(&mut self, at_ns: u64, event: Event) {
        self.envoy().clock.advance_to(at_ns);
        if let Some(thread) = self.thread_of(&event) {
            let until_ns = self.threads[thread].stalled_until_ns;
            if until_ns > at_ns {
                self.envoy().after(until_ns - at_ns, event);
                return;
            }
        }
        let envoy = self.envoy();
        envoy.findings.count("events");
        envoy.note(Detail::Callbacks, &event, || format!("{event:?}"));
        self.act(event);
        invariants::judge_moment(self);
    }

    fn thread_of(&mut self, event: &Event) -> Option<usize> {
        let envoy = self.envoy();
        let of_stream = |id: &StreamId| envoy.streams.get(id).map(|stream| stream.thread);
        match event {
            Event::ClientStep(id) | Event::ClientAbort(id) | Event::IdleTimeout(id) => {
                of_stream(id)
            }
            Event::RankStep { stream, .. } => of_stream(stream),
            Event::Tick { vm, .. } | Event::CallAnswer { vm, .. } | Event::Drain { vm, .. } => {
                envoy.vms.get(vm).map(|record| record.thread)
            }
            other => other.thread(),
        }
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Arrival { thread } => self.arrive(thread),
            Event::ClientStep(id) => self.client_step(id),
            Event::ClientAbort(id) => self.client_abort(id),
            Event::IdleTimeout(id) => self.idle_timeout(id),
            Event::RankStep { stream, attempt } => self.rank_step(stream, attempt),
            Event::Tick { vm, root, epoch } => self.tick(vm, root, epoch),
            Event::QueueReady {
                thread,
                root,
                queue,
            } => self.queue_ready(thread, root, queue),
            Event::CallAnswer { vm, token } => self.call_answer(vm, token),
            Event::Update(plugin) => self.update(plugin),
            Event::NewRoot { thread, plugin } => self.new_root(thread, plugin),
            Event::Drain { vm, root } => self.drain(vm, root),
            Event::Junk | Event::ClockJump | Event::Stall | Event::RankMood => self.trouble(&event),
        }
    }

    /// Ends all VMs and gives the findings.
    fn end(mut self) -> Outcome {
        std::mem::take(&mut self.vms)
            .into_values()
            .for_each(VmThread::end);
        let envoy = self.envoy();
        Outcome {
            violations: std::mem::take(&mut envoy.findings.violations),
            figures: std::mem::take(&mut envoy.findings.figures),
            digest: envoy.trace.digest(),
        }
    }

    fn new_configuration(&mut self, plugin: Plugin) -> bool {
        let envoy = self.envoy.as_deref_mut().expect("no VM runs");
        self.configuration
            .renew(plugin, &envoy.ranks, &mut envoy.chance)
    }
}
