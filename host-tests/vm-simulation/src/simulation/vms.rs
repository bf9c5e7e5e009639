//! VMs and roots: start, reload, new configurations, timers, queues and calls.

use super::{EnvoyThread, RELOAD_BACKOFF_NS, Simulation};
use crate::backend;
use crate::envoy::Turn;
use crate::schedule::{Event, MS};
use crate::vm::{Callback, VmThread};
use crate::vm_record::{Context, MAIN_THREAD, Plugin, Root, VmId, VmRecord};

impl Simulation {
    /// Envoy starts: a canary for each filter, then the main thread and the workers.
    pub(super) fn boot(&mut self) {
        for plugin in Plugin::CHAIN {
            let text = self.configuration.of(plugin).to_string();
            self.try_in_canary(plugin, &text);
        }
        for thread in 0..self.threads.len() {
            self.load(thread);
        }
    }

    fn start_vm(&mut self, thread: usize, is_canary: bool) -> VmId {
        self.last_vm += 1;
        let vm = VmId(self.last_vm);
        self.vms.insert(vm, VmThread::start(self.module));
        let record = VmRecord::new(thread, is_canary);
        self.envoy().vms.insert(vm, record);
        self.envoy().findings.count("VMs");
        vm
    }

    /// Runs a configuration in a VM that is thrown away; false when it is refused.
    fn try_in_canary(&mut self, plugin: Plugin, text: &str) -> bool {
        let vm = self.start_vm(MAIN_THREAD, true);
        let is_accepted = self.add_root(vm, plugin, text).unwrap_or(false);
        if let Some(thread) = self.vms.remove(&vm) {
            thread.end();
            self.forget(vm);
        }
        is_accepted
    }

    /// Gives a thread a VM with both filters, unless it traps on the way.
    fn load(&mut self, thread: usize) -> Option<VmId> {
        let vm = self.start_vm(thread, false);
        self.threads[thread] = EnvoyThread {
            vm: Some(vm),
            loaded_ns: self.envoy().clock.now_ns(),
            ..EnvoyThread::default()
        };
        for plugin in Plugin::CHAIN {
            let text = self.configuration.of(plugin).to_string();
            self.add_root(vm, plugin, &text)?;
        }
        Some(vm)
    }

    /// Makes a root and configures it; gives whether it accepts, nothing when the VM died.
    fn add_root(&mut self, vm: VmId, plugin: Plugin, text: &str) -> Option<bool> {
        self.envoy().findings.count("roots");
        let record = self.envoy().vms.get_mut(&vm)?;
        let root = record.add_context(Context::Root(Root::default()));
        self.call(vm, root, Callback::Create { root: 0 })?;
        self.call(vm, root, Callback::VmStart)?;
        let mut turn = Turn::new(vm, root, Callback::Configure { size: text.len() });
        turn.configuration = Some(text.as_bytes().to_vec());
        let is_accepted = self.take_turn(turn)? != 0;
        self.envoy().vms.get_mut(&vm)?.roots[plugin.place()] = Some(root);
        Some(is_accepted)
    }

    /// The VM for a new request; after a trap a new one is loaded, but not too soon.
    pub(super) fn vm_for_request(&mut self, thread: usize) -> Option<VmId> {
        let now_ns = self.envoy().clock.now_ns();
        let state = &self.threads[thread];
        if state.vm.is_some() {
            return state.vm;
        }
        if now_ns.saturating_sub(state.loaded_ns) < RELOAD_BACKOFF_NS {
            return None;
        }
        self.envoy().findings.count("reloads");
        self.load(thread)
    }

    /// A new configuration: tried first, then taken over by each thread in its own time.
    pub(super) fn update(&mut self, plugin: Plugin) {
        self.plan_update();
        let is_right = self.new_configuration(plugin);
        let text = match self.configuration.wrong() {
            Some(wrong) => wrong.to_string(),
            None => self.configuration.of(plugin).to_string(),
        };
        let traps = self.traps;
        let is_accepted = self.try_in_canary(plugin, &text);
        if is_accepted != is_right && self.traps == traps {
            let how = format!("{text}: {is_accepted}");
            self.envoy()
                .findings
                .violate("right configurations alone are accepted", how);
        }
        self.envoy().findings.count("configuration updates");
        if is_right {
            for thread in 0..self.threads.len() {
                let wait_ns = self.envoy().chance.between(0, 50 * MS);
                self.envoy()
                    .after(wait_ns, Event::NewRoot { thread, plugin });
            }
        }
    }

    /// A thread takes over the newest configuration. A dead VM of a worker waits for a request; nothing else than this
    /// brings back the main thread's.
    pub(super) fn new_root(&mut self, thread: usize, plugin: Plugin) {
        let Some(vm) = self.threads[thread].vm else {
            if thread == MAIN_THREAD {
                self.load(thread);
            }
            return;
        };
        let record = self.envoy().vms.get(&vm);
        let old = record.and_then(|record| record.roots[plugin.place()]);
        let text = self.configuration.of(plugin).to_string();
        let is_accepted = self.add_root(vm, plugin, &text);
        if is_accepted == Some(false) {
            self.envoy()
                .findings
                .violate("what the canary accepts is accepted", text);
        }
        if let Some(root) = old {
            let wait_ns = self.envoy().chance.between(0, 1_000 * MS);
            self.envoy().after(wait_ns, Event::Drain { vm, root });
        }
    }

    /// An old root goes away, once no stream is left that it made.
    pub(super) fn drain(&mut self, vm: VmId, root: u32) {
        let record = self.envoy().vms.get_mut(&vm);
        let Some(state) = record.and_then(|record| record.root_mut(root)) else {
            return;
        };
        if state.streams > 0 {
            self.envoy().after(100 * MS, Event::Drain { vm, root });
            return;
        }
        state.is_draining = true;
        match self.call(vm, root, Callback::Done) {
            Some(0) => {
                let record = self.envoy().vms.get_mut(&vm);
                if let Some(state) = record.and_then(|record| record.root_mut(root)) {
                    state.is_pending = true;
                }
            }
            Some(_) => self.delete_root(vm, root),
            None => {}
        }
    }

    pub(super) fn delete_root(&mut self, vm: VmId, root: u32) {
        self.call(vm, root, Callback::Delete);
        if let Some(record) = self.envoy().vms.get_mut(&vm) {
            record.contexts.remove(&root);
            self.envoy().findings.count("roots drained");
        }
        self.envoy()
            .calls
            .retain(|(owner, _), call| *owner != vm || call.root != root);
    }

    pub(super) fn tick(&mut self, vm: VmId, root: u32, epoch: u32) {
        let record = self.envoy().vms.get(&vm);
        let state = record.and_then(|record| record.root(root));
        let is_due = state.is_some_and(|state| state.tick_epoch == epoch && !state.is_draining);
        if !is_due {
            return;
        }
        self.call(vm, root, Callback::Tick);
        let record = self.envoy().vms.get(&vm);
        let state = record.and_then(|record| record.root(root));
        if state.is_some_and(|state| state.tick_epoch == epoch) {
            self.envoy().arm_tick(vm, root);
        }
    }

    /// Whoever has the root's number on this thread now is called.
    pub(super) fn queue_ready(&mut self, thread: usize, root: u32, queue: u32) {
        let Some(vm) = self.threads[thread].vm else {
            return;
        };
        let record = self.envoy().vms.get(&vm);
        if record.is_some_and(|record| record.root(root).is_some()) {
            self.envoy().findings.count("queue callbacks");
            self.call(vm, root, Callback::QueueReady { queue });
        }
    }

    pub(super) fn call_answer(&mut self, vm: VmId, token: u32) {
        let envoy = self.envoy();
        let Some(call) = envoy.calls.remove(&(vm, token)) else {
            return;
        };
        let troubles = envoy.chaos.calls.clone();
        let answer = backend::answer(&call.request, &envoy.ranks, &troubles, &mut envoy.chance);
        envoy.findings.count("HTTP calls answered");
        let callback = Callback::HttpCallResponse {
            token,
            headers: answer.headers.as_ref().map_or(0, |headers| headers.len()),
            size: answer.body.len(),
        };
        let mut turn = Turn::new(vm, call.root, callback);
        turn.answer = Some(answer);
        self.take_turn(turn);
    }
}
