//! A prompt as the router sees it: chained block hashes and a length.

use crate::{Section, TokenRate, chain};

/// Prompts that are equal this far start alike: about 1,024 tokens.
const ANCHOR_BYTES: u32 = 4096;

/// More than any model reads: a body of which only the beginning was read must not seem to fill a rank.
const MAX_ESTIMATED_BYTES: u64 = 64 * 1024 * 1024;

/// A block of the prompt and everything before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Hash of the whole prompt up to the block's end.
    pub chain_hash: u64,
    /// Prompt bytes up to the block's end.
    pub end_bytes: u32,
}

/// How the body's reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// The body was read to its end.
    Whole,
    /// The decision could not wait for the end; the prompt holds the leading blocks.
    Cut,
    /// The body is no JSON object, or breaks off; the rank will say so to the client.
    Unreadable,
}

/// How well a request was understood, for counters: no request without blocks may hide among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whole prompt was read.
    Understood,
    /// The prompt was read as far as the decision could wait.
    Partly,
    /// There was no prompt in it.
    NotAPrompt,
    /// The body could not be read.
    Unreadable,
}

impl Outcome {
    /// Every outcome, in the order of the metrics.
    pub const ALL: [Self; 4] = [
        Self::Understood,
        Self::Partly,
        Self::NotAPrompt,
        Self::Unreadable,
    ];

    /// Its word in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Understood => "understood",
            Self::Partly => "partly",
            Self::NotAPrompt => "not_a_prompt",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What was read of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The whole blocks, first to last; empty for a prompt shorter than a block and for an unreadable body.
    pub blocks: Vec<Block>,
    /// Length in bytes, as far as the body was read.
    pub prompt_bytes: u64,
    /// Hash of the prompt's start, for agreement among gateways.
    pub anchor: u64,
    /// Hash of the model's name, 0 where none was read: tokens of a byte differ between models.
    pub model: u64,
    /// Whether the request asks the rank to compute all of it, whatever is cached: its answer says nothing of caches.
    pub bypasses_cache: bool,
    /// The kind of the request: endpoint, model and the set of its fields as one hash. Of kinds that servers answer from their
    /// caches misses are news; of others they are not.
    pub kind: u64,
    /// How the reading ended.
    pub body_end: BodyEnd,
    /// Bytes of the body that this was read from, where it was cut; 0 where not.
    pub read_bytes: u64,
}

impl Prompt {
    /// Chains the blocks of the sections, in the order in which a template prints them, onto `seed`.
    pub(crate) fn chained(seed: u64, sections: &[&Section], body_end: BodyEnd) -> Self {
        let mut blocks = Vec::with_capacity(sections.iter().map(|s| s.blocks.len()).sum());
        let (mut chained, mut before_bytes, mut tail) = (seed, 0u32, None);
        for section in sections {
            chained = tail.take().map_or(chained, |tail| chain(chained, tail));
            for raw in &section.blocks {
                chained = chain(chained, raw.hash);
                let end_bytes = before_bytes.saturating_add(raw.end_bytes);
                blocks.push(Block {
                    chain_hash: chained,
                    end_bytes,
                });
            }
            tail = section.tail;
            before_bytes = before_bytes
                .saturating_add(u32::try_from(section.prompt_bytes).unwrap_or(u32::MAX));
        }
        let anchored = blocks
            .iter()
            .take_while(|block| block.end_bytes <= ANCHOR_BYTES)
            .last()
            .or(blocks.first());
        let anchor = anchored.map_or(chain(chained, tail.unwrap_or(0)), |block| block.chain_hash);
        Self {
            blocks,
            prompt_bytes: u64::from(before_bytes),
            anchor,
            model: 0,
            bypasses_cache: false,
            kind: 0,
            body_end,
            read_bytes: 0,
        }
    }

    /// What is known of a body that cannot be read.
    pub(crate) fn unreadable() -> Self {
        Self::chained(0, &[], BodyEnd::Unreadable)
    }

    /// The prompt's length in a body that has ended after `body_bytes`: where only its beginning was read, scaled to all of it.
    ///
    /// Only for bytes that have come. A client can announce a body of any length.
    #[must_use]
    pub fn bytes_of_body(&self, body_bytes: u64) -> u64 {
        if self.body_end != BodyEnd::Cut || body_bytes <= self.read_bytes {
            return self.prompt_bytes;
        }
        let scaled = self
            .prompt_bytes
            .saturating_mul(body_bytes)
            .checked_div(self.read_bytes);
        scaled.unwrap_or(self.prompt_bytes).min(MAX_ESTIMATED_BYTES)
    }

    /// Whether the anchor tells this prompt from others. Of a body that was cut before its first block only what many bodies begin
    /// with was read.
    #[must_use]
    pub fn tells_prompts_apart(&self) -> bool {
        self.body_end == BodyEnd::Whole || !self.blocks.is_empty()
    }

    /// How well the request was understood.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.body_end {
            BodyEnd::Unreadable => Outcome::Unreadable,
            _ if self.prompt_bytes == 0 => Outcome::NotAPrompt,
            BodyEnd::Whole => Outcome::Understood,
            BodyEnd::Cut => Outcome::Partly,
        }
    }

    /// The prompt's length in tokens, by the usual rate; a pool learns the model's own.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        TokenRate::default().tokens(self.prompt_bytes)
    }

    /// Tokens up to the end of the first `depth` blocks, by the usual rate.
    #[must_use]
    pub fn tokens_in(&self, depth: usize) -> u64 {
        TokenRate::default().whole_tokens(self.bytes_in(depth))
    }

    /// Bytes up to the end of the first `depth` blocks; 0 where there are not as many.
    #[must_use]
    pub fn bytes_in(&self, depth: usize) -> u64 {
        let block = depth.checked_sub(1).and_then(|last| self.blocks.get(last));
        block.map_or(0, |block| u64::from(block.end_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockStream;

    fn section(block_bytes: usize, text: &[u8]) -> Section {
        let mut stream = BlockStream::new(block_bytes);
        stream.push(text);
        stream.into_section()
    }

    fn chained(tools: &[u8], text: &[u8], block_bytes: usize) -> Prompt {
        Prompt::chained(
            7,
            &[&section(block_bytes, tools), &section(block_bytes, text)],
            BodyEnd::Whole,
        )
    }

    #[test]
    fn every_block_is_chained_onto_all_before_it() {
        let (tools, text) = (section(4, b"toolsX"), section(4, b"abcdefg"));
        let prompt = Prompt::chained(7, &[&tools, &text], BodyEnd::Whole);
        let first = chain(7, tools.blocks[0].hash);
        let second = chain(chain(first, tools.tail.unwrap()), text.blocks[0].hash);
        let expected = [
            Block {
                chain_hash: first,
                end_bytes: 4,
            },
            Block {
                chain_hash: second,
                end_bytes: 10,
            },
        ];
        assert_eq!(prompt.blocks, expected);
        assert_eq!(prompt.prompt_bytes, 13);
    }

    #[test]
    fn tools_without_a_rest_are_followed_directly() {
        let prompt = chained(b"tool", b"abcd", 4);
        assert_eq!(
            prompt
                .blocks
                .iter()
                .map(|block| block.end_bytes)
                .collect::<Vec<_>>(),
            [4, 8]
        );
        assert_eq!(prompt.blocks, chained(b"", b"toolabcd", 4).blocks);
    }

    #[test]
    fn a_prompt_below_a_block_has_an_anchor_of_its_own() {
        let anchor = |text: &[u8]| chained(b"", text, 64).anchor;
        assert_eq!(anchor(b"once"), anchor(b"once"));
        assert_ne!(anchor(b"once"), anchor(b"twice"));
        assert!(chained(b"", b"once", 64).blocks.is_empty());
    }

    #[test]
    fn the_anchor_is_the_hash_of_the_start_and_of_nothing_behind_it() {
        let text = |end: u8| [vec![b'a'; 9000], vec![end; 9000]].concat();
        for (block_bytes, tools) in [(64, 0), (256, 100), (4096, 0), (4096, 100), (4096, 5000)] {
            let anchor = |end| chained(&vec![b't'; tools], &text(end), block_bytes).anchor;
            assert_eq!(
                anchor(b'x'),
                anchor(b'y'),
                "blocks of {block_bytes} bytes, {tools} bytes of tools"
            );
        }
        assert_ne!(
            chained(b"", &[b'a'; 9000], 64).anchor,
            chained(b"", &[b'b'; 9000], 64).anchor
        );
    }

    #[test]
    fn tokens_are_a_quarter_of_the_bytes() {
        let prompt = chained(b"", b"abcdefghi", 4);
        assert_eq!(prompt.tokens(), 3);
        let up_to = [0, 1, 2, 3].map(|depth| prompt.tokens_in(depth));
        assert_eq!(up_to, [0, 1, 2, 0]);
    }

    #[test]
    fn the_length_of_a_cut_prompt_is_scaled_to_the_body_that_came() {
        let scaled = |read_bytes, body_end, body_bytes| {
            let prompt = Prompt {
                read_bytes,
                body_end,
                ..chained(b"", b"abcdefgh", 4)
            };
            prompt.bytes_of_body(body_bytes)
        };
        assert_eq!(scaled(10, BodyEnd::Cut, 100), 80);
        assert_eq!(scaled(10, BodyEnd::Cut, 10), 8);
        assert_eq!(scaled(10, BodyEnd::Cut, 3), 8);
        assert_eq!(scaled(0, BodyEnd::Cut, 100), 8);
        assert_eq!(scaled(10, BodyEnd::Whole, 100), 8);
        assert_eq!(scaled(1, BodyEnd::Cut, u64::MAX), MAX_ESTIMATED_BYTES);
    }

    #[test]
    fn a_body_that_was_cut_before_its_first_block_tells_no_prompts_apart() {
        let cut = |text: &[u8]| Prompt {
            body_end: BodyEnd::Cut,
            ..chained(b"", text, 4)
        };
        assert!(!cut(b"abc").tells_prompts_apart());
        assert!(cut(b"abcd").tells_prompts_apart());
        assert!(chained(b"", b"abc", 4).tells_prompts_apart());
    }
}
