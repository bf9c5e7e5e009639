//! Pools of several workers that tell each other what they do.

use super::*;
use crate::peers::Heard;
use crate::{News, Peers, SharedMemory, Stored};

/// Two pools of the same ranks in two workers, and what lies between them.
struct Pair {
    memory: Memory,
    pools: [Pool; 2],
    peers: [Peers; 2],
    now_ms: u64,
}

#[derive(Default)]
struct Memory {
    data: std::cell::RefCell<std::collections::HashMap<String, (Vec<u8>, u32)>>,
    told: u64,
}

impl SharedMemory for Memory {
    fn get(&self, key: &str) -> Stored {
        let data = self.data.borrow();
        data.get(key)
            .map_or_else(Stored::default, |(bytes, version)| Stored {
                bytes: bytes.clone(),
                version: Some(*version),
            })
    }

    fn set(&self, key: &str, bytes: &[u8], version: Option<u32>) -> bool {
        let mut data = self.data.borrow_mut();
        let stands = data.get(key).map(|(_, version)| *version);
        let is_free = version.is_none() || version == stands;
        if is_free {
            data.insert(key.to_string(), (bytes.to_vec(), stands.unwrap_or(0) + 1));
        }
        is_free
    }

    fn told(&mut self, _slot: u16) -> u64 {
        self.told
    }

    fn tell(&mut self, _slot: u16) {
        self.told += 1;
    }
}

impl Pair {
    fn new(ranks: &[&str]) -> Self {
        let mut pair = Self {
            memory: Memory::default(),
            pools: [pool(ranks), pool(ranks)],
            peers: [Peers::new(1), Peers::new(2)],
            now_ms: 1000,
        };
        for _ in 0..3 {
            pair.now_ms += 250;
            pair.meet(0);
            pair.meet(1);
        }
        pair
    }

    /// A worker hears what the other told.
    fn meet(&mut self, worker: usize) {
        let (pool, now_ms) = (&mut self.pools[worker], self.now_ms);
        let mut heard = |heard: Heard<'_>| take(pool, heard, now_ms);
        self.peers[worker].beat(&mut self.memory, now_ms, &mut heard);
        self.peers[worker].hear(&mut self.memory, now_ms, &mut heard);
    }

    fn pick(&mut self, worker: usize, prompt: &Prompt) -> Pick {
        self.meet(worker);
        let pick = self.pools[worker]
            .pick(Some(prompt), 0, self.now_ms)
            .unwrap();
        let rank = pick.charge.rank();
        let key = self.pools[worker].rank_key(rank).unwrap();
        self.peers[worker].prompt(key, self.now_ms, &pick.sent);
        self.tell_load(worker, rank);
        pick
    }

    /// A rank gives a worker the first byte of a streamed answer, to a request that was picked a while ago.
    fn answer(&mut self, worker: usize, address: &str, waited_ms: u64) {
        let pool = &mut self.pools[worker];
        let rank = pool
            .seats
            .rank_of(crate::seats::address_hash(rank(address)));
        let (rank, picked_ms) = (rank.unwrap(), self.now_ms.saturating_sub(waited_ms));
        let attempt = crate::Attempt {
            picked_ms,
            ended_ms: self.now_ms,
        };
        pool.answered(rank, attempt, true, self.now_ms);
        let key = pool.rank_key(rank).unwrap();
        let span = crate::Span {
            from_ms: picked_ms,
            to_ms: self.now_ms,
        };
        self.peers[worker].answered(key, span, true);
        self.peers[worker].flush(&mut self.memory, self.now_ms * 1000);
    }

    fn tell_load(&mut self, worker: usize, rank: RankId) {
        let (key, load) = self.pools[worker].own_load(rank).unwrap();
        self.peers[worker].load(key, load);
        self.peers[worker].flush(&mut self.memory, self.now_ms * 1000);
    }
}

/// A pool takes in what was heard.
fn take(pool: &mut Pool, heard: Heard<'_>, now_ms: u64) {
    match heard {
        Heard::Cleared { slot } => pool.heard_nothing_of(slot),
        Heard::News { slot, news } => match news {
            News::Load { key, load } => pool.heard_load(slot, key.rank, load),
            News::Prompt {
                key,
                at_ms,
                aged_blocks,
                blocks,
            } => {
                pool.heard_prompt(key.rank, at_ms, aged_blocks, blocks, now_ms);
            }
            News::TakenBack {
                key,
                at_ms,
                aged_blocks,
                held,
                blocks,
            } => pool.heard_taken_back(key.rank, at_ms, aged_blocks, held, blocks),
            News::Doubted { key } => pool.heard_doubt(key.rank, now_ms),
            News::Delivered { key, kind } => pool.heard_delivery(key.rank, kind),
            News::Forgotten { key, at_ms } => {
                pool.heard_forgotten(key.rank, at_ms, now_ms);
            }
            News::Capacity { key, share } => pool.heard_capacity(key.rank, share),
            News::Failed { key, code, span } => {
                pool.heard_failure(key.rank, code, span, now_ms);
            }
            News::Answered {
                key,
                span,
                is_streamed,
            } => pool.heard_answer(key.rank, span, is_streamed, now_ms),
            News::Standing { key, spell } => pool.heard_spell(key.rank, &spell, now_ms),
            News::Told { .. } | News::Totals(_) => {}
        },
    }
}

#[test]
fn a_conversation_goes_on_at_its_rank_through_whichever_worker() {
    let mut pair = Pair::new(&TWO_PODS);
    let mut home = None;
    for turn in 1..20 {
        let pick = pair.pick(turn % 2, &prompt("alice", 40 * turn));
        let home = *home.get_or_insert(pick.ranks[0]);
        assert_eq!(pick.ranks[0], home, "turn {turn}");
        let before = u64::try_from(40 * (turn - 1) * BLOCK / 4).unwrap();
        assert_eq!(pick.matched_tokens, before, "turn {turn}");
        let rank = pick.charge.rank();
        pair.pools[turn % 2].end(pick.charge);
        pair.tell_load(turn % 2, rank);
    }
}

#[test]
fn what_one_worker_has_on_a_rank_keeps_the_other_off_until_it_has_ended() {
    let mut pair = Pair::new(&["10.0.0.1:8000", "10.0.0.2:8000"]);
    let long = pair.pick(0, &prompt("alice", 200));
    let (busy, rank) = (long.ranks[0], long.charge.rank());
    for name in ["bob", "carol", "dave"] {
        let pick = pair.pick(1, &prompt(name, 10));
        assert_ne!(pick.ranks[0], busy, "{name}");
    }
    assert_eq!(pair.pools[1].load(busy), Some((3200, 1)));
    pair.pools[0].end(long.charge);
    pair.tell_load(0, rank);
    pair.meet(1);
    assert_eq!(pair.pools[1].load(busy), Some((0, 0)));
}

#[test]
fn only_what_is_news_is_told() {
    let mut pair = Pair::new(&["10.0.0.1:8000"]);
    let sent = |pair: &mut Pair, blocks| pair.pick(0, &prompt("alice", blocks)).sent.blocks.len();
    assert_eq!(
        [
            sent(&mut pair, 40),
            sent(&mut pair, 40),
            sent(&mut pair, 50)
        ],
        [40, 0, 10]
    );
}

#[test]
fn a_rank_that_failed_one_worker_is_out_for_the_other_too() {
    let mut pair = Pair::new(&TWO_PODS);
    let dead = rank("10.0.0.1:8000");
    for _ in 0..2 {
        let attempt = crate::Attempt {
            picked_ms: pair.now_ms,
            ended_ms: pair.now_ms,
        };
        let failure = crate::Failure::Connect;
        let (rank, _) = pair.pools[0]
            .failed(dead, failure, attempt, pair.now_ms)
            .unwrap();
        let key = pair.pools[0].rank_key(rank).unwrap();
        let span = crate::Span {
            from_ms: pair.now_ms,
            to_ms: pair.now_ms,
        };
        pair.peers[0].failed(key, failure.code(), span);
        pair.peers[0].flush(&mut pair.memory, pair.now_ms * 1000);
        pair.now_ms += 1;
    }
    let picks: Vec<Pick> = (0..12)
        .map(|name| pair.pick(1, &prompt(&format!("n{name}"), 4)))
        .collect();
    assert!(picks.iter().all(|pick| !pick.ranks.contains(&dead)));
    assert_eq!(pair.pools[1].health_counts(pair.now_ms).out_ranks, 1);
}

#[test]
fn a_worker_with_one_request_hears_whether_its_rank_hangs_or_all_are_slow() {
    let (hung, other) = ("10.0.0.1:8000", "10.0.0.2:8000");
    for (who_answers, after_ms, is_hung) in
        [(other, 20, true), (other, 2_000, false), (hung, 20, false)]
    {
        let mut pair = Pair::new(&[hung, other]);
        let picked_ms = pair.now_ms;
        for _ in 0..20 {
            pair.now_ms += 200;
            pair.answer(0, other, after_ms);
            pair.answer(0, who_answers, after_ms);
            pair.meet(1);
        }
        let pool = &mut pair.pools[1];
        let rank = pool.seats.rank_of(crate::seats::address_hash(rank(hung)));
        let judged = pool.is_hung(rank.unwrap(), picked_ms, 0, pair.now_ms);
        assert_eq!(judged, is_hung, "{who_answers} after {after_ms} ms");
    }
}

#[test]
fn a_worker_that_comes_late_does_not_believe_prompts_from_before_a_restart() {
    let name = "10.0.0.1:8000";
    let started = |start_time_ms| crate::Report {
        start_time_ms: Some(start_time_ms),
        ..crate::Report::default()
    };
    for (restarts, expected) in [(false, 640), (true, 0)] {
        let mut pair = Pair::new(&[name]);
        let prompt = prompt("alice", 40);
        pair.now_ms += 1000;
        pair.pick(0, &prompt);
        let mut table = crate::ReportTable::default();
        table.answered(
            crate::seats::address_hash(rank(name)),
            started(5_000),
            pair.now_ms,
        );
        pair.now_ms += 1000;
        let start_time_ms = if restarts { 70_000 } else { 5_000 };
        table.answered(
            crate::seats::address_hash(rank(name)),
            started(start_time_ms),
            pair.now_ms,
        );
        // The other worker learns what is so now first, and then hears what was.
        pair.pools[1].reported(&table, pair.now_ms);
        pair.now_ms += 10;
        pair.meet(1);
        let again = pair.pick(1, &prompt);
        assert_eq!(again.matched_tokens, expected, "restarts: {restarts}");
        let again = pair.pick(1, &prompt);
        assert_eq!(again.matched_tokens, 640, "restarts: {restarts}");
    }
}

#[test]
fn no_worker_believes_a_prompt_where_it_never_got() {
    let mut pair = Pair::new(&TWO_PODS);
    let prompt = prompt("alice", 40);
    let pick = pair.pick(0, &prompt);
    let (failed, key) = (
        pick.charge.rank(),
        pair.pools[0].rank_key(pick.charge.rank()),
    );
    pair.pools[0].end(pick.charge);
    let taken = pair.pools[0].take_back(failed, &prompt, &pick.insertion);
    pair.peers[0].taken_back(key.unwrap(), pair.now_ms, &taken);
    pair.tell_load(0, failed);
    assert_eq!(pair.pick(1, &prompt).matched_tokens, 0);
}

#[test]
fn a_prompt_of_several_events_is_taken_back_whole() {
    let mut pair = Pair::new(&TWO_PODS);
    let long = prompt("alice", 625);
    for _ in 0..3 {
        let pick = pair.pick(0, &long);
        assert_eq!(pick.matched_tokens, 0);
        let rank = pick.charge.rank();
        let key = pair.pools[0].rank_key(rank).unwrap();
        pair.pools[0].end(pick.charge);
        let taken = pair.pools[0].take_back(rank, &long, &pick.insertion);
        pair.peers[0].taken_back(key, pair.now_ms, &taken);
        pair.tell_load(0, rank);
        pair.now_ms += 1;
        pair.meet(1);
        let elsewhere = pair.pools[1].pick(Some(&long), 0, pair.now_ms).unwrap();
        assert_eq!(elsewhere.matched_tokens, 0);
        let rank = elsewhere.charge.rank();
        pair.pools[1].take_back(rank, &long, &elsewhere.insertion);
        pair.pools[1].end(elsewhere.charge);
    }
}

#[test]
fn a_worker_that_hears_of_a_prompt_after_it_was_taken_back_does_not_believe_in_it() {
    let mut first = pool(&TWO_PODS);
    let long = prompt("alice", 40);
    let pick = first.pick(Some(&long), 0, 100).unwrap();
    let rank = pick.charge.rank();
    let key = first.rank_key(rank).unwrap();
    let taken = first.take_back(rank, &long, &pick.insertion);
    let mut late = pool(&TWO_PODS);
    let mut memory = Memory::default();
    let mut teller = Peers::new(1);
    teller.beat(&mut memory, 100, &mut |_| {});
    // Heard in the other order than told, as by a worker that reads the newest segment first.
    teller.taken_back(key, 110, &taken);
    teller.prompt(key, 100, &pick.sent);
    teller.flush(&mut memory, 110_000);
    let mut listener = Peers::new(2);
    let mut heard = |heard: Heard<'_>| take(&mut late, heard, 120);
    listener.beat(&mut memory, 120, &mut heard);
    listener.hear(&mut memory, 120, &mut heard);
    assert_eq!(late.pick(Some(&long), 0, 120).unwrap().matched_tokens, 0);
}

#[test]
fn a_worker_that_comes_late_has_the_loads_of_ranks_that_it_learns_of_later() {
    let mut first = pool(&TWO_PODS);
    let pick = first.pick(Some(&prompt("alice", 40)), 0, 0).unwrap();
    let (key, load) = first.own_load(pick.charge.rank()).unwrap();
    let mut late = pool(&["10.0.9.9:8000"]);
    late.heard_load(3, key.rank, load);
    late.list(&Membership::from_static(first.config().ranks()));
    assert_eq!(late.load(pick.ranks[0]), Some((640, 1)));
    late.heard_nothing_of(3);
    assert_eq!(late.load(pick.ranks[0]), Some((0, 0)));
}

#[test]
fn workers_count_the_misses_of_a_rank_together() {
    let mut pair = Pair::new(&["10.0.0.1:8000"]);
    let names = ["alice", "bob", "carol"];
    for name in names {
        let pick = pair.pick(0, &prompt(name, 20));
        let rank = pick.charge.rank();
        pair.pools[0].end(pick.charge);
        pair.tell_load(0, rank);
    }
    use crate::Change::{Doubted, Forgotten};
    for (worker, cached_tokens, change) in [
        (0, 304, crate::Change::None),
        (0, 0, Doubted),
        (1, 0, Forgotten),
    ] {
        let prompt = prompt(names[worker], 20);
        let pick = pair.pick(worker, &prompt);
        let (rank, expected) = (pick.charge.rank(), pick.expected.unwrap());
        let usage = crate::Usage {
            prompt_tokens: 320,
            cached_tokens: Some(cached_tokens),
            completion_tokens: None,
        };
        let told = pair.pools[worker].told(&expected, &prompt, &usage, 5, 9);
        assert_eq!(told.change, change);
        // The other worker believes this kind though it never saw it deliver.
        assert_eq!(told.new_kind.is_some(), cached_tokens > 0);
        let key = pair.pools[worker].rank_key(rank).unwrap();
        if let Some(kind) = told.new_kind {
            pair.peers[worker].delivered(key, kind);
        }
        match change {
            crate::Change::None => {}
            Doubted => pair.peers[worker].doubted(key),
            _ => pair.peers[worker].forgotten(key, 5),
        }
        pair.peers[worker].prompt(key, 9, &told.sent);
        pair.pools[worker].end(pick.charge);
        pair.tell_load(worker, rank);
    }
    let held = names.map(|name| pair.pick(0, &prompt(name, 20)).matched_tokens);
    assert_eq!(held, [0, 320, 0]);
}
