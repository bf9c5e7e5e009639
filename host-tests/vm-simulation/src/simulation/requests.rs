//! The way of a request from its client through both filters.

use super::Simulation;
use crate::envoy::Envoy;
use crate::hostile;
use crate::invariants;
use crate::schedule::{Event, MS};
use crate::stream::{ClientPlan, LocalReply, Stream, StreamId, Way};
use crate::traffic;
use crate::vm::Callback;
use crate::vm_record::{Plugin, VmId};

impl Simulation {
    /// Plans the next request, if one is left.
    pub(super) fn next_arrival(&mut self) {
        let threads = self.threads.len();
        let envoy = self.envoy();
        let thread = envoy.chance.length(1, threads - 1);
        let longest_ms = envoy.chance.pick(&[1, 20, 200, 800]);
        let wait_ns = envoy.chance.between(0, longest_ms * MS);
        envoy.after(wait_ns, Event::Arrival { thread });
    }

    pub(super) fn arrive(&mut self, thread: usize) {
        let is_resting = self.is_resting;
        let plan = match is_resting {
            true => traffic::plain(&mut self.envoy().chance),
            false => self.draw_client(),
        };
        if !is_resting {
            self.arrivals_left -= 1;
            if self.arrivals_left > 0 {
                self.next_arrival();
            }
        }
        self.send(thread, plan);
    }

    fn draw_client(&mut self) -> ClientPlan {
        let (hostile_share, forbidden_share) = (self.hostile_share, self.forbidden_share);
        let number = u64::from(self.last_stream);
        let envoy = self.envoy();
        match envoy.chance.hits(hostile_share) {
            true => {
                envoy.findings.count("requests of hostile clients");
                hostile::draw(number, &mut envoy.chance, forbidden_share > 0.0)
            }
            false => traffic::draw(&mut envoy.chance, forbidden_share),
        }
    }

    /// Opens a stream for a request; none when its worker has no VM.
    pub(super) fn send(&mut self, thread: usize, plan: ClientPlan) -> Option<StreamId> {
        self.envoy().findings.count("requests");
        let Some(vm) = self.vm_for_request(thread) else {
            self.envoy().findings.count("requests refused without a VM");
            return None;
        };
        let id = self.open(vm, thread, plan)?;
        self.send_headers(id);
        self.plan_client(id);
        Some(id)
    }

    fn open(&mut self, vm: VmId, thread: usize, plan: ClientPlan) -> Option<StreamId> {
        let record = self.envoy().vms.get_mut(&vm)?;
        let roots = [record.roots[0]?, record.roots[1]?];
        for root in roots {
            record.root_mut(root)?.streams += 1;
        }
        self.last_stream += 1;
        let id = StreamId(self.last_stream);
        let mut stream = Stream::new(vm, thread, roots, plan);
        stream.is_whole = !stream.plan.has_body;
        stream.last_byte_ns = self.envoy().clock.now_ns();
        self.envoy().streams.insert(id, stream);
        Some(id)
    }

    /// Headers go through the filters.
    fn send_headers(&mut self, id: StreamId) -> Option<()> {
        let local_reply = self.envoy().streams.get(&id)?.plan.local_reply;
        if local_reply == LocalReply::BeforeReader {
            self.local_reply(id, 401, None);
            return None;
        }
        self.filter_headers(id, Plugin::Reader)?;
        if local_reply == LocalReply::BetweenFilters {
            self.local_reply(id, 403, None);
            return None;
        }
        self.envoy().findings.count("requests at the picker");
        let is_held = self.filter_headers(id, Plugin::Picker)?;
        let stream = self.envoy().streams.get_mut(&id)?;
        if is_held {
            stream.way = Way::Held {
                body: Vec::new(),
                is_end: !stream.plan.has_body,
                has_trailers: false,
            };
            self.envoy().findings.count("requests held");
        } else {
            stream.exchange.is_request_over = !stream.plan.has_body;
            self.arrive_at_router(id);
        }
        Some(())
    }

    /// A filter gets the headers; gives whether it holds them.
    fn filter_headers(&mut self, id: StreamId, plugin: Plugin) -> Option<bool> {
        self.create_context(id, plugin)?;
        let stream = self.envoy().streams.get_mut(&id)?;
        stream.has_headers[plugin.place()] = true;
        stream.at_hand(plugin).request_headers = true;
        let callback = Callback::RequestHeaders {
            headers: stream.request_headers.len(),
            end: !stream.plan.has_body,
        };
        let is_held = self.call_filter(id, plugin, callback)? != 0;
        let stream = self.envoy().streams.get_mut(&id)?;
        stream.at_hand(plugin).request_headers &= is_held;
        Some(is_held)
    }

    fn plan_client(&mut self, id: StreamId) {
        let envoy = self.envoy();
        let Some(stream) = envoy.streams.get(&id) else {
            return;
        };
        let abort_after_ns = stream.plan.abort_after_ns;
        if let Some(wait_ns) = abort_after_ns {
            envoy.after(wait_ns, Event::ClientAbort(id));
        }
        let timeout_ns = envoy.chance.between(10_000 * MS, 12_000 * MS);
        envoy.after(timeout_ns, Event::IdleTimeout(id));
        plan_step(envoy, id);
    }

    /// A piece of the body comes, unless Envoy reads no more.
    pub(super) fn client_step(&mut self, id: StreamId) {
        let limit = self.buffer_limit;
        let now_ns = self.envoy().clock.now_ns();
        let Some(stream) = self.envoy().streams.get_mut(&id) else {
            return;
        };
        if matches!(&stream.way, Way::Held { body, .. } if body.len() > limit) {
            stream.is_blocked = true;
            return;
        }
        let Some(step) = stream.plan.steps.get(stream.next_step).cloned() else {
            return;
        };
        stream.next_step += 1;
        stream.last_byte_ns = now_ns;
        match step.is_trailers {
            true => self.client_trailers(id),
            false => {
                let chunk = stream.plan.body[step.bytes].to_vec();
                self.client_chunk(id, chunk, step.is_end)
            }
        };
        plan_step(self.envoy(), id);
    }

    fn client_chunk(&mut self, id: StreamId, chunk: Vec<u8>, is_chunk_end: bool) -> Option<()> {
        self.envoy().streams.get_mut(&id)?.is_whole |= is_chunk_end;
        self.filter_body(id, Plugin::Reader, chunk.clone(), is_chunk_end)?;
        let stream = self.envoy().streams.get_mut(&id)?;
        match &mut stream.way {
            Way::Held { body, is_end, .. } | Way::Resumed { body, is_end, .. } => {
                body.extend(chunk);
                *is_end |= is_chunk_end;
            }
            Way::Passed => {
                self.filter_body(id, Plugin::Picker, chunk, is_chunk_end)?;
                self.request_reached_rank(id, is_chunk_end);
            }
            Way::Before => {}
        }
        Some(())
    }

    fn filter_body(
        &mut self,
        id: StreamId,
        plugin: Plugin,
        chunk: Vec<u8>,
        end: bool,
    ) -> Option<()> {
        let stream = self.envoy().streams.get_mut(&id)?;
        let size = chunk.len();
        stream.at_hand(plugin).request_body = chunk;
        self.call_filter(id, plugin, Callback::RequestBody { size, end })?;
        let stream = self.envoy().streams.get_mut(&id)?;
        stream.at_hand(plugin).request_body.clear();
        Some(())
    }

    fn client_trailers(&mut self, id: StreamId) -> Option<()> {
        self.envoy().streams.get_mut(&id)?.is_whole = true;
        self.filter_trailers(id, Plugin::Reader)?;
        let stream = self.envoy().streams.get_mut(&id)?;
        match &mut stream.way {
            Way::Held { has_trailers, .. } | Way::Resumed { has_trailers, .. } => {
                *has_trailers = true;
            }
            Way::Passed => {
                self.filter_trailers(id, Plugin::Picker)?;
                self.request_reached_rank(id, true);
            }
            Way::Before => {}
        }
        Some(())
    }

    fn filter_trailers(&mut self, id: StreamId, plugin: Plugin) -> Option<()> {
        let stream = self.envoy().streams.get_mut(&id)?;
        stream.at_hand(plugin).request_trailers = true;
        let trailers = stream.trailers.len();
        self.call_filter(id, plugin, Callback::RequestTrailers { trailers })?;
        let stream = self.envoy().streams.get_mut(&id)?;
        stream.at_hand(plugin).request_trailers = false;
        Some(())
    }

    /// What the picker held goes on: headers, then what piled up behind them.
    pub(super) fn pass_on(&mut self, id: StreamId) -> Option<()> {
        let stream = self.envoy().streams.get_mut(&id)?;
        let way = std::mem::replace(&mut stream.way, Way::Passed);
        let Way::Resumed {
            body,
            is_end,
            has_trailers,
        } = way
        else {
            return None;
        };
        invariants::judge_hold(self, id);
        let stream = self.envoy().streams.get_mut(&id)?;
        let has_body = stream.plan.has_body;
        let is_blocked = std::mem::take(&mut stream.is_blocked);
        self.arrive_at_router(id)?;
        if has_body && (is_end || !body.is_empty()) {
            self.filter_body(id, Plugin::Picker, body, is_end)?;
        }
        if has_trailers {
            self.filter_trailers(id, Plugin::Picker)?;
        }
        self.request_reached_rank(id, is_end || has_trailers);
        if is_blocked {
            self.envoy().after(0, Event::ClientStep(id));
        }
        Some(())
    }
}

fn plan_step(envoy: &mut Envoy, id: StreamId) {
    let stream = envoy.streams.get(&id).filter(|stream| !stream.is_blocked);
    let step = stream.and_then(|stream| stream.plan.steps.get(stream.next_step));
    if let Some(wait_ns) = step.map(|step| step.after_ns) {
        envoy.after(wait_ns, Event::ClientStep(id));
    }
}
