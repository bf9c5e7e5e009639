//! Requests of a worker in any order of callbacks, against a count kept by hand: every held request is decided once or
//! closed, every charge is given back, and in the end all counts are zero. A request weighs nothing before its body has ended and
//! never more than its rank can hold, and when all prompts were taken back nothing is believed of any.

#![no_main]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use routing::{BlockCut, Charge, Config, Endpoint, Exchanges, Insertion, Limits, Pool, Prompt, RawConfig};

const READERS: u8 = 4;
const BLOCK_BYTES: usize = 64;
const CUT: BlockCut = BlockCut {
    block_bytes: BLOCK_BYTES,
    seed: 0,
};
const LIMITS: Limits = Limits {
    bytes: 200,
    idle_ms: 50,
};
const RANKS: [&str; 4] = [
    "10.0.0.1:8000-8001",
    "10.0.0.2:8000-8001",
    "10.0.0.1:8002-8003",
    "10.0.0.3:9000",
];
/// Pieces of bodies: whole ones, their parts, long ones and such as nobody can read.
const PIECES: [&[u8]; 10] = [
    br#"{"prompt":"once upon a time there was a king who had three daughters, and they lived by the sea"}"#,
    br#"{"model":"m","messages":[{"role":"user","content":"#,
    br#""once upon a time there was a king who had three daughters, and they lived by the sea""#,
    br#"}]}"#,
    br#"{"messages":[{"role":"user","content":"once upon a time there was a king who had three daughters"}],"model":""#,
    br#"m"}"#,
    br#"{"input":"#,
    b"--boundary",
    b"                                                                                                                 ",
    b"",
];

fuzz_target!(|input: &[u8]| {
    let mut worker = Worker::new();
    for step in input.chunks_exact(2) {
        worker.step(step[0], step[1]);
        worker.check();
    }
    worker.finish();
});

/// What is known of a request whose reader is there.
enum Known {
    Open,
    Held {
        picker: u32,
        is_due: bool,
        last_byte_ms: u64,
    },
    Decided,
}

/// A request on a rank.
struct OnRank {
    charge: Charge,
    rank: SocketAddr,
    prompt: Option<Prompt>,
    insertion: Insertion,
}

struct Worker {
    exchanges: Exchanges,
    pool: Pool,
    now_ms: u64,
    next_picker: u32,
    requests: BTreeMap<u32, Known>,
    /// Pickers that were decided on, and those whose prompt was read to its end afterwards.
    decided: BTreeSet<u32>,
    read: BTreeSet<u32>,
    /// What each picker's request counts, and where.
    charges: BTreeMap<u32, OnRank>,
    /// Every prompt that a rank was sent.
    prompts: Vec<Prompt>,
}

impl Worker {
    fn new() -> Self {
        Self {
            exchanges: Exchanges::default(),
            pool: Pool::new(config(1)),
            now_ms: 0,
            next_picker: 0,
            requests: BTreeMap::new(),
            decided: BTreeSet::new(),
            read: BTreeSet::new(),
            charges: BTreeMap::new(),
            prompts: Vec::new(),
        }
    }

    fn step(&mut self, what: u8, how: u8) {
        let reader = u32::from(how % READERS);
        let choice = how / READERS;
        match what % 13 {
            0 => self.open(reader, choice),
            1 => self.join(reader),
            2..=4 => self.feed(reader, choice),
            5 => self.end_body(reader),
            6 => self.close(reader),
            7 => self.wait(how),
            8 => self.decide(),
            9 => self.first_byte(choice),
            10 => self.end(choice),
            11 => self.complete(choice),
            _ => self.pool.reconfigure(config(how)),
        }
    }

    fn open(&mut self, reader: u32, choice: u8) {
        if self.requests.contains_key(&reader) {
            return;
        }
        let endpoint = Endpoint::ALL[usize::from(choice) % Endpoint::ALL.len()];
        self.exchanges.open(reader, endpoint);
        self.requests.insert(reader, Known::Open);
    }

    fn join(&mut self, reader: u32) {
        let is_open = matches!(self.requests.get(&reader), Some(Known::Open));
        let picker = self.next_picker;
        self.next_picker += 1;
        assert_eq!(
            self.exchanges
                .join(reader, picker, CUT, LIMITS, self.now_ms),
            is_open
        );
        if is_open {
            self.requests.insert(
                reader,
                Known::Held {
                    picker,
                    is_due: false,
                    last_byte_ms: self.now_ms,
                },
            );
        }
    }

    fn feed(&mut self, reader: u32, choice: u8) {
        let piece = PIECES[usize::from(choice) % PIECES.len()];
        if let Some(Known::Held { last_byte_ms, .. }) = self.requests.get_mut(&reader) {
            *last_byte_ms = self.now_ms;
        }
        let became_due = self.exchanges.feed(reader, piece, self.now_ms);
        self.note_due(reader, became_due);
    }

    fn end_body(&mut self, reader: u32) {
        let waits = matches!(
            self.requests.get(&reader),
            Some(Known::Held { is_due: false, .. })
        );
        let became_due = self.exchanges.end_body(reader);
        assert_eq!(became_due, waits, "the end of a body decides");
        self.note_due(reader, became_due);
    }

    fn note_due(&mut self, reader: u32, became_due: bool) {
        if !became_due {
            return;
        }
        let Some(Known::Held { is_due, .. }) = self.requests.get_mut(&reader) else {
            panic!("reader {reader} is not held and became due");
        };
        assert!(
            !std::mem::replace(is_due, true),
            "reader {reader} became due twice"
        );
    }

    fn close(&mut self, reader: u32) {
        let known = self.requests.remove(&reader);
        let was_held = matches!(known, Some(Known::Held { .. }));
        assert_eq!(self.exchanges.close(reader), was_held);
        assert!(!self.exchanges.is_reading(reader));
    }

    fn wait(&mut self, ms: u8) {
        self.now_ms += u64::from(ms);
        self.exchanges.expire(self.now_ms);
        for known in self.requests.values_mut() {
            if let Known::Held {
                is_due,
                last_byte_ms,
                ..
            } = known
            {
                *is_due |= self.now_ms - *last_byte_ms >= LIMITS.idle_ms;
            }
        }
    }

    fn decide(&mut self) {
        let due = self.exchanges.take_due();
        let expected = self
            .requests
            .values()
            .filter(|known| matches!(known, Known::Held { is_due: true, .. }));
        assert_eq!(due.len(), expected.count());
        for decidable in due {
            let held = self.requests.values_mut().find(
                |known| matches!(known, Known::Held { picker, .. } if *picker == decidable.picker),
            );
            *held.expect("a request that is decided on is held") = Known::Decided;
            assert!(self.decided.insert(decidable.picker), "decided twice");
            let prompt = decidable
                .endpoint
                .fills_cache()
                .then_some(&decidable.prompt);
            let pick = match decidable.has_ended {
                true => self.pool.pick(prompt, 7, 0),
                false => self.pool.pick_before_end(prompt, 7, 0),
            };
            let pick = pick.expect("there are ranks");
            assert_eq!(pick.charge.is_incomplete(), !decidable.has_ended);
            let on_rank = OnRank {
                charge: pick.charge,
                rank: pick.ranks[0],
                prompt: prompt.cloned(),
                insertion: pick.insertion,
            };
            self.prompts.extend(on_rank.prompt.clone());
            self.charges.insert(decidable.picker, on_rank);
        }
        for done in self.exchanges.take_read() {
            assert!(
                self.decided.contains(&done.picker),
                "read on before it was decided on"
            );
            assert!(self.read.insert(done.picker), "read to its end twice");
            if let Some(on_rank) = self.charges.get_mut(&done.picker) {
                let beginning = on_rank.prompt.as_ref().map(|cut| (cut, &on_rank.insertion));
                let rank = on_rank.charge.rank();
                let learnt = self.pool.learn(rank, beginning, &done.prompt);
                on_rank.insertion = learnt.insertion;
                self.prompts.push(done.prompt.clone());
                on_rank.prompt = Some(done.prompt);
            }
        }
    }

    fn first_byte(&mut self, choice: u8) {
        if let Some(OnRank { charge, .. }) = self.charges.values_mut().nth(usize::from(choice)) {
            let queued = charge.queued_tokens();
            assert_eq!(self.pool.first_byte(charge), queued);
            assert_eq!(self.pool.first_byte(charge), 0);
        }
    }

    fn end(&mut self, choice: u8) {
        let picker = self.charges.keys().nth(usize::from(choice)).copied();
        if let Some(on_rank) = picker.and_then(|picker| self.charges.remove(&picker)) {
            let (rank, queued) = (on_rank.charge.rank(), on_rank.charge.queued_tokens());
            if let Some(prompt) = &on_rank.prompt {
                self.pool.take_back(rank, prompt, &on_rank.insertion);
            }
            assert_eq!(self.pool.end(on_rank.charge), queued);
        }
    }

    /// The body of a request has ended, after any number of bytes.
    fn complete(&mut self, choice: u8) {
        let on_rank = self.charges.values_mut().nth(usize::from(choice));
        if let Some(OnRank { charge, prompt, .. }) = on_rank {
            let (was_incomplete, body_bytes) = (charge.is_incomplete(), u64::from(choice) << 50);
            let is_news = self
                .pool
                .complete(charge, prompt.as_ref(), body_bytes, true);
            assert_eq!((is_news, charge.is_incomplete()), (was_incomplete, false));
        }
    }

    fn check(&self) {
        let held = self
            .requests
            .values()
            .filter(|known| matches!(known, Known::Held { .. }))
            .count();
        assert_eq!(self.exchanges.held_requests(), held);
        let mut loads: HashMap<SocketAddr, (u64, u32)> = HashMap::new();
        for OnRank { charge, rank, .. } in self.charges.values() {
            let capacity = self.pool.config().rank_capacity_tokens();
            let most = if charge.is_incomplete() { 0 } else { capacity };
            assert!(charge.queued_tokens() <= most);
            let load = loads.entry(*rank).or_default();
            *load = (load.0 + charge.queued_tokens(), load.1 + 1);
        }
        for address in RANKS.iter().flat_map(|range| addresses(range)) {
            let expected = loads.get(&address).copied().unwrap_or_default();
            assert_eq!(
                self.pool.load(address).unwrap_or_default(),
                expected,
                "{address}"
            );
        }
    }

    /// Whatever was left: time decides on what is held, streams end, readers go.
    fn finish(mut self) {
        self.wait(u8::MAX);
        self.decide();
        assert_eq!(self.exchanges.held_requests(), 0);
        while !self.charges.is_empty() {
            self.end(0);
        }
        self.check();
        assert!(self.prompts.iter().all(|prompt| {
            let pick = self.pool.pick(Some(prompt), 7, 0);
            pick.is_none_or(|pick| {
                self.pool
                    .take_back(pick.charge.rank(), prompt, &pick.insertion);
                pick.matched_tokens == 0
            })
        }));
        (0..u32::from(READERS)).for_each(|reader| self.close(reader));
        assert!(self.exchanges.take_due().is_empty());
    }
}

fn addresses(range: &str) -> Vec<SocketAddr> {
    routing::RankRange::parse(range)
        .map(|range| range.ranks().collect())
        .unwrap_or_default()
}

/// A configuration of some of the ranks, at least one.
fn config(choice: u8) -> Config {
    let choice = choice % 16;
    let choice = if choice == 0 { 15 } else { choice };
    let ranks = (0..4)
        .filter(|bit| choice >> bit & 1 == 1)
        .map(|bit| RANKS[bit].to_string());
    let raw = RawConfig {
        ranks: Some(ranks.collect()),
        block_bytes: Some(64),
        ..RawConfig::default()
    };
    Config::try_from(raw).expect("a valid configuration")
}
