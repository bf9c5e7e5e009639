//! The way of an answer back: the picker first, then the reader.

use super::{Simulation, usage};
use crate::stream::StreamId;
use crate::vm::Callback;
use crate::vm_record::Plugin;

/// Answers pass the chain from its end.
const BACKWARDS: [Plugin; 2] = [Plugin::Picker, Plugin::Reader];

impl Simulation {
    /// The head of an answer.
    pub(super) fn answer_headers(&mut self, id: StreamId, code: u32, end: bool) {
        let says = self.says(id);
        let Some(stream) = self.envoy().streams.get_mut(&id) else {
            return;
        };
        let headers = usage::headers(id, code, says);
        stream.code = Some(code);
        let callback = Callback::ResponseHeaders {
            headers: headers.len(),
            end,
        };
        stream.response_headers = Some(headers);
        for plugin in BACKWARDS {
            self.show_headers(id, plugin, callback, |at_hand| {
                &mut at_hand.response_headers
            });
        }
        if end {
            self.finish(id);
        }
    }

    /// A piece of an answer.
    pub(super) fn answer_body(&mut self, id: StreamId, bytes: usize, end: bool) {
        // An empty piece passes the filters only when it carries the end.
        let is_seen = bytes > 0 || end;
        for plugin in BACKWARDS.into_iter().filter(|_| is_seen) {
            self.answer_piece(id, plugin, bytes, end);
        }
        if end {
            self.finish(id);
        }
    }

    fn answer_piece(&mut self, id: StreamId, plugin: Plugin, size: usize, end: bool) -> Option<()> {
        let says = self.says(id);
        let stream = self.envoy().streams.get_mut(&id)?;
        if !stream.has_headers[plugin.place()] {
            return None;
        }
        stream.at_hand(plugin).response_body = usage::piece(id, size, says);
        self.call_filter(id, plugin, Callback::ResponseBody { size, end })?;
        let stream = self.envoy().streams.get_mut(&id)?;
        stream.at_hand(plugin).response_body.clear();
        Some(())
    }

    /// The end of an answer in trailers.
    pub(super) fn answer_trailers(&mut self, id: StreamId) {
        let callback = Callback::ResponseTrailers { trailers: 1 };
        for plugin in BACKWARDS {
            self.show_headers(id, plugin, callback, |at_hand| {
                &mut at_hand.response_trailers
            });
        }
        self.finish(id);
    }

    fn show_headers(
        &mut self,
        id: StreamId,
        plugin: Plugin,
        callback: Callback,
        place: impl Fn(&mut crate::stream::AtHand) -> &mut bool,
    ) -> Option<()> {
        let stream = self.envoy().streams.get_mut(&id)?;
        if !stream.has_headers[plugin.place()] {
            return None;
        }
        *place(stream.at_hand(plugin)) = true;
        self.call_filter(id, plugin, callback)?;
        let stream = self.envoy().streams.get_mut(&id)?;
        *place(stream.at_hand(plugin)) = false;
        Some(())
    }
}
