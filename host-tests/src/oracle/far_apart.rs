//! Two long prompts that part late: whether each way tells them apart.

use routing::{Prefaces, Prompt};
use serde::Serialize;

use super::comparison::read_at;
use super::{Link, Way};

/// What one way makes of the two prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FarApart {
    /// The way.
    pub way: String,
    /// Whether it sees that they differ.
    pub told_apart: bool,
    /// Tokens in the leading blocks that are equal.
    pub equal_tokens: u64,
    /// Blocks of each.
    pub blocks: usize,
}

/// Looks at two prompts of `tokens` tokens that differ only in token `at`.
#[must_use]
pub fn far_apart(ways: &[Way], tokens: usize, at: usize) -> Vec<FarApart> {
    let one: String = (0..tokens).map(token).collect();
    let other: String = (0..tokens)
        .map(|number| {
            if number == at {
                "ELSE".to_string()
            } else {
                token(number)
            }
        })
        .collect();
    ways.iter()
        .map(|way| {
            let (one, other) = (links(*way, &one), links(*way, &other));
            let pairs = one.iter().zip(&other);
            let equal = pairs
                .take_while(|(one, other)| one.hash == other.hash)
                .last();
            FarApart {
                way: way.name(),
                told_apart: one != other,
                equal_tokens: equal.map_or(0, |(one, _)| one.tokens),
                blocks: one.len(),
            }
        })
        .collect()
}

/// Four bytes that JSON does not escape.
fn token(number: usize) -> String {
    format!("{:03x} ", number * 2_654_435_761 % 4096)
}

fn links(way: Way, text: &str) -> Vec<Link> {
    match way {
        Way::Cut(cutting) => cutting.links(text.as_bytes()),
        Way::Whole => Link::of(&read(text, u64::MAX)),
        Way::DecidedAt(limit) => Link::of(&read(text, limit)),
    }
}

fn read(text: &str, limit: u64) -> Prompt {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let mut prompts = read_at(&body, [limit].into_iter(), &mut Prefaces::default());
    prompts.swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::super::Cutting;
    use super::*;

    #[test]
    fn prompts_are_told_apart_where_the_difference_is_in_a_block() {
        let short = Cutting {
            most_blocks: Some(10),
            ..Cutting::UNLIMITED
        };
        let ways = [
            Way::Whole,
            Way::DecidedAt(4096),
            Way::Cut(Cutting::UNLIMITED),
            Way::Cut(short),
        ];
        let seen: Vec<(bool, u64)> = far_apart(&ways, 6400, 3200)
            .iter()
            .map(|seen| (seen.told_apart, seen.equal_tokens))
            .collect();
        assert_eq!(seen[0], (true, 3200));
        assert!(!seen[1].0);
        assert_eq!(seen[2..], [(true, 3200), (false, 640)]);
    }
}
