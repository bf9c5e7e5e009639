//! Other ways to cut a prompt into blocks than the router's, to see what a budget of blocks costs.

use routing::{chain, hash_bytes};
use serde::Serialize;

use super::Link;

/// Bytes of a token of the text that [`crate::prompt_text`] makes.
const TOKEN_BYTES: usize = 4;

/// How a text is cut; what is left behind the last whole block, or beyond the most blocks, is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cutting {
    /// Bytes of the first block.
    pub first_bytes: usize,
    /// Blocks double after so many of one size, or never.
    pub doubles_after: Option<usize>,
    /// Most blocks, or any number.
    pub most_blocks: Option<usize>,
}

impl Cutting {
    /// Blocks of one size, as many as the text has.
    pub const UNLIMITED: Self = Self {
        first_bytes: 256,
        doubles_after: None,
        most_blocks: None,
    };

    /// The blocks of a text.
    #[must_use]
    pub fn links(self, text: &[u8]) -> Vec<Link> {
        let mut links = Vec::new();
        let (mut hash, mut end) = (0, 0);
        while self.most_blocks.is_none_or(|most| links.len() < most) {
            let Some(block) = text.get(end..end + self.size(links.len())) else {
                break;
            };
            hash = chain(hash, hash_bytes(block));
            end += block.len();
            links.push(Link {
                hash,
                tokens: u64::try_from(end / TOKEN_BYTES).unwrap_or(u64::MAX),
            });
        }
        links
    }

    fn size(self, number: usize) -> usize {
        let doublings = self.doubles_after.map_or(0, |blocks| number / blocks);
        self.first_bytes << doublings.min(20)
    }

    /// The cutting in words.
    #[must_use]
    pub fn name(self) -> String {
        let growth = self
            .doubles_after
            .map_or(String::new(), |blocks| format!(", doubling each {blocks}"));
        let most = self
            .most_blocks
            .map_or("no limit".to_string(), |most| format!("at most {most}"));
        format!("{} B{growth}, {most}", self.first_bytes)
    }
}

#[cfg(test)]
mod tests {
    use routing::BlockStream;

    use super::*;

    fn ends(cutting: Cutting, bytes: usize) -> Vec<u64> {
        let links = cutting.links(&vec![b'a'; bytes]);
        links.iter().map(|link| link.tokens).collect()
    }

    #[test]
    fn only_whole_blocks_within_the_limit_count() {
        let mut cutting = Cutting {
            first_bytes: 8,
            ..Cutting::UNLIMITED
        };
        assert_eq!(ends(cutting, 31), [2, 4, 6]);
        assert_eq!(ends(cutting, 7), [0; 0]);
        cutting.most_blocks = Some(2);
        assert_eq!(ends(cutting, 31), [2, 4]);
        cutting.doubles_after = Some(1);
        cutting.most_blocks = Some(4);
        assert_eq!(ends(cutting, 1000), [2, 6, 14, 30]);
    }

    #[test]
    fn a_hash_covers_everything_before() {
        let hashes = |text: &[u8]| {
            let links = Cutting {
                first_bytes: 4,
                ..Cutting::UNLIMITED
            }
            .links(text);
            links.iter().map(|link| link.hash).collect::<Vec<_>>()
        };
        let (one, other) = (hashes(b"aaaabbbbcccc"), hashes(b"aaaaXbbbcccc"));
        assert_eq!(one[0], other[0]);
        assert_ne!(one[1], other[1]);
        assert_ne!(one[2], other[2]);
    }

    #[test]
    fn the_routers_own_cutting_can_be_said_in_these_terms() {
        let text: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_le_bytes).collect();
        let mut stream = BlockStream::new(256);
        stream.push(&text);
        let mut hash = 0;
        let expected = stream.blocks().iter().map(|block| {
            hash = chain(hash, block.hash);
            Link {
                hash,
                tokens: u64::from(block.end_bytes / 4),
            }
        });
        let own = Cutting {
            first_bytes: 256,
            doubles_after: Some(512),
            most_blocks: Some(4096),
        };
        assert_eq!(own.links(&text), expected.collect::<Vec<_>>());
    }
}
