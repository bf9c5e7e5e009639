//! Host calls on a stream: headers, bodies, and what becomes of it.
//!
//! Envoy has headers and bodies at hand only in certain phases; in any other it answers `BadArgument`, on which the
//! SDK panics, and no body.

use proxy_wasm::types::{BufferType, MapType, Status, StreamType};

use super::{Action, Envoy, HeaderMap};
use crate::stream::{Stream, StreamId, Way};
use crate::trace::Detail;
use crate::vm::Callback;
use crate::vm_record::{Context, Plugin};

impl Envoy {
    /// The stream that calls act on, and as which filter.
    pub(super) fn stream_at_work(&self) -> Result<(StreamId, Plugin), Status> {
        let (vm, context) = self.at_work()?;
        let record = self.vms.get(&vm).ok_or(Status::InternalFailure)?;
        match record.contexts.get(&context) {
            Some(Context::Stream { stream, plugin, .. }) => Ok((*stream, *plugin)),
            _ => Err(Status::BadArgument),
        }
    }

    pub(super) fn stream_mut(&mut self, id: StreamId) -> Result<&mut Stream, Status> {
        self.streams.get_mut(&id).ok_or(Status::BadArgument)
    }

    /// Whether the log entry of the stream at work is being written: its headers can be read once more.
    fn is_logging(&self) -> bool {
        let turn = self.turn.as_ref();
        turn.is_some_and(|turn| turn.callback == Callback::Log && turn.effective == turn.context)
    }

    /// Headers that may be changed now.
    fn map_mut(&mut self, kind: MapType) -> Result<&mut HeaderMap, Status> {
        let (id, plugin) = self.stream_at_work()?;
        let stream = self.stream_mut(id)?;
        let at_hand = stream.at_hand[plugin.place()].clone();
        let map = match kind {
            MapType::HttpRequestHeaders if at_hand.request_headers => &mut stream.request_headers,
            MapType::HttpRequestTrailers if at_hand.request_trailers => &mut stream.trailers,
            MapType::HttpResponseTrailers if at_hand.response_trailers => &mut stream.trailers,
            MapType::HttpResponseHeaders if at_hand.response_headers => stream
                .response_headers
                .as_mut()
                .ok_or(Status::BadArgument)?,
            _ => return Err(Status::BadArgument),
        };
        Ok(map)
    }

    /// Headers that may be read now.
    fn map(&mut self, kind: MapType) -> Result<HeaderMap, Status> {
        match kind {
            MapType::HttpCallResponseHeaders => {
                let turn = self.turn.as_ref();
                let answer = turn.and_then(|turn| turn.answer.as_ref());
                let headers = answer.and_then(|answer| answer.headers.clone());
                headers.ok_or(Status::BadArgument)
            }
            MapType::HttpRequestHeaders if self.is_logging() => {
                let (id, _) = self.stream_at_work()?;
                Ok(self.stream_mut(id)?.request_headers.clone())
            }
            MapType::HttpResponseHeaders if self.is_logging() => {
                let (id, _) = self.stream_at_work()?;
                let headers = self.stream_mut(id)?.response_headers.clone();
                headers.ok_or(Status::BadArgument)
            }
            _ => self.map_mut(kind).cloned(),
        }
    }

    fn note_header(&mut self, name: &str, header: &[u8], value: &[u8]) {
        self.note(Detail::HostCalls, (name, header, value), || {
            format!(
                "      {name}({}, {})",
                header.escape_ascii(),
                value.escape_ascii()
            )
        });
    }

    pub(crate) fn header(&mut self, kind: MapType, name: &[u8]) -> Result<Vec<u8>, Status> {
        self.note_header("header", name, b"");
        let map = self.map(kind)?;
        map.get(name).map(<[u8]>::to_vec).ok_or(Status::NotFound)
    }

    pub(crate) fn header_pairs(&mut self, kind: MapType) -> Result<Vec<u8>, Status> {
        Ok(self.map(kind)?.encode())
    }

    pub(crate) fn set_header_pairs(&mut self, kind: MapType, pairs: &[u8]) -> Result<(), Status> {
        *self.map_mut(kind)? = HeaderMap::decode(pairs);
        Ok(())
    }

    pub(crate) fn add_header(
        &mut self,
        kind: MapType,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Status> {
        self.note_header("add_header", name, value);
        self.map_mut(kind)?.add(name, value);
        Ok(())
    }

    pub(crate) fn replace_header(
        &mut self,
        kind: MapType,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Status> {
        self.note_header("replace_header", name, value);
        self.map_mut(kind)?.replace(name, value);
        Ok(())
    }

    pub(crate) fn remove_header(&mut self, kind: MapType, name: &[u8]) -> Result<(), Status> {
        self.note_header("remove_header", name, b"");
        self.map_mut(kind)?.remove(name);
        Ok(())
    }

    fn whole_buffer(&mut self, kind: BufferType) -> Result<Vec<u8>, Status> {
        let turn = self.turn.as_ref().ok_or(Status::NotFound)?;
        match kind {
            BufferType::VmConfiguration | BufferType::CallData => Ok(Vec::new()),
            BufferType::PluginConfiguration => turn.configuration.clone().ok_or(Status::NotFound),
            BufferType::HttpCallResponseBody => {
                let answer = turn
                    .answer
                    .as_ref()
                    .filter(|answer| answer.headers.is_some());
                answer
                    .map(|answer| answer.body.clone())
                    .ok_or(Status::NotFound)
            }
            // Outside its phase a stream's buffer is empty and yet there.
            BufferType::HttpRequestBody | BufferType::HttpResponseBody => {
                let Ok((id, plugin)) = self.stream_at_work() else {
                    return Ok(Vec::new());
                };
                let at_hand = self.stream_mut(id)?.at_hand(plugin);
                Ok(match kind {
                    BufferType::HttpRequestBody => at_hand.request_body.clone(),
                    _ => at_hand.response_body.clone(),
                })
            }
            _ => Err(Status::NotFound),
        }
    }

    pub(crate) fn buffer(
        &mut self,
        kind: BufferType,
        start: usize,
        length: usize,
    ) -> Result<Vec<u8>, Status> {
        let mut bytes = self.whole_buffer(kind)?;
        // Lengths are 32 bits wide in the module's world: `usize::MAX` there is a length, not an overflow, at 0 only.
        let end = start.checked_add(length).ok_or(Status::BadArgument)?;
        bytes.truncate(end);
        Ok(bytes.split_off(start.min(bytes.len())))
    }

    /// Only the whole of a body at hand can be replaced, put before or added to; none of it is looked at again here.
    pub(crate) fn set_buffer(
        &mut self,
        kind: BufferType,
        start: usize,
        length: usize,
        _bytes: &[u8],
    ) -> Result<(), Status> {
        let held = self.whole_buffer(kind)?.len();
        let is_allowed = start >= held || (start == 0 && (length == 0 || length >= held));
        match is_allowed {
            true => Ok(()),
            false => Err(Status::BadArgument),
        }
    }

    pub(crate) fn continue_stream(&mut self, side: StreamType) -> Result<(), Status> {
        match side {
            StreamType::HttpRequest => self.continue_request(),
            StreamType::HttpResponse => Ok(()),
            _ => Err(Status::BadArgument),
        }
    }

    /// Headers are out of reach at once; what was held goes on when the callback is over.
    fn continue_request(&mut self) -> Result<(), Status> {
        let Ok((id, plugin)) = self.stream_at_work() else {
            return Ok(());
        };
        self.note(Detail::HostCalls, (id, "resume"), || {
            format!("      resume({})", id.0)
        });
        self.check_resume(id, plugin);
        let stream = self.stream_mut(id)?;
        stream.at_hand(plugin).request_headers = false;
        let way = std::mem::replace(&mut stream.way, Way::Passed);
        stream.way = match way {
            Way::Held {
                body,
                is_end,
                has_trailers,
            } => Way::Resumed {
                body,
                is_end,
                has_trailers,
            },
            other => other,
        };
        if let Some(turn) = self.turn.as_mut() {
            turn.actions.push(Action::Resume(id));
        }
        Ok(())
    }

    fn check_resume(&mut self, id: StreamId, plugin: Plugin) {
        let is_held = matches!(
            self.streams.get(&id).map(|stream| &stream.way),
            Some(Way::Held { .. })
        );
        if !is_held || plugin != Plugin::Picker {
            self.findings.violate(
                "each held request is resumed once",
                format!("stream {} was resumed as {plugin:?}, held: {is_held}", id.0),
            );
        }
        if self.is_in_last_chunk(id) {
            self.findings.violate(
                "no request is resumed in the callback of its last chunk, which HTTP/2 would lose",
                format!("stream {}", id.0),
            );
        }
    }

    fn is_in_last_chunk(&self, id: StreamId) -> bool {
        let Some(turn) = &self.turn else { return false };
        let record = self.vms.get(&turn.vm);
        let context = record.and_then(|record| record.contexts.get(&turn.context));
        let is_own = matches!(context, Some(Context::Stream { stream, .. }) if *stream == id);
        is_own && matches!(turn.callback, Callback::RequestBody { end: true, .. })
    }

    pub(crate) fn close_stream(&mut self, side: StreamType) -> Result<(), Status> {
        match side {
            StreamType::HttpRequest | StreamType::HttpResponse => {
                let (id, _) = self.stream_at_work()?;
                self.act(Action::Reset(id));
                Ok(())
            }
            _ => Err(Status::BadArgument),
        }
    }

    pub(crate) fn send_local_response(&mut self, code: u32) -> Result<(), Status> {
        if let Ok((id, _)) = self.stream_at_work() {
            self.act(Action::Answer(id, code));
        }
        Ok(())
    }

    fn act(&mut self, action: Action) {
        if let Some(turn) = self.turn.as_mut() {
            turn.actions.push(action);
        }
    }
}
