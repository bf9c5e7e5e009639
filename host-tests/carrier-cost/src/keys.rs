//! A key in shared data for each event, out of a fixed number for each worker; a counter says how many there were.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use crate::carrier::Received;

/// As many events as a ring has segments: the bound in bytes is the same for the largest events.
const KEYS: u64 = 256;
/// The event's number.
const HEADER_BYTES: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Keys {
    writer: Option<End>,
    readers: Vec<End>,
}

/// One worker's keys, and how many events were written to them, or read from them.
#[derive(Debug)]
struct End {
    keys: Vec<String>,
    count: u32,
    events: u64,
}

impl Keys {
    pub(crate) fn open(worker: u32) -> Self {
        Self {
            writer: Some(End::of(worker)),
            readers: Vec::new(),
        }
    }

    pub(crate) fn meet(&mut self, peers: &[u32]) {
        self.readers = peers.iter().map(|peer| End::of(*peer)).collect();
    }

    pub(crate) fn send(&mut self, event: &[u8]) {
        if let Some(writer) = &mut self.writer {
            writer.write(event);
        }
    }

    pub(crate) fn receive(&mut self, received: &mut Received) {
        for reader in &mut self.readers {
            reader.catch_up(received);
        }
    }
}

impl End {
    fn of(worker: u32) -> Self {
        let name = format!("carrier.keys.{worker}");
        Self {
            keys: (0..KEYS).map(|place| format!("{name}.{place}")).collect(),
            count: hostcalls::define_metric(MetricType::Counter, &name)
                .expect("a metric is defined"),
            events: 0,
        }
    }

    fn write(&mut self, event: &[u8]) {
        let value = [&self.events.to_le_bytes()[..], event].concat();
        hostcalls::set_shared_data(self.key(), Some(&value), None).expect("no version is asked");
        self.events += 1;
        hostcalls::increment_metric(self.count, 1).expect("the counter is defined");
    }

    fn catch_up(&mut self, received: &mut Received) {
        let written = hostcalls::get_metric(self.count).expect("the counter is defined");
        let oldest = self.events.max(written.saturating_sub(KEYS));
        received.lost += oldest - self.events;
        self.events = oldest;
        while self.events < written {
            match self.read() {
                Some(event) => received.events.push(event),
                None => received.lost += 1,
            }
            self.events += 1;
        }
    }

    /// The next event, unless a newer one has taken its place.
    fn read(&self) -> Option<Vec<u8>> {
        let mut value = hostcalls::get_shared_data(self.key()).ok()?.0?;
        if value.first_chunk() != Some(&self.events.to_le_bytes()) {
            return None;
        }
        value.drain(..HEADER_BYTES);
        Some(value)
    }

    fn key(&self) -> &str {
        &self.keys[usize::try_from(self.events % KEYS).unwrap_or_default()]
    }
}
