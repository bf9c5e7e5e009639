//! What a pick costs in a pool as large as it may be: 1,024 ranks, an index full of a million blocks.
//!
//! The same code is measured natively and, by calls from Node, in wasm32: V8 runs it there as in Envoy.

use std::collections::VecDeque;

use routing::{Block, BodyEnd, Charge, Config, Pool, Prompt, RawConfig, chain};

/// Pods of the pool, of eight ranks each: as many ranks as a pool may have.
pub const PODS: u64 = 128;
/// Blocks that the index holds at most.
pub const INDEX_BLOCKS: u64 = 1_000_000;
/// Blocks of a prompt that fills the index.
pub const FILLING_BLOCKS: u64 = 200;
/// Those at its start that others share.
const SHARED_BLOCKS: u64 = 40;
/// Of a conversation, blocks that its next turn begins with.
const TOLD_BLOCKS: u64 = 150;
/// Three times what fills the index: then it has evicted for twice as long as it has grown.
pub const FILLING_PROMPTS: u64 = 3 * INDEX_BLOCKS / (FILLING_BLOCKS - SHARED_BLOCKS);
/// One request for each rank.
const IN_FLIGHT: usize = 1024;
const BLOCK_BYTES: u32 = 256;

/// How many starts the prompts share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// Every prompt has one of so many: as with as many applications on one model.
    Some(u64),
    /// Each has its own.
    Own,
}

impl Starts {
    /// What is measured, with its name.
    pub const ALL: [(&str, Self); 3] = [
        ("own", Self::Own),
        ("one of 64", Self::Some(64)),
        ("the same", Self::Some(1)),
    ];

    fn of(self, conversation: u64) -> u64 {
        match self {
            Self::Some(count) => conversation % count,
            Self::Own => conversation,
        }
    }
}

/// A pool of 1,024 ranks, each with a request in flight.
#[derive(Debug)]
pub struct LargePool {
    starts: Starts,
    pool: Pool,
    in_flight: VecDeque<Charge>,
    conversations: u64,
}

impl LargePool {
    /// A pool that knows nothing yet; [`FILLING_PROMPTS`] picks of [`FILLING_BLOCKS`] fill it.
    ///
    /// # Panics
    /// Never: the configuration is one.
    #[must_use]
    pub fn new(starts: Starts) -> Self {
        let ranks = (0..PODS).map(|pod| format!("10.0.{}.{}:8000-8007", pod / 100, pod % 100));
        let raw = RawConfig {
            ranks: Some(ranks.collect()),
            ..RawConfig::default()
        };
        let config = Config::try_from(raw).expect("a configuration");
        Self {
            starts,
            pool: Pool::new(config),
            in_flight: VecDeque::new(),
            conversations: 0,
        }
    }

    /// The first prompt of a conversation.
    pub fn first_turn(&mut self, blocks: u64) -> Prompt {
        self.conversations += 1;
        self.turn_of(self.conversations, blocks, blocks)
    }

    /// A prompt that goes on with a conversation of a while ago, which the pool has seen for 150 blocks.
    pub fn next_turn(&mut self, blocks: u64) -> Prompt {
        self.conversations += 1;
        self.turn_of(self.conversations - 1000, TOLD_BLOCKS, blocks)
    }

    /// Picks, as a callback of the module does.
    pub fn pick(&mut self, prompt: &Prompt) {
        let pick = self.pool.pick(Some(prompt), 0, 0);
        self.in_flight.extend(pick.map(|pick| pick.charge));
    }

    /// Ends the oldest requests, so that each rank has one on average.
    pub fn answer_oldest(&mut self) {
        while self.in_flight.len() > IN_FLIGHT {
            if let Some(charge) = self.in_flight.pop_front() {
                self.pool.end(charge);
            }
        }
    }

    /// Shares the start with others, the blocks up to `known` with the conversation, and nothing behind them.
    fn turn_of(&self, conversation: u64, known: u64, blocks: u64) -> Prompt {
        let start = self.starts.of(conversation);
        let text = (0..blocks).map(|block| match block {
            _ if block < SHARED_BLOCKS => chain(1, start),
            _ if block < known => chain(2, conversation),
            _ => chain(3, self.conversations),
        });
        let mut hash = 0;
        let blocks: Vec<Block> = (1..)
            .zip(text)
            .map(|(number, text)| {
                hash = chain(hash, text);
                Block {
                    chain_hash: hash,
                    end_bytes: number * BLOCK_BYTES,
                }
            })
            .collect();
        let end = blocks.last().map_or(0, |block| block.end_bytes);
        Prompt {
            anchor: blocks.get(15).map_or(0, |block| block.chain_hash),
            prompt_bytes: u64::from(end),
            blocks,
            model: 0,
            bypasses_cache: false,
            kind: 0,
            body_end: BodyEnd::Whole,
            read_bytes: 0,
        }
    }
}

/// Calls from Node: one pool is kept in the module, and the prompt that is picked for next.
#[cfg(target_arch = "wasm32")]
mod node {
    use std::cell::RefCell;

    use routing::Prompt;

    use super::{LargePool, Starts};

    thread_local! {
        static KEPT: RefCell<Option<(LargePool, Prompt)>> = const { RefCell::new(None) };
    }

    /// Makes a pool; once in each instance, so that the memory is that of one.
    #[unsafe(no_mangle)]
    extern "C" fn start(starts: usize) {
        let mut pool = LargePool::new(Starts::ALL[starts].1);
        let prompt = pool.first_turn(1);
        KEPT.with(|kept| *kept.borrow_mut() = Some((pool, prompt)));
    }

    /// Makes the next prompt.
    #[unsafe(no_mangle)]
    extern "C" fn prepare(goes_on: u32, blocks: u64) {
        KEPT.with(|kept| {
            if let Some((pool, prompt)) = &mut *kept.borrow_mut() {
                pool.answer_oldest();
                *prompt = if goes_on == 1 {
                    pool.next_turn(blocks)
                } else {
                    pool.first_turn(blocks)
                };
            }
        });
    }

    #[unsafe(no_mangle)]
    extern "C" fn pick() {
        KEPT.with(|kept| {
            if let Some((pool, prompt)) = &mut *kept.borrow_mut() {
                pool.pick(prompt);
            }
        });
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn turns_share_what_they_say() {
        let mut full = LargePool::new(Starts::Some(1));
        full.conversations = 5000;
        let (one, other) = (full.first_turn(200), full.first_turn(200));
        let shared = |one: &Prompt, other: &Prompt| {
            let pairs = one.blocks.iter().zip(&other.blocks);
            pairs.take_while(|(one, other)| one == other).count()
        };
        assert_eq!(shared(&one, &other), 40);
        full.conversations += 998;
        assert_eq!(shared(&one, &full.next_turn(1000)), 150);
        full.starts = Starts::Own;
        assert_eq!(shared(&full.first_turn(200), &full.first_turn(200)), 0);
    }
}
