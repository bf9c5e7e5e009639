//! What the trace itself says was seen before.

use std::collections::HashMap;

use super::Piece;

/// The pieces of all earlier prompts.
#[derive(Debug, Default)]
pub struct Exact {
    longest: HashMap<u64, u32>,
}

impl Exact {
    /// Tokens that the prompt shares, from its first one on, with some earlier prompt.
    #[must_use]
    pub fn matched(&self, pieces: &[Piece]) -> u64 {
        let mut matched = 0;
        for piece in pieces {
            let seen = self.longest.get(&piece.id).copied().unwrap_or(0);
            matched += u64::from(seen.min(piece.tokens));
            if seen < piece.tokens {
                break;
            }
        }
        matched
    }

    /// Remembers a prompt.
    pub fn insert(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let longest = self.longest.entry(piece.id).or_default();
            *longest = piece.tokens.max(*longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(lengths: &[(u64, u32)]) -> Vec<Piece> {
        let pieces = lengths.iter().map(|&(id, tokens)| Piece { id, tokens });
        pieces.collect()
    }

    #[test]
    fn tokens_match_up_to_the_first_piece_that_is_new() {
        let mut exact = Exact::default();
        let first = pieces(&[(1, 512), (2, 512), (3, 100)]);
        assert_eq!(exact.matched(&first), 0);
        exact.insert(&first);
        assert_eq!(exact.matched(&first), 1124);
        assert_eq!(exact.matched(&pieces(&[(1, 512), (9, 512), (3, 100)])), 512);
        assert_eq!(exact.matched(&pieces(&[(9, 512), (2, 512)])), 0);
        assert_eq!(exact.matched(&[]), 0);
    }

    #[test]
    fn of_a_piece_that_was_shorter_before_only_those_tokens_match() {
        let mut exact = Exact::default();
        exact.insert(&pieces(&[(1, 512), (2, 100)]));
        assert_eq!(exact.matched(&pieces(&[(1, 512), (2, 512), (3, 512)])), 612);
        exact.insert(&pieces(&[(1, 512), (2, 512), (3, 512)]));
        exact.insert(&pieces(&[(1, 512), (2, 50)]));
        assert_eq!(exact.matched(&pieces(&[(1, 512), (2, 512), (3, 9)])), 1033);
    }
}
