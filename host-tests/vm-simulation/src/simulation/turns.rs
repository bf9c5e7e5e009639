//! Callbacks: into a VM, out of it, and what it left to do.

use super::Simulation;
use crate::baton::Report;
use crate::envoy::{Action, Envoy, Turn};
use crate::ranks::Flag;
use crate::stream::StreamId;
use crate::trace::Detail;
use crate::vm::Callback;
use crate::vm_record::{Context, Plugin, VmId};

/// A trap comes at one of so many first host calls of a callback, or at its end: most callbacks make few calls, and the
/// first of a VM many.
const LONGEST_FUSES: [u64; 3] = [2, 8, 80];

impl Simulation {
    /// Lets a VM run a callback; gives what it returned, or nothing when the VM is dead or died.
    pub(super) fn call(&mut self, vm: VmId, context: u32, callback: Callback) -> Option<u32> {
        self.take_turn(Turn::new(vm, context, callback))
    }

    /// As [`Self::call`], with what only this callback can see.
    pub(super) fn take_turn(&mut self, mut turn: Turn) -> Option<u32> {
        let thread = self.vms.get(&turn.vm)?;
        let mut envoy = self.envoy.take().expect("no VM runs");
        let (vm, context, callback) = (turn.vm, turn.context, turn.callback);
        turn.fuse = draw_fuse(&mut envoy);
        envoy.findings.count("callbacks");
        envoy.note(Detail::Callbacks, (vm, context, callback), || {
            format!("  vm {} context {context}: {callback:?}", vm.0)
        });
        envoy.turn = Some(turn);
        let report = thread.run(envoy, context, callback);
        self.end_turn(vm, report)
    }

    fn end_turn(&mut self, vm: VmId, report: Report) -> Option<u32> {
        match report {
            Report::Returned(envoy, value) => {
                self.envoy = Some(envoy);
                let turn = self.envoy().turn.take()?;
                if turn.fuse.is_some() {
                    self.trap(vm, "traps at the end of a callback");
                    return None;
                }
                for action in turn.actions {
                    self.do_action(vm, action);
                }
                Some(value)
            }
            Report::Trapped(envoy) => {
                self.envoy = Some(envoy);
                self.trap(vm, "traps inside a callback");
                None
            }
            Report::Panicked(envoy, message) => {
                self.envoy = Some(envoy);
                self.envoy().findings.violate("no VM panics", message);
                // Its thread never ends.
                self.vms.remove(&vm);
                self.forget(vm);
                None
            }
            Report::Lost => unreachable!("a ghost gets no turn"),
        }
    }

    fn do_action(&mut self, vm: VmId, action: Action) {
        match action {
            Action::Resume(id) => self.pass_on(id).unwrap_or(()),
            Action::Answer(id, code) => self.local_reply(id, code, None),
            Action::Reset(id) => self.break_off(id, Flag::UpstreamRemoteReset),
            Action::DeleteRoot(root) => self.delete_root(vm, root),
        }
    }

    fn trap(&mut self, vm: VmId, kind: &'static str) {
        self.envoy().findings.count(kind);
        self.traps += 1;
        if let Some(thread) = self.vms.remove(&vm) {
            thread.end();
        }
        self.forget(vm);
    }

    /// Takes a VM out of the world, and its streams with it: nothing of them is ever heard again.
    pub(super) fn forget(&mut self, vm: VmId) {
        let envoy = self.envoy();
        envoy.turn = None;
        envoy.note(Detail::Callbacks, ("gone", vm), || {
            format!("  vm {} is gone", vm.0)
        });
        envoy.vms.remove(&vm);
        envoy.calls.retain(|(owner, _), _| *owner != vm);
        let before = envoy.streams.len();
        envoy.streams.retain(|_, stream| stream.vm != vm);
        let lost = before - envoy.streams.len();
        envoy
            .findings
            .figures
            .add("requests lost to traps", lost as u64);
        self.lost_to_traps += lost as u64;
        for thread in &mut self.threads {
            thread.vm = thread.vm.filter(|held| *held != vm);
        }
    }

    pub(super) fn is_open(&mut self, id: StreamId) -> bool {
        self.envoy().streams.contains_key(&id)
    }

    /// Calls a filter of a stream, if it has a context there; gives what it returned.
    pub(super) fn call_filter(
        &mut self,
        id: StreamId,
        plugin: Plugin,
        callback: Callback,
    ) -> Option<u32> {
        let stream = self.envoy().streams.get(&id)?;
        let (vm, context) = (stream.vm, stream.contexts[plugin.place()]?);
        let action = self.call(vm, context, callback)?;
        let may_hold = match plugin {
            Plugin::Picker => matches!(callback, Callback::RequestHeaders { .. }),
            // A request that it has answered by itself is over by now.
            Plugin::Reader => !self.is_open(id),
        };
        if action != 0 && is_of_traffic(callback) && !may_hold {
            let how = format!("{plugin:?} paused in {callback:?}");
            self.envoy()
                .findings
                .violate("only the picker holds, and only headers", how);
        }
        Some(action)
    }

    /// Makes a filter's context.
    pub(super) fn create_context(&mut self, id: StreamId, plugin: Plugin) -> Option<()> {
        let envoy = self.envoy();
        let stream = envoy.streams.get_mut(&id)?;
        let (vm, root) = (stream.vm, stream.roots[plugin.place()]);
        let context = envoy.vms.get_mut(&vm)?.add_context(Context::Stream {
            stream: id,
            plugin,
            root,
        });
        stream.contexts[plugin.place()] = Some(context);
        self.call(vm, context, Callback::Create { root })?;
        self.is_open(id).then_some(())
    }
}

/// Callbacks whose return value is an action.
fn is_of_traffic(callback: Callback) -> bool {
    !matches!(
        callback,
        Callback::Create { .. } | Callback::Log | Callback::Done | Callback::Delete
    )
}

fn draw_fuse(envoy: &mut Envoy) -> Option<u32> {
    let traps = envoy.chance.hits(envoy.chaos.trap);
    traps.then(|| {
        let longest = envoy.chance.pick(&LONGEST_FUSES);
        let fuse = envoy.chance.between(0, longest);
        u32::try_from(fuse).expect("fuses are short")
    })
}
