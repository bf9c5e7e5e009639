//! A ring of segments in shared data for each worker, which alone writes it; all others read.
//!
//! An event is put behind those of the current segment, and the segment, at most 8 KiB, is written whole: the host
//! copies kilobytes in the time of a call. A counter holds the writer's position: readers compare it with theirs,
//! which is the cheapest call there is, and read a segment only when it moved. Each segment begins with the number of
//! events before it, so a reader that has all of them need not look at the segment before again.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use crate::carrier::Received;

const SEGMENT_BYTES: usize = 8192;
/// Enough for what comes in a stall of a reader: 256 events of the largest size.
const SEGMENTS: u64 = 256;
/// The segment's number and the number of events before it.
const HEADER_BYTES: usize = 16;
/// The length of an event.
const LENGTH_BYTES: usize = 2;
/// The counter holds the number of the segment above this many bits and its length below.
const LENGTH_BITS: u32 = 16;

#[derive(Debug, Default)]
pub(crate) struct Ring {
    writer: Option<Writer>,
    readers: Vec<Reader>,
}

impl Ring {
    pub(crate) fn open(worker: u32) -> Self {
        Self {
            writer: Some(Writer::new(worker)),
            readers: Vec::new(),
        }
    }

    pub(crate) fn meet(&mut self, peers: &[u32]) {
        self.readers = peers.iter().map(|peer| Reader::new(*peer)).collect();
    }

    pub(crate) fn send(&mut self, event: &[u8]) {
        if let Some(writer) = &mut self.writer {
            writer.append(event);
        }
    }

    pub(crate) fn receive(&mut self, received: &mut Received) {
        for reader in &mut self.readers {
            reader.catch_up(received);
        }
    }
}

#[derive(Debug)]
struct Writer {
    keys: Vec<String>,
    position: u32,
    number: u64,
    events: u64,
    segment: Vec<u8>,
}

impl Writer {
    fn new(worker: u32) -> Self {
        let mut writer = Self {
            keys: keys(worker),
            position: position(worker),
            number: 0,
            events: 0,
            segment: Vec::with_capacity(SEGMENT_BYTES),
        };
        writer.begin();
        writer
    }

    fn begin(&mut self) {
        self.segment.clear();
        self.segment.extend_from_slice(&self.number.to_le_bytes());
        self.segment.extend_from_slice(&self.events.to_le_bytes());
    }

    fn append(&mut self, event: &[u8]) {
        let before = packed(self.number, self.segment.len());
        if self.segment.len() + LENGTH_BYTES + event.len() > SEGMENT_BYTES {
            self.number += 1;
            self.begin();
        }
        let length = u16::try_from(event.len()).expect("an event fits a segment");
        self.segment.extend_from_slice(&length.to_le_bytes());
        self.segment.extend_from_slice(event);
        self.events += 1;
        let key = &self.keys[index(self.number)];
        hostcalls::set_shared_data(key, Some(&self.segment), None).expect("no version is asked");
        let moved = packed(self.number, self.segment.len()) - before;
        hostcalls::increment_metric(self.position, i64::try_from(moved).unwrap_or_default())
            .expect("the counter is defined");
    }
}

#[derive(Debug)]
struct Reader {
    keys: Vec<String>,
    position: u32,
    seen: u64,
    number: u64,
    length: usize,
    events: u64,
}

impl Reader {
    fn new(peer: u32) -> Self {
        Self {
            keys: keys(peer),
            position: position(peer),
            seen: 0,
            number: 0,
            length: HEADER_BYTES,
            events: 0,
        }
    }

    fn catch_up(&mut self, received: &mut Received) {
        let position = hostcalls::get_metric(self.position).expect("the counter is defined");
        if position == self.seen {
            return;
        }
        self.seen = position;
        let newest = position >> LENGTH_BITS;
        let last = self.read(newest);
        let begins_with = last.as_deref().map_or(0, |segment| number_at(segment, 8));
        if begins_with > self.events {
            self.read_up_to(newest, received);
        }
        if let Some(segment) = last {
            self.take(&segment, received);
        }
    }

    /// Takes the segments before the newest; those that were overwritten are lost.
    fn read_up_to(&mut self, newest: u64, received: &mut Received) {
        let oldest = self.number.max((newest + 1).saturating_sub(SEGMENTS));
        for number in oldest..newest {
            if let Some(segment) = self.read(number).filter(|it| number_at(it, 0) == number) {
                self.take(&segment, received);
            }
        }
    }

    fn take(&mut self, segment: &[u8], received: &mut Received) {
        let number = number_at(segment, 0);
        if number != self.number {
            let begins_with = number_at(segment, 8);
            received.lost += begins_with - self.events;
            (self.number, self.length, self.events) = (number, HEADER_BYTES, begins_with);
        }
        while let Some((length, rest)) = segment[self.length..].split_first_chunk() {
            let length = usize::from(u16::from_le_bytes(*length));
            received.events.push(rest[..length].to_vec());
            self.length += LENGTH_BYTES + length;
            self.events += 1;
        }
    }

    fn read(&self, number: u64) -> Option<Vec<u8>> {
        hostcalls::get_shared_data(&self.keys[index(number)])
            .ok()?
            .0
    }
}

fn keys(worker: u32) -> Vec<String> {
    (0..SEGMENTS)
        .map(|place| format!("carrier.ring.{worker}.{place}"))
        .collect()
}

fn position(worker: u32) -> u32 {
    let name = format!("carrier.ring.{worker}");
    hostcalls::define_metric(MetricType::Counter, &name).expect("a metric is defined")
}

fn packed(number: u64, length: usize) -> u64 {
    (number << LENGTH_BITS) + u64::try_from(length).unwrap_or_default()
}

fn index(number: u64) -> usize {
    usize::try_from(number % SEGMENTS).unwrap_or_default()
}

fn number_at(segment: &[u8], at: usize) -> u64 {
    let bytes = segment[at..].first_chunk().expect("a segment has a header");
    u64::from_le_bytes(*bytes)
}
