//! The figures of a trace, for people and programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::Way;

/// Whole token counts over a trace, each way.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Requests.
    pub requests: u64,
    /// Prompt tokens.
    pub tokens: u64,
    /// Tokens that an earlier prompt began with, by the trace.
    pub exact_tokens: u64,
    /// What each way of looking recognised of them.
    pub ways: Vec<Recognised>,
}

/// What one way of looking recognised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recognised {
    /// The way.
    pub way: String,
    /// Tokens, as the router counts them.
    pub matched_tokens: u64,
    /// Of these, what is more than the exact number of the same request: the weight of messages.
    pub surplus_tokens: u64,
    /// Blocks of all requests.
    pub blocks: u64,
    /// Most blocks of one request.
    pub most_blocks: u64,
}

impl Figures {
    /// Zero everywhere.
    #[must_use]
    pub fn new(ways: &[Way]) -> Self {
        let recognised = ways.iter().map(|way| Recognised {
            way: way.name(),
            matched_tokens: 0,
            surplus_tokens: 0,
            blocks: 0,
            most_blocks: 0,
        });
        Self {
            requests: 0,
            tokens: 0,
            exact_tokens: 0,
            ways: recognised.collect(),
        }
    }

    /// Adds a request.
    pub fn add(&mut self, tokens: u64, exact_tokens: u64) {
        self.requests += 1;
        self.tokens += tokens;
        self.exact_tokens += exact_tokens;
    }

    /// Adds what way number `place` recognised of it.
    pub fn count(&mut self, place: usize, matched_tokens: u64, exact_tokens: u64, blocks: usize) {
        let blocks = u64::try_from(blocks).unwrap_or(u64::MAX);
        let way = &mut self.ways[place];
        way.matched_tokens += matched_tokens;
        way.surplus_tokens += matched_tokens.saturating_sub(exact_tokens);
        way.blocks += blocks;
        way.most_blocks = way.most_blocks.max(blocks);
    }

    /// The share of exactly matched tokens that a way recognised, its surplus left out; 1 where nothing matches.
    #[must_use]
    pub fn share(&self, place: usize) -> f64 {
        let way = &self.ways[place];
        match self.exact_tokens {
            0 => 1.0,
            exact => ratio(way.matched_tokens - way.surplus_tokens, exact),
        }
    }

    /// Tokens that a way recognised over all prompt tokens.
    #[must_use]
    pub fn hit_rate(&self, place: usize) -> f64 {
        ratio(self.ways[place].matched_tokens, self.tokens)
    }

    /// The highest possible hit rate.
    #[must_use]
    pub fn exact_hit_rate(&self) -> f64 {
        ratio(self.exact_tokens, self.tokens)
    }

    /// Mean length of a prompt.
    #[must_use]
    pub fn mean_tokens(&self) -> f64 {
        ratio(self.tokens, self.requests)
    }
}

/// A trace, its blocks placed in two ways.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceFigures {
    /// The trace's name.
    pub trace: String,
    /// Sessions looked at.
    pub sessions: usize,
    /// Sessions in the trace.
    pub of_sessions: usize,
    /// Blocks of 512 tokens.
    pub even: Placement,
    /// Blocks of 256 to 768 tokens.
    pub ragged: Placement,
}

/// Figures with their ratios.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placement {
    /// Requests.
    pub requests: u64,
    /// Mean length of a prompt.
    pub mean_tokens: f64,
    /// Tokens that an earlier prompt began with, by the trace.
    pub exact_tokens: u64,
    /// The highest possible hit rate.
    pub exact_hit_rate: f64,
    /// Each way of looking.
    pub ways: Vec<Rated>,
}

/// What one way of looking recognised, with its ratios.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rated {
    /// The counts.
    #[serde(flatten)]
    pub recognised: Recognised,
    /// Recognised tokens over all prompt tokens.
    pub hit_rate: f64,
    /// The share of the exact tokens, without surplus.
    pub of_exact: f64,
    /// Blocks of a request.
    pub mean_blocks: f64,
}

impl From<Figures> for Placement {
    fn from(figures: Figures) -> Self {
        let ways = figures.ways.iter().enumerate();
        let rated = ways.map(|(place, way)| Rated {
            recognised: way.clone(),
            hit_rate: figures.hit_rate(place),
            of_exact: figures.share(place),
            mean_blocks: ratio(way.blocks, figures.requests),
        });
        Self {
            requests: figures.requests,
            mean_tokens: figures.mean_tokens(),
            exact_tokens: figures.exact_tokens,
            exact_hit_rate: figures.exact_hit_rate(),
            ways: rated.collect(),
        }
    }
}

impl TraceFigures {
    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "{}: {} requests, {}\n",
            self.trace,
            self.even.requests,
            self.coverage()
        );
        for (name, placement) in [("even", &self.even), ("ragged", &self.ragged)] {
            let _ = writeln!(
                table,
                "{:<8}{:>11.0} tokens a prompt, {:>13} exactly matched, hit rate {:.4}",
                name, placement.mean_tokens, placement.exact_tokens, placement.exact_hit_rate
            );
        }
        let _ = writeln!(
            table,
            "{:<46}{:>14}{:>8}{:>9}{:>10}{:>10}{:>9}{:>7}",
            "", "", "hit", "of exact", "surplus", "of exact", "blocks", ""
        );
        let _ = writeln!(
            table,
            "{:<46}{:>14}{:>8}{:>9}{:>10}{:>10}{:>9}{:>7}",
            "", "matched", "rate", "even", "tokens", "ragged", "mean", "max"
        );
        for (even, ragged) in self.even.ways.iter().zip(&self.ragged.ways) {
            let way = &even.recognised;
            let _ = writeln!(
                table,
                "{:<46}{:>14}{:>8.4}{:>9.4}{:>10}{:>10.4}{:>9.0}{:>7}",
                way.way,
                way.matched_tokens,
                even.hit_rate,
                even.of_exact,
                way.surplus_tokens,
                ragged.of_exact,
                even.mean_blocks,
                way.most_blocks
            );
        }
        table
    }

    fn coverage(&self) -> String {
        if self.sessions == self.of_sessions {
            "all of the trace".to_string()
        } else {
            format!(
                "a sample: {} of {} sessions, each whole",
                self.sessions, self.of_sessions
            )
        }
    }
}

fn ratio(part: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        part as f64 / of as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surplus_does_not_make_up_for_losses() {
        let mut figures = Figures::new(&[Way::Whole]);
        figures.add(1000, 500);
        figures.count(0, 504, 500, 8);
        figures.add(1000, 500);
        figures.count(0, 400, 500, 6);
        let way = &figures.ways[0];
        assert_eq!((way.matched_tokens, way.surplus_tokens), (904, 4));
        assert_eq!((way.blocks, way.most_blocks), (14, 8));
        assert_eq!(figures.share(0), 0.9);
        assert_eq!(
            (figures.hit_rate(0), figures.exact_hit_rate()),
            (0.452, 0.5)
        );
    }

    #[test]
    fn nothing_is_a_full_share_of_nothing() {
        let figures = Figures::new(&[Way::Whole]);
        assert_eq!((figures.share(0), figures.hit_rate(0)), (1.0, 0.0));
    }
}
