//! Host calls that are about no stream, each with the statuses that Envoy answers with.
//!
//! The SDK panics on most statuses but `Ok`; a call in a phase in which Envoy refuses it must fail here too.

use proxy_wasm::types::{LogLevel, MetricType, Status};

use super::{Call, Envoy, HeaderMap, metrics};
use crate::backend::{self, CallRequest};
use crate::envoy::queues::Registrant;
use crate::invariants;
use crate::schedule::{Event, MS};
use crate::trace::Detail;
use crate::vm_record::{Context, VmId, VmRecord};

/// A module's error lines say that the operator made a mistake, or that it did itself.
const CRITICAL: &str = "nothing critical is logged";

impl Envoy {
    /// The context that calls act on, and its VM.
    pub(super) fn at_work(&self) -> Result<(VmId, u32), Status> {
        let turn = self.turn.as_ref().ok_or(Status::InternalFailure)?;
        Ok((turn.vm, turn.effective))
    }

    fn record(&mut self) -> Result<&mut VmRecord, Status> {
        let (vm, _) = self.at_work()?;
        self.vms.get_mut(&vm).ok_or(Status::InternalFailure)
    }

    /// The root of the context that calls act on.
    fn root_at_work(&mut self) -> Result<u32, Status> {
        let (_, context) = self.at_work()?;
        self.record()?.root_of(context).ok_or(Status::BadArgument)
    }

    fn note_call(&mut self, name: &str, what: &[u8], number: u64) {
        self.note(Detail::HostCalls, (name, what, number), || {
            format!("      {name}({}, {number})", what.escape_ascii())
        });
    }

    pub(crate) fn log(&mut self, level: LogLevel, message: &[u8]) -> Result<(), Status> {
        let (vm, _) = self.at_work()?;
        let text = String::from_utf8_lossy(message);
        self.note(Detail::Callbacks, message, || {
            format!("    vm {} {level:?}: {text}", vm.0)
        });
        if level == LogLevel::Critical {
            self.findings.violate(CRITICAL, &text);
        }
        Ok(())
    }

    pub(crate) fn current_time(&mut self) -> Result<u64, Status> {
        Ok(self.clock.wall_ns())
    }

    pub(crate) fn set_tick_period(&mut self, period_ms: u32) -> Result<(), Status> {
        let (vm, _) = self.at_work()?;
        let root = self.root_at_work()?;
        self.note_call("set_tick_period", b"", period_ms.into());
        if let Some(state) = self.record()?.root_mut(root) {
            state.tick_period_ms = period_ms;
            state.tick_epoch += 1;
        }
        self.arm_tick(vm, root);
        Ok(())
    }

    pub(crate) fn set_effective_context(&mut self, context: u32) -> Result<(), Status> {
        self.note_call("set_effective_context", b"", context.into());
        let is_known = self.record()?.contexts.contains_key(&context);
        let turn = self.turn.as_mut().filter(|_| is_known);
        turn.ok_or(Status::BadArgument)?.effective = context;
        Ok(())
    }

    pub(crate) fn get_shared_data(&mut self, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.note_call("get_shared_data", key, 0);
        self.shared_data.get(key)
    }

    pub(crate) fn set_shared_data(
        &mut self,
        key: &[u8],
        value: &[u8],
        version: u32,
    ) -> Result<(), Status> {
        self.note_call("set_shared_data", key, value.len() as u64);
        if version != 0 && self.chance.hits(self.chaos.cas_conflict) {
            self.findings
                .count("compare-and-sets lost to another plugin");
            self.shared_data.touch_by_another(key);
        }
        self.shared_data.set(key, value, version)?;
        let figures = &mut self.findings.figures;
        figures.raise("keys of shared data", self.shared_data.own_keys() as u64);
        figures.raise("bytes of shared data", self.shared_data.own_bytes() as u64);
        Ok(())
    }

    pub(crate) fn register_queue(&mut self, name: &[u8]) -> Result<u32, Status> {
        self.note_call("register_queue", name, 0);
        let root = self.root_at_work()?;
        let thread = self.record()?.thread;
        let token = self.queues.register(name, Registrant { thread, root });
        self.findings
            .figures
            .raise("queues", self.queues.len() as u64);
        Ok(token)
    }

    /// Every VM has the id "".
    pub(crate) fn resolve_queue(&mut self, vm_id: &[u8], name: &[u8]) -> Result<u32, Status> {
        self.note_call("resolve_queue", name, 0);
        match vm_id.is_empty() {
            true => self.queues.resolve(name),
            false => Err(Status::NotFound),
        }
    }

    pub(crate) fn dequeue(&mut self, queue: u32) -> Result<Vec<u8>, Status> {
        self.note_call("dequeue", b"", queue.into());
        self.queues.pop(queue)
    }

    pub(crate) fn enqueue(&mut self, queue: u32, item: &[u8]) -> Result<(), Status> {
        self.note_call("enqueue", item, queue.into());
        if self.chance.hits(self.chaos.enqueue_fails) {
            self.findings.count("enqueues refused");
            return Err(Status::NotFound);
        }
        let (Registrant { thread, root }, length) = self.queues.push(queue, item)?;
        self.findings
            .figures
            .raise("items in a queue", length as u64);
        invariants::judge_queue(self, length);
        if self.chance.hits(self.chaos.lost_bell) {
            self.findings.count("queue callbacks lost");
            return Ok(());
        }
        let wait_ns = self.chance.between(0, self.chaos.late_bell_ns);
        let event = Event::QueueReady {
            thread,
            root,
            queue,
        };
        self.after(wait_ns, event);
        Ok(())
    }

    pub(crate) fn define_metric(&mut self, kind: MetricType, name: &[u8]) -> Result<u32, Status> {
        let name = String::from_utf8_lossy(name).into_owned();
        self.note_call("define_metric", name.as_bytes(), kind as u64);
        self.metrics.define(&name);
        self.findings
            .figures
            .raise("metrics", self.metrics.len() as u64);
        let record = self.record()?;
        let number = metrics::numbered(kind, record.number());
        record.metrics.insert(number, name);
        Ok(number)
    }

    fn metric(&mut self, number: u32) -> Result<(MetricType, String), Status> {
        let kind = metrics::kind_of(number).ok_or(Status::BadArgument)?;
        let name = self.record()?.metrics.get(&number).cloned();
        Ok((kind, name.ok_or(Status::NotFound)?))
    }

    pub(crate) fn get_metric(&mut self, number: u32) -> Result<u64, Status> {
        if metrics::kind_of(number) == Some(MetricType::Histogram) {
            return Err(Status::BadArgument);
        }
        let (_, name) = self.metric(number)?;
        // A gauge is unsigned and wraps.
        Ok(self.metrics.get(&name).cast_unsigned())
    }

    pub(crate) fn record_metric(&mut self, number: u32, value: u64) -> Result<(), Status> {
        let (kind, name) = self.metric(number)?;
        self.note_call("record_metric", name.as_bytes(), value);
        match kind {
            MetricType::Counter => self.metrics.add(&name, value.cast_signed()),
            MetricType::Gauge => self.metrics.set(&name, value.cast_signed()),
            _ => 0,
        };
        self.check_gauge(kind, &name);
        Ok(())
    }

    pub(crate) fn increment_metric(&mut self, number: u32, offset: i64) -> Result<(), Status> {
        let (kind, name) = match metrics::kind_of(number) {
            Some(MetricType::Histogram) => return Err(Status::BadArgument),
            _ => self.metric(number)?,
        };
        self.note_call("increment_metric", name.as_bytes(), offset.cast_unsigned());
        if kind == MetricType::Counter && offset <= 0 {
            return Err(Status::BadArgument);
        }
        self.metrics.add(&name, offset);
        self.check_gauge(kind, &name);
        Ok(())
    }

    fn check_gauge(&mut self, kind: MetricType, name: &str) {
        let value = self.metrics.get(name);
        if kind == MetricType::Gauge && value < 0 {
            self.findings
                .violate("gauges are never negative", format!("{name} is {value}"));
        }
    }

    pub(crate) fn http_call(
        &mut self,
        cluster: &[u8],
        headers: &[u8],
        timeout_ms: u32,
    ) -> Result<u32, Status> {
        self.note_call("http_call", cluster, timeout_ms.into());
        let headers = HeaderMap::decode(headers);
        let needed = [":method", ":path", ":authority"];
        let is_whole = needed
            .iter()
            .all(|name| headers.get(name.as_bytes()).is_some());
        if !backend::is_cluster(cluster) || !is_whole {
            return Err(Status::BadArgument);
        }
        if self.chance.hits(self.chaos.calls.refused) {
            self.findings.count("HTTP calls refused");
            return Err(self
                .chance
                .pick(&[Status::BadArgument, Status::InternalFailure]));
        }
        let cluster = String::from_utf8_lossy(cluster).into_owned();
        self.begin_call(CallRequest { cluster, headers }, timeout_ms)
    }

    fn begin_call(&mut self, request: CallRequest, timeout_ms: u32) -> Result<u32, Status> {
        let (vm, _) = self.at_work()?;
        let root = self.root_at_work()?;
        let token = self.record()?.number();
        self.calls.insert((vm, token), Call { root, request });
        self.findings.count("HTTP calls");
        if self.chance.hits(self.chaos.calls.lost) {
            self.findings.count("HTTP calls never answered");
            return Ok(token);
        }
        let most_ms = u64::from(timeout_ms).clamp(1, 3_000);
        let slowest_ms = self.chance.pick(&[1, 5, 50, 3_000]).min(most_ms);
        let wait_ns = self.chance.between(0, slowest_ms * MS);
        self.after(wait_ns, Event::CallAnswer { vm, token });
        Ok(token)
    }

    /// The last call's status, for a call that broke.
    pub(crate) fn call_status(&mut self) -> Result<(u32, Vec<u8>), Status> {
        Ok((0, Vec::new()))
    }

    /// A root that was not done is.
    pub(crate) fn done(&mut self) -> Result<(), Status> {
        let (_, context) = self.at_work()?;
        let record = self.record()?;
        let is_pending = match record.contexts.get_mut(&context) {
            Some(Context::Root(root)) => std::mem::take(&mut root.is_pending),
            _ => false,
        };
        let turn = self.turn.as_mut().filter(|_| is_pending);
        let turn = turn.ok_or(Status::NotFound)?;
        turn.actions.push(super::Action::DeleteRoot(context));
        Ok(())
    }
}
