//! What ends a stream, and the callbacks that follow whatever it was.

use super::Simulation;
use crate::invariants;
use crate::ranks::Flag;
use crate::stream::{StreamId, Way};
use crate::vm::Callback;
use crate::vm_record::Plugin;

/// Bytes of Envoy's own answers.
const LOCAL_REPLY_BYTES: usize = 24;

impl Simulation {
    pub(super) fn client_abort(&mut self, id: StreamId) {
        let Some(stream) = self.envoy().streams.get(&id) else {
            return;
        };
        let is_held = stream.is_held();
        let figures = &mut self.envoy().findings.figures;
        figures.add("clients gone", 1);
        figures.add("clients gone while held", is_held.into());
        self.break_off(id, Flag::DownstreamConnectionTermination);
    }

    /// Envoy has waited long enough. A request must not be held any more by then.
    pub(super) fn idle_timeout(&mut self, id: StreamId) {
        let Some(stream) = self.envoy().streams.get(&id) else {
            return;
        };
        let (is_held, is_answered) = (stream.is_held(), stream.code.is_some());
        self.envoy().findings.count("streams timed out");
        if is_held {
            invariants::judge_hold(self, id);
        }
        match is_answered {
            true => self.break_off(id, Flag::StreamIdleTimeout),
            false => self.local_reply(id, 408, Some(Flag::StreamIdleTimeout)),
        }
    }

    /// Envoy answers by itself: the filters see it as any other answer.
    pub(super) fn local_reply(&mut self, id: StreamId, code: u32, flag: Option<Flag>) {
        let Some(stream) = self.envoy().streams.get_mut(&id) else {
            return;
        };
        stream.flag = flag;
        stream.way = Way::Passed;
        self.envoy().findings.count("local replies");
        self.answer_headers(id, code, false);
        self.answer_body(id, LOCAL_REPLY_BYTES, true);
    }

    /// Ends a stream without an answer, or in the middle of one.
    pub(super) fn break_off(&mut self, id: StreamId, flag: Flag) {
        if let Some(stream) = self.envoy().streams.get_mut(&id) {
            stream.flag = Some(flag);
        }
        self.finish(id);
    }

    /// The log entry, then the end of each filter. A filter that never saw the request is made for its log entry.
    pub(super) fn finish(&mut self, id: StreamId) {
        self.note_end(id);
        self.log_and_delete(id);
        // Gone already when its VM died on the way.
        self.envoy().streams.remove(&id);
    }

    /// Notes what no rank served. Of an answer that began well and broke off it is not known what the rank did.
    fn note_end(&mut self, id: StreamId) {
        let envoy = self.envoy();
        let now_ns = envoy.clock.now_ns();
        let Some(stream) = envoy.streams.get_mut(&id) else {
            return;
        };
        let is_served = stream.code.is_some_and(|code| (200..300).contains(&code));
        let again = stream.plan.again.take().filter(|_| !is_served);
        let is_whole = stream.is_whole;
        self.refused.extend(again);
        if is_whole {
            self.underway.ended(now_ns);
        }
    }

    fn log_and_delete(&mut self, id: StreamId) -> Option<()> {
        for plugin in Plugin::CHAIN {
            let stream = self.envoy().streams.get(&id)?;
            if stream.contexts[plugin.place()].is_none() {
                self.create_context(id, plugin)?;
            }
            self.call_filter(id, plugin, Callback::Log)?;
        }
        for plugin in Plugin::CHAIN {
            self.call_filter(id, plugin, Callback::Done)?;
            self.call_filter(id, plugin, Callback::Delete)?;
            self.remove_context(id, plugin)?;
        }
        Some(())
    }

    fn remove_context(&mut self, id: StreamId, plugin: Plugin) -> Option<()> {
        let envoy = self.envoy();
        let stream = envoy.streams.get_mut(&id)?;
        let context = stream.contexts[plugin.place()].take()?;
        let (vm, root) = (stream.vm, stream.roots[plugin.place()]);
        let record = envoy.vms.get_mut(&vm)?;
        record.contexts.remove(&context);
        record.root_mut(root)?.streams -= 1;
        Some(())
    }
}
