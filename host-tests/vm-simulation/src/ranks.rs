//! Simulated ranks: how each of them treats a request, step by step.

use crate::chance::Chance;
use crate::schedule::MS;

/// How a rank is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Mood {
    Well,
    Slow,
    /// Nothing listens.
    Refuses,
    /// Connections break, before or in the middle of an answer.
    Resets,
    /// Answers 503 at once.
    Fails,
    /// Takes requests and never answers.
    Hangs,
}

impl Mood {
    pub(crate) const ALL: [Self; 6] = [
        Self::Well,
        Self::Slow,
        Self::Refuses,
        Self::Resets,
        Self::Fails,
        Self::Hangs,
    ];
}

/// Why Envoy ended an exchange itself: bits of the property `response.flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Flag {
    UpstreamRemoteReset = 0x10,
    UpstreamConnectionFailure = 0x20,
    DownstreamConnectionTermination = 0x4000,
    StreamIdleTimeout = 0x1_0000,
}

/// What a rank does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum RankStep {
    Refuse,
    Reset,
    Headers { code: u32, is_end: bool },
    Chunk { bytes: usize, is_end: bool },
    Trailers,
}

/// The exchange of a stream with its ranks, one attempt after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) attempt: u32,
    pub(crate) address: Option<String>,
    /// What the rank will do, with the wait before each step; the next one last.
    pub(crate) steps: Vec<(u64, RankStep)>,
    /// The request has reached the rank to its end.
    pub(crate) is_request_over: bool,
    /// The rank waits for that.
    pub(crate) waits_for_request: bool,
}

/// A rank of the fake cluster.
#[derive(Clone, Debug)]
pub(crate) struct Rank {
    pub(crate) address: String,
    pub(crate) mood: Mood,
    /// It is in the cluster at the moment.
    pub(crate) is_listed: bool,
    /// Answers with a status of 500 or more.
    pub(crate) errors: u64,
}

/// The ranks, and the cluster's own balancing.
#[derive(Debug)]
pub(crate) struct Ranks {
    pub(crate) ranks: Vec<Rank>,
    /// What they say of themselves and of prompts is true, as far as they say anything.
    pub(crate) are_truthful: bool,
    turn: usize,
}

impl Ranks {
    /// Pods of up to four ranks.
    pub(crate) fn new(count: usize) -> Self {
        let rank = |number: usize| Rank {
            address: format!("10.0.0.{}:{}", 1 + number / 4, 8000 + number % 4),
            mood: Mood::Well,
            is_listed: true,
            errors: 0,
        };
        Self {
            ranks: (0..count).map(rank).collect(),
            are_truthful: false,
            turn: 0,
        }
    }

    pub(crate) fn get(&self, address: &str) -> Option<&Rank> {
        self.ranks.iter().find(|rank| rank.address == address)
    }

    /// A rank answers with this status.
    pub(crate) fn note_answer(&mut self, address: &str, code: u32) {
        let answering = self.ranks.iter_mut().find(|rank| rank.address == address);
        if let Some(rank) = answering.filter(|_| code >= 500) {
            rank.errors += 1;
        }
    }

    /// Where attempt `attempt` (from 1) goes: the addresses named in order, unknown ones skipped, then in turn.
    pub(crate) fn destination(&mut self, named: &str, attempt: u32) -> Option<String> {
        let listed: Vec<&Rank> = self.ranks.iter().filter(|rank| rank.is_listed).collect();
        let mut known = named
            .split(',')
            .filter(|address| listed.iter().any(|rank| rank.address == *address));
        let place = usize::try_from(attempt.saturating_sub(1)).ok()?;
        if let Some(address) = known.nth(place) {
            return Some(address.to_string());
        }
        self.turn += 1;
        let rank = listed.get(self.turn % listed.len().max(1))?;
        Some(rank.address.clone())
    }
}

/// What a rank in this mood does with an attempt, the first step last.
pub(crate) fn steps(mood: Mood, verdict: Option<u32>, chance: &mut Chance) -> Vec<(u64, RankStep)> {
    let mut steps = match mood {
        Mood::Well => answer(chance, 60),
        Mood::Slow => answer(chance, 1500),
        Mood::Refuses => vec![(wait(chance, 5), RankStep::Refuse)],
        Mood::Fails => vec![
            (
                wait(chance, 2),
                RankStep::Headers {
                    code: 503,
                    is_end: false,
                },
            ),
            (
                0,
                RankStep::Chunk {
                    bytes: 20,
                    is_end: true,
                },
            ),
        ],
        Mood::Hangs => Vec::new(),
        Mood::Resets => {
            let mut steps = answer(chance, 60);
            steps.truncate(chance.length(0, steps.len() - 1));
            steps.push((wait(chance, 50), RankStep::Reset));
            steps
        }
    };
    for (_, step) in &mut steps {
        if let (RankStep::Headers { code, .. }, Some(verdict)) = (step, verdict)
            && *code < 300
        {
            *code = verdict;
        }
    }
    steps.reverse();
    steps
}

/// A whole answer with this status that is long enough to tell its usage, the first step last.
pub(crate) fn told(code: u32, chance: &mut Chance) -> Vec<(u64, RankStep)> {
    let (bytes, is_end) = (200, true);
    vec![
        (wait(chance, 20), RankStep::Chunk { bytes, is_end }),
        (
            wait(chance, 60),
            RankStep::Headers {
                code,
                is_end: false,
            },
        ),
    ]
}

/// A whole answer, in order.
fn answer(chance: &mut Chance, slowest_ms: u64) -> Vec<(u64, RankStep)> {
    let code = chance.pick(&[200, 200, 200, 200, 200, 400, 404, 500]);
    let is_bare = chance.hits(0.1);
    let mut steps = vec![(
        wait(chance, slowest_ms),
        RankStep::Headers {
            code,
            is_end: is_bare,
        },
    )];
    if is_bare {
        return steps;
    }
    let has_trailers = chance.hits(0.1);
    for _ in 0..chance.between(0, 2) {
        let bytes = chance.length(1, 300);
        steps.push((
            wait(chance, slowest_ms),
            RankStep::Chunk {
                bytes,
                is_end: false,
            },
        ));
    }
    let bytes = chance.pick(&[0, 0, 50]);
    let is_end = !has_trailers;
    steps.push((wait(chance, slowest_ms), RankStep::Chunk { bytes, is_end }));
    if has_trailers {
        steps.push((0, RankStep::Trailers));
    }
    steps
}

fn wait(chance: &mut Chance, slowest_ms: u64) -> u64 {
    chance.between(0, slowest_ms * MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_take_the_addresses_named_in_order_and_then_turns() {
        let mut ranks = Ranks::new(5);
        assert_eq!(ranks.ranks[4].address, "10.0.0.2:8000");
        let named = "10.0.0.1:8002,9.9.9.9:1,10.0.0.1:8000";
        assert_eq!(
            ranks.destination(named, 1).as_deref(),
            Some("10.0.0.1:8002")
        );
        assert_eq!(
            ranks.destination(named, 2).as_deref(),
            Some("10.0.0.1:8000")
        );
        assert!(ranks.destination(named, 3).is_some());
        ranks.ranks[2].is_listed = false;
        assert_eq!(
            ranks.destination(named, 1).as_deref(),
            Some("10.0.0.1:8000")
        );
        ranks
            .ranks
            .iter_mut()
            .for_each(|rank| rank.is_listed = false);
        assert_eq!(ranks.destination(named, 1), None);
    }

    #[test]
    fn every_mood_but_hanging_ends_an_attempt_with_its_last_step() {
        let mut chance = Chance::of(1);
        for mood in Mood::ALL {
            for _ in 0..100 {
                let steps = steps(mood, None, &mut chance);
                let ends: Vec<bool> = steps.iter().map(|(_, step)| is_end(*step)).collect();
                let expected: Vec<bool> = (0..steps.len()).map(|place| place == 0).collect();
                assert_eq!(ends, expected, "{mood:?}: {steps:?}");
                assert_eq!(steps.is_empty(), mood == Mood::Hangs);
            }
        }
    }

    fn is_end(step: RankStep) -> bool {
        match step {
            RankStep::Refuse | RankStep::Reset | RankStep::Trailers => true,
            RankStep::Headers { is_end, .. } | RankStep::Chunk { is_end, .. } => is_end,
        }
    }
}
