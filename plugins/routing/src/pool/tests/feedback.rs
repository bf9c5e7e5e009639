//! A pool before ranks whose caches are not what it thinks, with and without what answers tell.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::*;
use crate::{Block, BodyEnd, Change, Usage, chain};

/// A cache that loses what was not used for longest, of one prompt the end first.
#[derive(Default)]
struct Cache {
    stamps: HashMap<u64, u64>,
    by_stamp: BTreeMap<u64, u64>,
    clock: u64,
}

impl Cache {
    /// Takes a prompt in; gives how many of its first blocks were there.
    fn serve(&mut self, prompt: &Prompt, capacity: usize) -> usize {
        let hashes = || prompt.blocks.iter().map(|block| block.chain_hash);
        let held = hashes()
            .take_while(|hash| self.stamps.contains_key(hash))
            .count();
        self.clock += 1 << 20;
        for (stamp, hash) in (0..self.clock).rev().zip(hashes()) {
            if let Some(old) = self.stamps.insert(hash, stamp) {
                self.by_stamp.remove(&old);
            }
            self.by_stamp.insert(stamp, hash);
        }
        while self.stamps.len() > capacity {
            let (_, hash) = self.by_stamp.pop_first().unwrap();
            self.stamps.remove(&hash);
        }
        held
    }
}

/// Turn after turn of many conversations behind one of a few system prompts.
struct Traffic {
    seed: u64,
    turns: HashMap<u64, u64>,
}

const SYSTEM_BLOCKS: u64 = 20;
const TURN_BLOCKS: u64 = 12;
const MOST_TURNS: u64 = 8;

impl Traffic {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            turns: HashMap::new(),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = chain(self.seed, 1);
        self.seed % below
    }

    fn next(&mut self) -> Prompt {
        let conversation = self.random(120);
        let turn = self.turns.entry(conversation).or_default();
        *turn += 1;
        // After its last turn another conversation takes its place.
        let (number, turn) = (*turn / MOST_TURNS, *turn % MOST_TURNS + 1);
        let system = (0..SYSTEM_BLOCKS).map(|block| chain(conversation % 4, block));
        let own = (0..turn * TURN_BLOCKS).map(|block| chain(chain(conversation, number), block));
        let mut blocks: Vec<Block> = Vec::new();
        for word in system.chain(own) {
            let before = blocks.last().copied().unwrap_or(Block {
                chain_hash: 0,
                end_bytes: 0,
            });
            blocks.push(Block {
                chain_hash: chain(before.chain_hash, word),
                end_bytes: before.end_bytes + 64,
            });
        }
        Prompt {
            prompt_bytes: u64::from(blocks.last().unwrap().end_bytes),
            anchor: blocks[3].chain_hash,
            blocks,
            model: 9,
            bypasses_cache: false,
            kind: 0,
            body_end: BodyEnd::Whole,
            read_bytes: 0,
        }
    }
}

/// What a rank really holds, in blocks of 16 tokens.
const CAPACITY: usize = 1500;

#[derive(Clone, Copy)]
struct Case {
    /// Blocks that the pool assumes.
    assumed: u64,
    tells: bool,
    /// Whether one rank loses its cache now and then.
    resets: bool,
    /// Prompts of another gateway for each of ours.
    foreign: usize,
    tokens_per_block: u64,
}

impl Case {
    const RIGHT: Self = Self {
        assumed: CAPACITY as u64,
        tells: false,
        resets: false,
        foreign: 0,
        tokens_per_block: 16,
    };
}

/// What came of the second half of the requests.
#[derive(Debug, Default)]
struct Outcome {
    prompt: u64,
    predicted: u64,
    delivered: u64,
    error: u64,
}

impl Outcome {
    fn percent(&self, tokens: u64) -> f64 {
        100.0 * tokens as f64 / self.prompt as f64
    }

    fn hit_percent(&self) -> f64 {
        self.percent(self.delivered)
    }

    /// By how many percent of the prompts the predicted sum is off.
    fn bias_percent(&self) -> f64 {
        self.percent(self.predicted.abs_diff(self.delivered))
    }

    fn error_percent(&self) -> f64 {
        self.percent(self.error)
    }
}

const REQUESTS: usize = 6_000;
/// Requests that are under way at a time, and those of them without a first byte.
const IN_FLIGHT: usize = 12;
const QUEUED: usize = 4;

fn run(case: &Case) -> Outcome {
    let raw = RawConfig {
        ranks: Some(vec!["10.0.0.1:8000-8003".to_string()]),
        block_bytes: Some(64),
        rank_capacity_tokens: Some(case.assumed * 16),
        miss_weight: Some(3.0),
        ..RawConfig::default()
    };
    let mut pool = Pool::new(Config::try_from(raw).unwrap());
    let mut caches: [Cache; 4] = Default::default();
    let (mut traffic, mut others) = (Traffic::new(1), Traffic::new(2));
    let mut result = Outcome::default();
    let mut open: VecDeque<(Pick, Prompt, Usage)> = VecDeque::new();
    for number in 0..REQUESTS {
        if case.resets && number % 150 == 149 {
            caches[number / 150 % 4] = Cache::default();
        }
        for _ in 0..case.foreign {
            let mut prompt = others.next();
            prompt
                .blocks
                .iter_mut()
                .for_each(|block| block.chain_hash ^= 1);
            let rank = usize::try_from(others.random(4)).unwrap();
            caches[rank].serve(&prompt, CAPACITY);
        }
        let prompt = traffic.next();
        let pick = pool.pick(Some(&prompt), 0, 0).unwrap();
        let rank = pick.charge.rank();
        let held = caches[rank.index()]
            .serve(&prompt, CAPACITY)
            .min(prompt.blocks.len() - 1) as u64;
        let usage = Usage {
            prompt_tokens: prompt.blocks.len() as u64 * case.tokens_per_block,
            cached_tokens: Some(held * case.tokens_per_block),
            completion_tokens: Some(1),
        };
        let matched_tokens = pick.matched_tokens;
        open.push_back((pick, prompt, usage));
        if let Some(place) = open.len().checked_sub(QUEUED) {
            pool.first_byte(&mut open[place].0.charge);
        }
        if open.len() > IN_FLIGHT {
            let (pick, prompt, usage) = open.pop_front().unwrap();
            pool.end(pick.charge);
            if case.tells {
                let now_ms = number as u64;
                pool.told(&pick.expected.unwrap(), &prompt, &usage, now_ms, now_ms);
            }
        }
        if number >= REQUESTS / 2 {
            let delivered = usage.cached_tokens.unwrap();
            result.prompt += usage.prompt_tokens;
            result.predicted += matched_tokens;
            result.delivered += delivered;
            result.error += matched_tokens.abs_diff(delivered);
        }
    }
    result
}

/// What answers tell makes the sum of what is predicted right within this, and each prediction on average within that.
const MOST_BIAS: f64 = 3.0;
const MOST_ERROR: f64 = 5.0;

/// Runs a case without and with what answers tell.
fn both(case: Case) -> [Outcome; 2] {
    [false, true].map(|tells| run(&Case { tells, ..case }))
}

/// Checks that answers make predictions right that would be far off without; gives both hit rates.
fn check(case: Case) -> [f64; 2] {
    let [off, on] = both(case);
    assert!(off.bias_percent() > 8.0, "off: {off:?}");
    assert!(on.bias_percent() < MOST_BIAS, "on: {on:?}");
    assert!(on.error_percent() < MOST_ERROR, "on: {on:?}");
    [off, on].map(|outcome| outcome.hit_percent())
}

#[test]
fn a_capacity_four_times_too_large_is_found_out() {
    let [off, on] = check(Case {
        assumed: 4 * CAPACITY as u64,
        ..Case::RIGHT
    });
    // A rank that lost a prompt is as good a home for it as any: too large costs no hits, only wrong estimates.
    assert!((off - on).abs() < 3.0, "{off} and {on}");
}

#[test]
fn a_capacity_four_times_too_small_is_found_out_and_no_longer_costs_hits() {
    let [off, on] = check(Case {
        assumed: CAPACITY as u64 / 4,
        ..Case::RIGHT
    });
    let right = run(&Case::RIGHT).hit_percent();
    assert!(on > off + 10.0, "{off} and {on}");
    assert!((right - on).abs() < 3.0, "{right} and {on}");
}

#[test]
fn caches_that_are_emptied_without_a_word_are_noticed() {
    let [off, on] = both(Case {
        resets: true,
        ..Case::RIGHT
    });
    // Each loss costs two requests that find out.
    assert!(off.bias_percent() > 5.0, "off: {off:?}");
    assert!(
        on.bias_percent() < off.bias_percent() * 0.75,
        "{on:?} and {off:?}"
    );
    assert!(
        on.error_percent() < off.error_percent(),
        "{on:?} and {off:?}"
    );
}

#[test]
fn the_traffic_of_another_gateway_leaves_less_room_and_that_is_noticed() {
    check(Case {
        foreign: 1,
        ..Case::RIGHT
    });
}

#[test]
fn another_tokenizer_is_learnt() {
    check(Case {
        tokens_per_block: 25,
        ..Case::RIGHT
    });
}

/// Picks, and lets the rank answer at once that so much of the prompt was cached; gives what that told.
fn ask(pool: &mut Pool, prompt: &Prompt, cached_blocks: u64) -> crate::Told {
    let pick = pool.pick(Some(prompt), 0, 0).unwrap();
    pool.end(pick.charge);
    let usage = usage(prompt, cached_blocks);
    pool.told(&pick.expected.unwrap(), prompt, &usage, 0, 0)
}

fn usage(prompt: &Prompt, cached_blocks: u64) -> Usage {
    Usage {
        prompt_tokens: prompt.blocks.len() as u64 * 16,
        cached_tokens: Some(cached_blocks * 16),
        completion_tokens: None,
    }
}

fn matched(pool: &mut Pool, prompt: &Prompt) -> u64 {
    let pick = pool.pick(Some(prompt), 0, 0).unwrap();
    pool.end(pick.charge);
    pick.matched_tokens
}

/// Lets requests of the same kind as all others here be answered from the cache of a rank once.
fn deliver_once(pool: &mut Pool) {
    let known = prompt("known", 20);
    ask(pool, &known, 0);
    assert_eq!(ask(pool, &known, 19).change, Change::None);
}

const ONE: [&str; 1] = ["10.0.0.1:8000"];

#[test]
fn a_rank_that_misses_twice_what_must_be_there_is_cold_but_for_what_it_just_computed() {
    let mut pool = pool(&ONE);
    let prompts = ["alice", "bob", "carol"].map(|name| prompt(name, 20));
    for prompt in &prompts {
        ask(&mut pool, prompt, 0);
    }
    let [alice, bob, carol] = &prompts;
    assert_eq!(ask(&mut pool, alice, 19).change, Change::None);
    assert_eq!(ask(&mut pool, alice, 0).change, Change::Doubted);
    let told = ask(&mut pool, bob, 0);
    assert_eq!(
        (told.change, told.sent.blocks.len()),
        (Change::Forgotten, 20)
    );
    assert_eq!(
        (
            told.predicted_tokens,
            told.delivered_tokens,
            told.error_percent
        ),
        (320, Some(0), Some(100))
    );
    assert_eq!(
        [carol, alice, bob].map(|prompt| matched(&mut pool, prompt)),
        [0, 0, 320]
    );
}

#[test]
fn equal_prompts_that_come_together_are_no_misses() {
    let mut pool = pool(&ONE);
    let alice = prompt("alice", 40);
    let picks: Vec<Pick> = (0..8)
        .map(|_| pool.pick(Some(&alice), 0, 0).unwrap())
        .collect();
    assert_eq!(picks[7].matched_tokens, 640);
    for pick in picks {
        let expected = pick.expected.unwrap();
        let told = pool.told(&expected, &alice, &usage(&alice, 0), 0, 0);
        assert_eq!(told.change, Change::None);
        pool.end(pick.charge);
    }
    assert_eq!(matched(&mut pool, &alice), 640);
}

#[test]
fn answers_to_requests_from_before_a_rank_was_forgotten_say_nothing_more() {
    let mut pool = pool(&ONE);
    let prompts = ["alice", "bob", "carol", "dave", "erin"].map(|name| prompt(name, 20));
    for prompt in &prompts {
        ask(&mut pool, prompt, 0);
    }
    deliver_once(&mut pool);
    let mut open: Vec<Pick> = prompts
        .iter()
        .map(|prompt| pool.pick(Some(prompt), 0, 0).unwrap())
        .collect();
    let mut changes = Vec::new();
    for (pick, prompt) in open.drain(..).zip(&prompts) {
        let expected = pick.expected.unwrap();
        changes.push(pool.told(&expected, prompt, &usage(prompt, 0), 0, 0).change);
        pool.end(pick.charge);
    }
    assert_eq!(
        changes,
        [
            Change::Doubted,
            Change::Forgotten,
            Change::None,
            Change::None,
            Change::None
        ]
    );
    // Each of them was computed anew; of the first that is not remembered.
    let held = prompts.each_ref().map(|prompt| matched(&mut pool, prompt));
    assert_eq!(held, [0, 320, 320, 320, 320]);
}

#[test]
fn the_rank_that_is_credited_need_not_be_the_one_that_answered() {
    let mut pool = pool(&TWO_PODS);
    deliver_once(&mut pool);
    let alice = prompt("alice", 40);
    let pick = pool.pick(Some(&alice), 0, 0).unwrap();
    let answering = pick.charge.rank();
    let prefilling = RankId(u16::from(answering.0 == 0));
    pool.remember(prefilling, Some(&alice));
    pool.end(pick.charge);
    pool.look_up(Some(&alice));
    let ages = pool.remember(prefilling, Some(&alice)).ages;
    let expected = pool.expected(&alice, prefilling, &ages);
    for change in [Change::Doubted, Change::Forgotten] {
        let told = pool.told(&expected, &alice, &usage(&alice, 0), 0, 0);
        assert_eq!((told.change, told.delivered_tokens), (change, Some(0)));
    }
    let lives = [answering, prefilling].map(|rank| pool.index.life(rank));
    assert_eq!(lives, [0, 1]);
}

/// A request that asks for all of its prompt to be computed.
fn bypassing(prompt: &Prompt) -> Prompt {
    Prompt {
        bypasses_cache: true,
        kind: 77,
        ..prompt.clone()
    }
}

/// A request with a field that makes the server compute all of its prompt, which nobody here knows.
fn unheard_of(prompt: &Prompt) -> Prompt {
    Prompt {
        kind: 78,
        ..prompt.clone()
    }
}

#[test]
fn requests_that_pass_the_cache_by_teach_nothing_of_it() {
    for kind in [bypassing, unheard_of] {
        let mut pool = pool(&ONE);
        let names = ["alice", "bob", "carol", "dave"].map(|name| prompt(name, 20));
        names.iter().for_each(|prompt| {
            ask(&mut pool, prompt, 0);
        });
        deliver_once(&mut pool);
        let before = pool.index.capacity(RankId(0));
        for prompt in names.iter().cycle().take(24) {
            assert_eq!(ask(&mut pool, &kind(prompt), 0).change, Change::None);
        }
        let held = names.each_ref().map(|prompt| matched(&mut pool, prompt));
        assert_eq!(held, [320; 4]);
        assert_eq!(pool.index.capacity(RankId(0)), before);
    }
}

#[test]
fn a_request_that_passes_the_cache_by_is_priced_as_a_whole_miss() {
    let mut pool = pool(&ONE);
    let alice = prompt("alice", 40);
    ask(&mut pool, &alice, 0);
    let pick = pool.pick(Some(&bypassing(&alice)), 0, 0).unwrap();
    assert_eq!((pick.reason, pick.matched_tokens), (Reason::LowestCost, 0));
    assert_eq!(pick.charge.queued_tokens(), 640);
    assert_eq!(pick.expected.unwrap().matched_tokens, 0);
    pool.end(pick.charge);
    assert_eq!(matched(&mut pool, &alice), 640, "and leaves it where it is");
}

#[test]
fn tokens_of_a_byte_are_learnt_from_requests_that_pass_the_cache_by() {
    let mut pool = pool(&ONE);
    let alice = bypassing(&prompt("alice", 40));
    let dense = Usage {
        prompt_tokens: alice.prompt_bytes / 2,
        ..usage(&alice, 0)
    };
    for _ in 0..200 {
        let pick = pool.pick(Some(&alice), 0, 0).unwrap();
        pool.end(pick.charge);
        pool.told(&pick.expected.unwrap(), &alice, &dense, 0, 0);
    }
    let pick = pool.pick(Some(&alice), 0, 0).unwrap();
    assert!(pick.prompt_tokens > 900, "{}", pick.prompt_tokens);
}

#[test]
fn a_kind_that_delivers_on_other_ranks_finds_a_rank_that_lost_its_cache() {
    let mut pool = pool(&TWO_PODS);
    let prompts: Vec<Prompt> = (0..24)
        .map(|number| prompt(&format!("guest {number}"), 20))
        .collect();
    let mut ask = |prompt: &Prompt, cold: Option<RankId>| {
        let pick = pool.pick(Some(prompt), 0, 0).unwrap();
        let rank = pick.charge.rank();
        pool.end(pick.charge);
        let expected = pick.expected.unwrap();
        let held = if cold == Some(rank) {
            0
        } else {
            expected.matched_tokens / 16
        };
        let usage = usage(prompt, held.min(19));
        (rank, pool.told(&expected, prompt, &usage, 0, 0).change)
    };
    prompts.iter().for_each(|prompt| {
        ask(prompt, None);
    });
    let homes: Vec<RankId> = prompts.iter().map(|prompt| ask(prompt, None).0).collect();
    let cold = homes[0];
    let lost = prompts
        .iter()
        .map(|prompt| ask(prompt, Some(cold)))
        .filter(|(rank, change)| *rank == cold && *change == Change::Forgotten);
    assert_eq!(lost.count(), 1);
}

#[test]
fn invented_kinds_neither_empty_a_rank_nor_hide_that_it_is_empty() {
    let mut pool = pool(&ONE);
    let names = ["alice", "bob", "carol", "dave"].map(|name| prompt(name, 20));
    names.iter().for_each(|prompt| {
        ask(&mut pool, prompt, 0);
    });
    let evil = prompt("mallory", 20);
    for number in 1000..4000 {
        let invented = Prompt {
            kind: number,
            ..evil.clone()
        };
        // Each delivers twice and then misses as often as it likes.
        for cached in [19, 19, 0] {
            ask(&mut pool, &invented, cached);
        }
        if number % 10 == 0 {
            ask(&mut pool, &names[0], 19);
        }
    }
    let held = names.each_ref().map(|prompt| matched(&mut pool, prompt));
    assert_eq!(held, [320; 4], "no invented kind emptied the rank");
    ask(&mut pool, &names[0], 19);
    let changes = [0, 1].map(|place| ask(&mut pool, &names[place], 0).change);
    assert_eq!(changes, [Change::Doubted, Change::Forgotten]);
}

#[test]
fn of_a_prompt_that_was_not_read_whole_nothing_is_learnt() {
    let mut pool = pool(&ONE);
    let cut = Prompt {
        body_end: BodyEnd::Cut,
        ..prompt("alice", 40)
    };
    for _ in 0..9 {
        assert_eq!(ask(&mut pool, &cut, 0).change, Change::None);
    }
    assert_eq!(matched(&mut pool, &cut), 640);
}

mod lies {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_answer_moves_rates_and_capacities_out_of_their_bounds(
            answers in vec((0usize..4, 1usize..40, any::<u64>(), any::<Option<u64>>(), any::<bool>()), 0..80)
        ) {
            let mut pool = pool(&TWO_PODS);
            for (name, blocks, prompt_tokens, cached_tokens, is_small) in answers {
                let prompt = prompt(["alice", "bob", "carol", "dave"][name], blocks);
                let pick = pool.pick(Some(&prompt), 0, 0).unwrap();
                let rank = pick.charge.rank();
                let part = |tokens: u64| if is_small { tokens % 1000 } else { tokens };
                let usage = Usage {
                    prompt_tokens: part(prompt_tokens),
                    cached_tokens: cached_tokens.map(part),
                    completion_tokens: None,
                };
                pool.end(pick.charge);
                pool.told(&pick.expected.unwrap(), &prompt, &usage, 0, 0);
                // 16,384 tokens are 1,024 blocks at four bytes a token; both may be off by 16 times, tokens by 4 more.
                prop_assert!((16..=65_536).contains(&pool.index.capacity(rank)));
                prop_assert!((prompt.prompt_bytes / 16..=prompt.prompt_bytes).contains(&pick.prompt_tokens));
                prop_assert!(pool.index.len() < 200);
            }
        }
    }
}
