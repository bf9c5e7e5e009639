//! What VMs tell each other.

use crate::wire::Wire;
use crate::{RankLoad, Spell};

/// A block of a prompt that went to a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentBlock {
    /// Hash of the prompt up to the block's end.
    pub chain_hash: u64,
    /// How many blocks of the pool's block size stand before it in the prompt.
    pub start: u32,
}

/// What is news of a prompt that went to a rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Its blocks behind those that the rank had been sent a moment ago.
    pub blocks: Vec<SentBlock>,
    /// How many blocks the rank held of it: those behind were new to the rank.
    pub aged_blocks: u32,
}

/// A prompt that a rank was sent and has not taken in: what [`Sent`] said of it holds no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenBack {
    /// The blocks that were told when it was sent, first to last.
    pub blocks: Vec<SentBlock>,
    /// So many of them the rank held before.
    pub held: u32,
    /// How much older the prompt had made the rank's other blocks.
    pub aged_blocks: u32,
}

impl TakenBack {
    /// The first block that was new to the rank.
    #[must_use]
    pub fn first_new(&self) -> Option<&SentBlock> {
        self.blocks.get(usize::try_from(self.held).ok()?)
    }
}

/// Work of one VM that has not come back: absolute, so that a lost event is made good by the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests whose headers are held.
    pub held: u32,
    /// Requests on ranks.
    pub in_flight: u32,
    /// Those of them whose body has not ended.
    pub incomplete: u32,
    /// Tokens of them that wait for a first byte.
    pub queued_tokens: u64,
}

/// A rank of a pool, as all VMs of an Envoy name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RankKey {
    /// Hash of the pool's name.
    pub pool: u64,
    /// Hash of the rank's address.
    pub rank: u64,
}

/// Something that happened in one VM.
///
/// Loads are absolute and not differences: they can be lost, repeated or read in a snapshot without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// When all since the last such word was told, to know how late it is heard.
    Told {
        /// Microseconds since the epoch.
        at_us: u64,
    },
    /// What this VM has on all ranks, and holds.
    Totals(Totals),
    /// What this VM has on one rank.
    Load {
        /// The rank.
        key: RankKey,
        /// What it has there.
        load: RankLoad,
    },
    /// A prompt went to a rank; blocks before the first one given were there already and young.
    Prompt {
        /// The rank.
        key: RankKey,
        /// When it was picked, in milliseconds since the epoch: the rank may have lost its cache since.
        at_ms: u64,
        /// How much older it made the rank's other blocks.
        aged_blocks: u32,
        /// The blocks, first to last.
        blocks: SentBlocks<'a>,
    },
    /// A rank has not taken a prompt in: it was refused, or never got there.
    TakenBack {
        /// The rank.
        key: RankKey,
        /// When that was found, in milliseconds since the epoch: the rank may have been sent the prompt again since.
        at_ms: u64,
        /// How much older the prompt had made the rank's other blocks.
        aged_blocks: u32,
        /// So many of the first blocks given the rank held before: it still does.
        held: u32,
        /// The blocks, first to last: those that were told when it was sent.
        blocks: SentBlocks<'a>,
    },
    /// A rank may have lost all that it held: an answer did not find what must be there.
    Doubted {
        /// The rank.
        key: RankKey,
    },
    /// Requests of a kind are answered from caches: this rank delivered what it was expected to hold.
    Delivered {
        /// The rank.
        key: RankKey,
        /// The kind of the request.
        kind: u64,
    },
    /// A rank has lost all that it held.
    Forgotten {
        /// The rank.
        key: RankKey,
        /// What was sent before is lost, in milliseconds since the epoch.
        at_ms: u64,
    },
    /// How much room a rank was found to have.
    Capacity {
        /// The rank.
        key: RankKey,
        /// In 1,024ths of what it reports or is configured to have.
        share: u32,
    },
    /// An attempt on a rank failed.
    Failed {
        /// The rank.
        key: RankKey,
        /// How: the code of a failure.
        code: u8,
        /// From when to when.
        span: Span,
    },
    /// How a rank stands that is not plainly in.
    Standing {
        /// The rank.
        key: RankKey,
        /// The bytes of its time out.
        spell: [u8; Spell::BYTES],
    },
    /// A rank answered.
    Answered {
        /// The rank.
        key: RankKey,
        /// From the pick to the first byte.
        span: Span,
        /// Whether the first byte came when the prompt was prefilled, and not when all was generated.
        is_streamed: bool,
    },
}

/// From when to when, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The beginning.
    pub from_ms: u64,
    /// The end.
    pub to_ms: u64,
}

/// Blocks as they stand in an event: borrowed, because most are read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentBlocks<'a>(&'a [u8]);

/// Bytes of a block in an event.
const BLOCK_BYTES: usize = 12;

/// Blocks in one event; a longer prompt is told in several, so that no event exceeds 6 KiB.
pub(crate) const BLOCKS_PER_EVENT: usize = 512;

const TOTALS: u8 = 1;
const LOAD: u8 = 2;
const PROMPT: u8 = 3;
const FAILED: u8 = 4;
const ANSWERED: u8 = 5;
const STANDING: u8 = 6;
const TOLD: u8 = 8;
const FORGOTTEN: u8 = 9;
const CAPACITY: u8 = 10;
const DOUBTED: u8 = 11;
const TAKEN_BACK: u8 = 12;
const DELIVERED: u8 = 13;

impl<'a> SentBlocks<'a> {
    /// The blocks, first to last.
    pub fn iter(&self) -> impl Iterator<Item = SentBlock> + use<'a> {
        self.0
            .chunks_exact(BLOCK_BYTES)
            .filter_map(|bytes| block(&mut Wire(bytes)))
    }

    fn read(wire: &mut Wire<'a>) -> Option<Self> {
        let count = usize::from(wire.u16()?);
        Some(Self(wire.bytes(count.saturating_mul(BLOCK_BYTES))?))
    }
}

fn block(wire: &mut Wire<'_>) -> Option<SentBlock> {
    Some(SentBlock {
        chain_hash: wire.u64()?,
        start: wire.u32()?,
    })
}

/// Writes when all before it was told.
pub(crate) fn write_told(bytes: &mut Vec<u8>, at_us: u64) {
    bytes.push(TOLD);
    bytes.extend_from_slice(&at_us.to_le_bytes());
}

/// Writes what a VM has on all ranks.
pub(crate) fn write_totals(bytes: &mut Vec<u8>, totals: Totals) {
    bytes.push(TOTALS);
    bytes.extend_from_slice(&totals.held.to_le_bytes());
    bytes.extend_from_slice(&totals.in_flight.to_le_bytes());
    bytes.extend_from_slice(&totals.incomplete.to_le_bytes());
    bytes.extend_from_slice(&totals.queued_tokens.to_le_bytes());
}

/// Writes what a VM has on one rank.
pub(crate) fn write_load(bytes: &mut Vec<u8>, key: RankKey, load: RankLoad) {
    write_head(bytes, LOAD, key);
    bytes.extend_from_slice(&load.queued_tokens.to_le_bytes());
    bytes.extend_from_slice(&load.held_tokens.to_le_bytes());
    bytes.extend_from_slice(&load.in_flight.to_le_bytes());
    bytes.extend_from_slice(&load.incomplete.to_le_bytes());
}

/// Writes that a prompt went to a rank; no more than [`BLOCKS_PER_EVENT`] blocks.
pub(crate) fn write_prompt(
    bytes: &mut Vec<u8>,
    key: RankKey,
    at_ms: u64,
    aged_blocks: u32,
    blocks: &[SentBlock],
) {
    let blocks = blocks.get(..BLOCKS_PER_EVENT).unwrap_or(blocks);
    write_head(bytes, PROMPT, key);
    bytes.extend_from_slice(&at_ms.to_le_bytes());
    bytes.extend_from_slice(&aged_blocks.to_le_bytes());
    write_blocks(bytes, blocks);
}

fn write_blocks(bytes: &mut Vec<u8>, blocks: &[SentBlock]) {
    let count = u16::try_from(blocks.len()).unwrap_or(0);
    bytes.extend_from_slice(&count.to_le_bytes());
    for block in blocks {
        bytes.extend_from_slice(&block.chain_hash.to_le_bytes());
        bytes.extend_from_slice(&block.start.to_le_bytes());
    }
}

/// Writes that a rank has not taken a prompt in; no more than [`BLOCKS_PER_EVENT`] blocks.
pub(crate) fn write_taken_back(
    bytes: &mut Vec<u8>,
    key: RankKey,
    at_ms: u64,
    aged_blocks: u32,
    held: u32,
    blocks: &[SentBlock],
) {
    let blocks = blocks.get(..BLOCKS_PER_EVENT).unwrap_or(blocks);
    write_head(bytes, TAKEN_BACK, key);
    bytes.extend_from_slice(&at_ms.to_le_bytes());
    bytes.extend_from_slice(&aged_blocks.to_le_bytes());
    bytes.extend_from_slice(&held.to_le_bytes());
    write_blocks(bytes, blocks);
}

/// Writes that a rank may have lost all that it held.
pub(crate) fn write_doubted(bytes: &mut Vec<u8>, key: RankKey) {
    write_head(bytes, DOUBTED, key);
}

/// Writes that a rank delivered what a request of this kind was expected to find.
pub(crate) fn write_delivered(bytes: &mut Vec<u8>, key: RankKey, kind: u64) {
    write_head(bytes, DELIVERED, key);
    bytes.extend_from_slice(&kind.to_le_bytes());
}

/// Writes that a rank has lost all that it held.
pub(crate) fn write_forgotten(bytes: &mut Vec<u8>, key: RankKey, at_ms: u64) {
    write_head(bytes, FORGOTTEN, key);
    bytes.extend_from_slice(&at_ms.to_le_bytes());
}

/// Writes how much room a rank has.
pub(crate) fn write_capacity(bytes: &mut Vec<u8>, key: RankKey, share: u32) {
    write_head(bytes, CAPACITY, key);
    bytes.extend_from_slice(&share.to_le_bytes());
}

/// Writes that an attempt on a rank failed.
pub(crate) fn write_failed(bytes: &mut Vec<u8>, key: RankKey, code: u8, span: Span) {
    write_head(bytes, FAILED, key);
    bytes.push(code);
    write_span(bytes, span);
}

/// Writes that a rank answered.
pub(crate) fn write_answered(bytes: &mut Vec<u8>, key: RankKey, span: Span, is_streamed: bool) {
    write_head(bytes, ANSWERED, key);
    write_span(bytes, span);
    bytes.push(u8::from(is_streamed));
}

/// Writes how a rank stands.
pub(crate) fn write_standing(bytes: &mut Vec<u8>, key: RankKey, spell: &[u8; Spell::BYTES]) {
    write_head(bytes, STANDING, key);
    bytes.extend_from_slice(spell);
}

fn write_span(bytes: &mut Vec<u8>, span: Span) {
    bytes.extend_from_slice(&span.from_ms.to_le_bytes());
    bytes.extend_from_slice(&span.to_ms.to_le_bytes());
}

fn write_head(bytes: &mut Vec<u8>, tag: u8, key: RankKey) {
    bytes.push(tag);
    bytes.extend_from_slice(&key.pool.to_le_bytes());
    bytes.extend_from_slice(&key.rank.to_le_bytes());
}

/// Reads the next event; `None` at the end and where the bytes make no sense.
pub(crate) fn read<'a>(wire: &mut Wire<'a>) -> Option<News<'a>> {
    Some(match wire.u8()? {
        TOLD => News::Told { at_us: wire.u64()? },
        TOTALS => News::Totals(Totals {
            held: requests(wire)?,
            in_flight: requests(wire)?,
            incomplete: requests(wire)?,
            queued_tokens: tokens(wire)?,
        }),
        LOAD => News::Load {
            key: key(wire)?,
            load: load(wire)?,
        },
        PROMPT => News::Prompt {
            key: key(wire)?,
            at_ms: wire.u64()?,
            aged_blocks: wire.u32()?,
            blocks: SentBlocks::read(wire)?,
        },
        TAKEN_BACK => News::TakenBack {
            key: key(wire)?,
            at_ms: wire.u64()?,
            aged_blocks: wire.u32()?,
            held: wire.u32()?,
            blocks: SentBlocks::read(wire)?,
        },
        DOUBTED => News::Doubted { key: key(wire)? },
        DELIVERED => News::Delivered {
            key: key(wire)?,
            kind: wire.u64()?,
        },
        FORGOTTEN => News::Forgotten {
            key: key(wire)?,
            at_ms: wire.u64()?,
        },
        CAPACITY => News::Capacity {
            key: key(wire)?,
            share: wire.u32()?,
        },
        FAILED => News::Failed {
            key: key(wire)?,
            code: wire.u8()?,
            span: span(wire)?,
        },
        ANSWERED => News::Answered {
            key: key(wire)?,
            span: span(wire)?,
            is_streamed: wire.u8()? == 1,
        },
        STANDING => News::Standing {
            key: key(wire)?,
            spell: *wire.bytes(Spell::BYTES)?.first_chunk()?,
        },
        _ => return None,
    })
}

fn span(wire: &mut Wire<'_>) -> Option<Span> {
    Some(Span {
        from_ms: wire.u64()?,
        to_ms: wire.u64()?,
    })
}

/// More than any gateway has open: what is beyond was not written by a worker.
pub(crate) const MOST_REQUESTS: u32 = 1 << 24;
/// More than that many requests of a million tokens.
pub(crate) const MOST_TOKENS: u64 = 1 << 44;

/// More than any rank holds, and so than a request weighs: the largest capacity that can be configured.
const MOST_TOKENS_OF_A_REQUEST: u64 = 1 << 30;

/// What a VM has on a rank. A load that its requests cannot have was spoilt by another plugin; the next word makes it good.
fn load(wire: &mut Wire<'_>) -> Option<RankLoad> {
    let load = RankLoad {
        queued_tokens: tokens(wire)?,
        held_tokens: tokens(wire)?,
        in_flight: requests(wire)?,
        incomplete: requests(wire)?,
    };
    let most = MOST_TOKENS_OF_A_REQUEST.saturating_mul(load.complete().into());
    let is_sound = load.queued_tokens <= most && load.held_tokens <= most;
    is_sound.then_some(load)
}

fn requests(wire: &mut Wire<'_>) -> Option<u32> {
    wire.u32().filter(|requests| *requests <= MOST_REQUESTS)
}

fn tokens(wire: &mut Wire<'_>) -> Option<u64> {
    wire.u64().filter(|tokens| *tokens <= MOST_TOKENS)
}

fn key(wire: &mut Wire<'_>) -> Option<RankKey> {
    Some(RankKey {
        pool: wire.u64()?,
        rank: wire.u64()?,
    })
}

#[cfg(test)]
mod tests;
