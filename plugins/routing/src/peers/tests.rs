use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// Envoy's shared data and metrics.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Contents>>);

#[derive(Default)]
struct Contents {
    data: HashMap<String, (Vec<u8>, u32)>,
    version: u32,
    told: HashMap<u16, u64>,
    reads: usize,
    conflicts: usize,
}

impl SharedMemory for Memory {
    fn get(&self, key: &str) -> Stored {
        let mut contents = self.0.borrow_mut();
        contents.reads += 1;
        contents
            .data
            .get(key)
            .map_or_else(Stored::default, |(bytes, version)| Stored {
                bytes: bytes.clone(),
                version: Some(*version),
            })
    }

    fn set(&self, key: &str, bytes: &[u8], version: Option<u32>) -> bool {
        let mut contents = self.0.borrow_mut();
        let stands = contents.data.get(key).map(|(_, version)| *version);
        if version.is_some() && (version != stands || contents.conflicts > 0) {
            contents.conflicts = contents.conflicts.saturating_sub(1);
            return false;
        }
        contents.version += 1;
        let stored = (bytes.to_vec(), contents.version);
        contents.data.insert(key.to_string(), stored);
        true
    }

    fn told(&mut self, slot: u16) -> u64 {
        self.0.borrow().told.get(&slot).copied().unwrap_or(0)
    }

    fn tell(&mut self, slot: u16) {
        *self.0.borrow_mut().told.entry(slot).or_default() += 1;
    }
}

impl Memory {
    fn bytes(&self) -> usize {
        self.0
            .borrow()
            .data
            .values()
            .map(|(bytes, _)| bytes.len())
            .sum()
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        self.set(key, bytes, None);
    }
}

/// A VM and what it knows from the others.
struct Vm {
    peers: Peers,
    loads: BTreeMap<(u16, RankKey), (u64, u32)>,
    totals: BTreeMap<u16, Totals>,
    prompts: Vec<u64>,
}

impl Vm {
    fn new(number: u64) -> Self {
        Self {
            peers: Peers::new(number),
            loads: BTreeMap::new(),
            totals: BTreeMap::new(),
            prompts: Vec::new(),
        }
    }

    /// A tick.
    fn tick(&mut self, memory: &Memory, now_ms: u64) {
        let mut memory = memory.clone();
        self.listen(|peers, heard| {
            peers.beat(&mut memory, now_ms, heard);
            peers.hear(&mut memory, now_ms, heard);
            peers.catch_up(&memory, heard);
        });
    }

    fn start_over(&mut self) {
        self.listen(|peers, heard| peers.start_over(heard));
    }

    /// Notes what is heard.
    fn listen(&mut self, act: impl FnOnce(&mut Peers, &mut dyn FnMut(Heard<'_>))) {
        let Self {
            peers,
            loads,
            totals,
            prompts,
        } = self;
        act(peers, &mut |heard: Heard<'_>| match heard {
            Heard::Cleared { slot } => {
                loads.retain(|(of, _), _| *of != slot);
                totals.remove(&slot);
            }
            Heard::News { slot, news } => match news {
                News::Totals(now) => {
                    totals.insert(slot, now);
                }
                News::Load { key, load } => {
                    assert_eq!(load.held_tokens, 2 * load.queued_tokens);
                    loads.insert((slot, key), (load.queued_tokens, load.in_flight));
                }
                News::Prompt { blocks, .. } => {
                    prompts.extend(blocks.iter().map(|block| block.chain_hash));
                }
                News::Told { .. }
                | News::TakenBack { .. }
                | News::Doubted { .. }
                | News::Delivered { .. }
                | News::Forgotten { .. }
                | News::Capacity { .. }
                | News::Failed { .. }
                | News::Answered { .. }
                | News::Standing { .. } => {}
            },
        });
    }

    /// What all the others have on a rank.
    fn others(&self, key: RankKey) -> (u64, u32) {
        let of_key = self.loads.iter().filter(|((_, of), _)| *of == key);
        of_key.fold((0, 0), |(tokens, requests), (_, load)| {
            (tokens + load.0, requests + load.1)
        })
    }

    fn load(&mut self, memory: &Memory, now_ms: u64, key: RankKey, load: (u64, u32)) {
        let load = RankLoad {
            queued_tokens: load.0,
            held_tokens: 2 * load.0,
            in_flight: load.1,
            incomplete: 0,
        };
        self.peers.load(key, load);
        self.peers.flush(&mut memory.clone(), now_ms * 1000);
    }

    fn prompt(&mut self, memory: &Memory, now_ms: u64, hashes: impl Iterator<Item = u64>) {
        let blocks: Vec<SentBlock> = hashes
            .map(|chain_hash| SentBlock {
                chain_hash,
                start: 0,
            })
            .collect();
        let sent = Sent {
            blocks,
            aged_blocks: 0,
        };
        self.peers.prompt(KEY, now_ms, &sent);
        self.peers.flush(&mut memory.clone(), now_ms * 1000);
    }
}

const KEY: RankKey = RankKey { pool: 1, rank: 2 };
const OTHER: RankKey = RankKey { pool: 1, rank: 3 };

fn pair() -> (Memory, Vm, Vm) {
    let memory = Memory::default();
    let (mut one, mut other) = (Vm::new(1), Vm::new(2));
    one.tick(&memory, 1000);
    other.tick(&memory, 1000);
    one.tick(&memory, 1250);
    (memory, one, other)
}

#[test]
fn what_one_tells_the_other_knows_when_it_looks_next() {
    let (memory, mut one, mut other) = pair();
    one.load(&memory, 1260, KEY, (700, 1));
    one.prompt(&memory, 1260, 10..13);
    other.tick(&memory, 1261);
    assert_eq!(other.others(KEY), (700, 1));
    assert_eq!(other.prompts, [10, 11, 12]);
    one.load(&memory, 1270, KEY, (0, 1));
    one.load(&memory, 1270, OTHER, (5, 1));
    other.tick(&memory, 1271);
    assert_eq!((other.others(KEY), other.others(OTHER)), ((0, 1), (5, 1)));
    let totals = Totals {
        held: 0,
        in_flight: 2,
        incomplete: 0,
        queued_tokens: 5,
    };
    assert_eq!((one.peers.totals(), other.totals[&0]), (totals, totals));
}

#[test]
fn totals_are_told_also_where_the_load_that_changed_them_was_the_last_of_a_segment() {
    let (memory, mut one, mut other) = pair();
    for round in 0..4000u64 {
        let now_ms = 1260 + round / 8;
        one.tick(&memory, now_ms);
        one.load(&memory, now_ms, KEY, (0, u32::try_from(round % 2).unwrap()));
        other.tick(&memory, now_ms);
        assert_eq!(other.totals[&0], one.peers.totals(), "round {round}");
    }
}

#[test]
fn who_joins_between_two_beats_is_heard_at_once() {
    let (memory, mut one, mut late) = (Memory::default(), Vm::new(1), Vm::new(2));
    one.tick(&memory, 1000);
    one.load(&memory, 1001, OTHER, (5, 1));
    late.tick(&memory, 1002);
    assert_eq!(late.others(OTHER), (5, 1));
    late.load(&memory, 1002, KEY, (700, 1));
    one.tick(&memory, 1003);
    assert_eq!(one.others(KEY), (700, 1));
}

#[test]
fn looking_where_nothing_is_new_reads_no_data() {
    let (memory, mut one, mut other) = pair();
    one.load(&memory, 1260, KEY, (700, 1));
    other.tick(&memory, 1261);
    assert_eq!(other.others(KEY), (700, 1));
    let before = memory.0.borrow().reads;
    (1262..1300).for_each(|now_ms| other.tick(&memory, now_ms));
    assert_eq!(memory.0.borrow().reads, before);
}

#[test]
fn the_load_of_a_vm_that_died_vanishes_with_its_lease() {
    let (memory, mut one, mut other) = pair();
    one.load(&memory, 1260, KEY, (700, 1));
    for now_ms in (1300..3240).step_by(10) {
        other.tick(&memory, now_ms);
        assert_eq!(other.others(KEY), (700, 1), "at {now_ms}");
    }
    (3240..3600).for_each(|now_ms| other.tick(&memory, now_ms));
    assert_eq!((other.others(KEY), other.peers.alive()), ((0, 0), 0));
}

#[test]
fn a_new_vm_knows_the_loads_within_ticks_and_then_the_prompts() {
    let (memory, mut one, mut other) = pair();
    for now_ms in 1260..1360 {
        one.load(&memory, now_ms, KEY, (now_ms, 1));
        one.prompt(&memory, now_ms, (0..100).map(|block| now_ms * 1000 + block));
        other.tick(&memory, now_ms);
    }
    let mut late = Vm::new(3);
    (1360..1363).for_each(|now_ms| late.tick(&memory, now_ms));
    assert_eq!(late.others(KEY), (1359, 1));
    (1363..1400).for_each(|now_ms| late.tick(&memory, now_ms));
    let (mut late, mut all) = (late.prompts, other.prompts);
    late.sort_unstable();
    all.sort_unstable();
    late.dedup();
    assert_eq!((late.len(), late), (10_000, all));
}

#[test]
fn the_next_owner_of_a_slot_goes_on_in_its_ring_and_knows_what_stands_there() {
    let (memory, mut one, mut other) = pair();
    one.prompt(&memory, 1260, 10..13);
    other.tick(&memory, 1270);
    let mut next = Vm::new(3);
    for now_ms in (4000..5000).step_by(10) {
        next.tick(&memory, now_ms);
        other.tick(&memory, now_ms);
    }
    next.prompt(&memory, 5000, 20..21);
    next.load(&memory, 5000, KEY, (9, 1));
    other.tick(&memory, 5001);
    assert_eq!(next.prompts, [10, 11, 12]);
    assert_eq!(other.prompts.last(), Some(&20));
    assert_eq!(other.others(KEY), (9, 1));
}

#[test]
fn who_falls_behind_a_whole_ring_begins_again_with_the_newest_loads() {
    let (memory, mut one, mut other) = pair();
    for turn in 0..3000 {
        let now_ms = 1260 + turn;
        one.load(&memory, now_ms, KEY, (turn, 1));
        one.prompt(&memory, now_ms, 0..100);
        one.tick(&memory, now_ms);
    }
    (4260..4800).for_each(|now_ms| {
        one.tick(&memory, now_ms);
        other.tick(&memory, now_ms);
    });
    assert_eq!(other.others(KEY), (2999, 1));
}

#[test]
fn a_dead_listener_does_not_make_memory_grow() {
    let (memory, mut one, _dead) = pair();
    let mut most = 0;
    for turn in 0..20_000 {
        let now_ms = 1260 + turn;
        one.prompt(&memory, now_ms, 0..100);
        one.tick(&memory, now_ms);
        if turn == 10_000 {
            most = memory.bytes();
        }
    }
    assert!(
        memory.bytes() <= most + 16 * 1024,
        "{most} then {}",
        memory.bytes()
    );
    assert!(most < 4 * 1024 * 1024, "{most}");
}

#[test]
fn a_prompt_of_any_length_is_told_in_bounded_segments() {
    let (memory, mut one, mut other) = pair();
    one.prompt(&memory, 1260, 0..16_000);
    let largest = memory
        .0
        .borrow()
        .data
        .values()
        .map(|(bytes, _)| bytes.len())
        .max();
    assert!(largest < Some(16 * 1024), "{largest:?}");
    (1261..1280).for_each(|now_ms| other.tick(&memory, now_ms));
    assert_eq!(other.prompts, (0..16_000).collect::<Vec<u64>>());
}

#[test]
fn a_vm_that_slept_past_its_lease_does_not_write_into_a_slot_that_may_be_taken() {
    let (memory, mut one, mut other) = pair();
    let mut next = Vm::new(3);
    for now_ms in (4000..4600).step_by(10) {
        next.tick(&memory, now_ms);
        other.tick(&memory, now_ms);
    }
    assert_eq!(next.peers.outbox.slot(), Some(0));
    one.load(&memory, 4600, KEY, (700, 1));
    other.tick(&memory, 4610);
    assert_eq!(other.others(KEY), (0, 0));
    (4620..5200).for_each(|now_ms| {
        one.tick(&memory, now_ms);
        other.tick(&memory, now_ms);
        next.tick(&memory, now_ms);
    });
    assert_eq!((other.others(KEY), next.others(KEY)), ((700, 1), (700, 1)));
    assert_eq!(one.peers.outbox.slot(), Some(2));
}

#[test]
fn a_clock_that_jumps_loses_no_load_for_longer_than_a_beat() {
    let (memory, mut one, mut other) = pair();
    one.load(&memory, 1260, KEY, (700, 1));
    for start_ms in [3_600_000, 5_000, 900_000_000, 1] {
        for now_ms in start_ms..start_ms + 600 {
            one.tick(&memory, now_ms);
            other.tick(&memory, now_ms);
        }
        assert_eq!(other.others(KEY), (700, 1), "after the jump to {start_ms}");
        assert_eq!((one.peers.alive(), other.peers.alive()), (1, 1));
    }
}

#[test]
fn two_vms_that_start_at_once_get_two_slots() {
    let memory = Memory::default();
    let mut vms: Vec<Vm> = (1..=40).map(Vm::new).collect();
    for now_ms in 0..600 {
        vms.iter_mut().for_each(|vm| vm.tick(&memory, now_ms));
    }
    let mut slots: Vec<_> = vms
        .iter()
        .map(|vm| vm.peers.outbox.slot().unwrap())
        .collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..40).collect::<Vec<u16>>());
    assert!(vms.iter().all(|vm| vm.peers.alive() == 39));
}

#[test]
fn an_office_is_held_by_one_and_passes_on_when_its_holder_dies_or_gives_it_up() {
    let (memory, office) = (Memory::default(), Office::new("reports"));
    assert!(
        !office.hold(&memory, 1, 0),
        "the first look makes the place"
    );
    assert!(office.hold(&memory, 1, 10));
    assert!(!office.hold(&memory, 2, 20));
    assert!(office.hold(&memory, 1, 1000));
    assert!(!office.is_vacant(&memory, 2249) && office.is_vacant(&memory, 2250));
    assert!(!office.hold(&memory, 2, 2200));
    assert!(
        office.hold(&memory, 2, 2250),
        "the holder has not shown itself for 1.25 s"
    );
    assert!(!office.hold(&memory, 1, 2600));
    office.give_up(&memory, 1);
    assert!(
        !office.hold(&memory, 1, 2600),
        "only the holder can give it up"
    );
    office.give_up(&memory, 2);
    assert!(office.hold(&memory, 1, 2601));
    memory.0.borrow_mut().conflicts = 1;
    assert!(!office.hold(&memory, 1, 2602), "a race was lost");
}

/// What can happen to the VMs.
#[derive(Clone, Debug)]
enum Step {
    Load(usize, u64, u64),
    Prompt(usize, usize),
    Tick(usize),
    Sleep(u64),
    Jump(u64),
    Die(usize),
    Junk(u16, u64, Vec<u8>),
    Conflicts(usize),
    StartOver(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let junk = proptest::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        8 => (0..4usize, 0..3u64, 0..1000u64).prop_map(|(vm, rank, load)| Step::Load(vm, rank, load)),
        4 => (0..4usize, 0..900usize).prop_map(|(vm, blocks)| Step::Prompt(vm, blocks)),
        20 => (0..4usize).prop_map(Step::Tick),
        8 => (0..300u64).prop_map(Step::Sleep),
        1 => (0..10_000_000u64).prop_map(Step::Jump),
        1 => (0..4usize).prop_map(Step::Die),
        1 => (0..6u16, 0..5u64, junk).prop_map(|(slot, number, junk)| Step::Junk(slot, number, junk)),
        1 => (1..4usize).prop_map(Step::Conflicts),
        1 => (0..4usize).prop_map(Step::StartOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, when it has stopped each VM knows exactly what the others have.
    #[test]
    fn loads_converge(steps in proptest::collection::vec(step(), 0..120)) {
        let memory = Memory::default();
        let mut vms: Vec<Vm> = (1..=4).map(Vm::new).collect();
        let mut truth: Vec<BTreeMap<u64, u64>> = vec![BTreeMap::new(); 4];
        let (mut now_ms, mut last_vm) = (1_000_000, 4);
        for step in steps {
            match step {
                Step::Load(vm, rank, load) => {
                    truth[vm].insert(rank, load);
                    let key = RankKey { pool: 1, rank };
                    vms[vm].load(&memory, now_ms, key, (load, u32::from(load > 0)));
                }
                Step::Prompt(vm, blocks) => vms[vm].prompt(&memory, now_ms, 0..blocks as u64),
                Step::Tick(vm) => vms[vm].tick(&memory, now_ms),
                Step::Sleep(ms) => now_ms += ms,
                Step::Jump(to_ms) => now_ms = to_ms,
                Step::Die(vm) => {
                    last_vm += 1;
                    vms[vm] = Vm::new(last_vm);
                    truth[vm].clear();
                }
                Step::Junk(slot, number, junk) => {
                    memory.put(&slot_key(slot), &junk);
                    memory.put(&segment::segment_key(slot, number), &junk);
                }
                Step::Conflicts(count) => memory.0.borrow_mut().conflicts = count,
                Step::StartOver(vm) => vms[vm].start_over(),
            }
        }
        for _ in 0..1200 {
            now_ms += 5;
            vms.iter_mut().for_each(|vm| vm.tick(&memory, now_ms));
        }
        for (own, vm) in vms.iter().enumerate() {
            prop_assert_eq!(vm.peers.alive(), 3);
            for rank in 0..3 {
                let others = (0..4).filter(|other| *other != own);
                let loads = others.filter_map(|other| truth[other].get(&rank));
                let expected = loads.fold((0, 0), |(tokens, requests), load| {
                    (tokens + load, requests + u32::from(*load > 0))
                });
                prop_assert_eq!(vm.others(RankKey { pool: 1, rank }), expected, "rank {} at VM {}", rank, own);
            }
        }
    }
}
