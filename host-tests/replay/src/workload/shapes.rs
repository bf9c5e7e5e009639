//! Made traces, each of a shape that the public ones do not have: a decision that is good on all of them was not made for one.
//!
//! Times are Poisson unless said otherwise; they are scaled to a load anyway. Lengths are log-normal. Numbers are round ones of
//! what is usual: 10,000 tokens of a large system prompt, 200 documents of some thousand tokens, answers of some hundred.

use fastrand::Rng;

use super::{Trace, TraceRequest};
use crate::engine::BLOCK_TOKENS;

/// Requests of a trace.
const REQUESTS: usize = 6000;

/// Makes the requests of a trace.
type Shape = fn(&mut Maker);

/// What a trace is called on the command line, and what it is made of.
pub const SHAPES: [(&str, Shape); 7] = [
    ("shared", shared),
    ("documents", documents),
    ("alone", alone),
    ("bursts", bursts),
    ("sessions", sessions),
    ("reasoning", reasoning),
    ("mixed", mixed),
];

/// The trace of a shape; the same each time. `None` where there is none of that name.
#[must_use]
pub fn made(name: &str) -> Option<Trace> {
    let (name, make) = SHAPES.iter().find(|(shape, _)| *shape == name)?;
    let mut maker = Maker::new();
    make(&mut maker);
    let mut requests = maker.requests;
    requests.sort_by(|one, next| one.at_ms.total_cmp(&next.at_ms));
    Some(Trace {
        name: (*name).to_string(),
        requests,
    })
}

/// A trace that is being made.
pub struct Maker {
    random: Rng,
    next_block: u64,
    requests: Vec<TraceRequest>,
}

impl Maker {
    fn new() -> Self {
        Self {
            random: Rng::with_seed(5),
            next_block: 0,
            requests: Vec::with_capacity(REQUESTS),
        }
    }

    /// Blocks that nothing else has.
    fn blocks(&mut self, count: u64) -> Vec<u64> {
        let first = self.next_block;
        self.next_block += count;
        (first..self.next_block).collect()
    }

    /// A time that passes until the next of events that come at random.
    fn gap_ms(&mut self, mean_ms: f64) -> f64 {
        -(1.0 - self.random.f64()).ln() * mean_ms
    }

    /// A length with this median; its logarithm has this deviation.
    fn length(&mut self, median: f64, deviation: f64) -> u64 {
        let circle = std::f64::consts::TAU * self.random.f64();
        let normal = (-2.0 * (1.0 - self.random.f64()).ln()).sqrt() * circle.cos();
        ((median * (deviation * normal).exp()) as u64).max(1)
    }

    /// One of so many, the first ones much more often (Zipf).
    fn popular(&mut self, count: usize) -> usize {
        let weights = (1..=count).map(|place| 1.0 / place as f64);
        let mut left = self.random.f64() * weights.clone().sum::<f64>();
        let chosen = weights.take_while(|weight| {
            left -= weight;
            left > 0.0
        });
        chosen.count().min(count - 1)
    }

    /// A request of these blocks, the last of which is not whole.
    fn request(&mut self, at_ms: f64, blocks: &[u64], answer_median: f64) {
        let missing = self.random.u64(1..400);
        let tokens = (blocks.len() as u64 * BLOCK_TOKENS).saturating_sub(missing);
        let answer = self.length(answer_median, 0.7);
        let request = TraceRequest::new(at_ms, tokens, answer, blocks);
        self.requests.push(request);
    }

    /// Requests that come one by one.
    fn one_by_one(&mut self, prompt: impl Fn(&mut Self) -> Vec<u64>, answer_median: f64) {
        let mut at_ms = 0.0;
        for _ in 0..REQUESTS {
            at_ms += self.gap_ms(300.0);
            let blocks = prompt(self);
            self.request(at_ms, &blocks, answer_median);
        }
    }
}

/// One large system prompt before all, and short questions.
fn shared(maker: &mut Maker) {
    let system = maker.blocks(20);
    maker.one_by_one(
        |maker| {
            let question = maker.random.u64(1..=6);
            [system.clone(), maker.blocks(question)].concat()
        },
        200.0,
    );
}

/// Questions about 200 documents, some of them asked about much more often.
fn documents(maker: &mut Maker) {
    let system = maker.blocks(2);
    let lengths: Vec<u64> = (0..200).map(|_| maker.random.u64(8..=32)).collect();
    let documents: Vec<Vec<u64>> = lengths.iter().map(|length| maker.blocks(*length)).collect();
    maker.one_by_one(
        |maker| {
            let document = maker.popular(documents.len());
            [system.clone(), documents[document].clone(), maker.blocks(1)].concat()
        },
        150.0,
    );
}

/// Prompts that share nothing.
fn alone(maker: &mut Maker) {
    maker.one_by_one(
        |maker| {
            let tokens = maker.length(4000.0, 1.0).min(100_000);
            maker.blocks(tokens.div_ceil(BLOCK_TOKENS))
        },
        300.0,
    );
}

/// The same prompt several times within 50 ms, behind the instructions of one of 20 tools.
fn bursts(maker: &mut Maker) {
    let lengths: Vec<u64> = (0..20).map(|_| maker.random.u64(8..=18)).collect();
    let tools: Vec<Vec<u64>> = lengths.iter().map(|length| maker.blocks(*length)).collect();
    let mut at_ms = 0.0;
    while maker.requests.len() < REQUESTS {
        at_ms += maker.gap_ms(900.0);
        let (tool, own) = (maker.popular(tools.len()), maker.random.u64(1..=8));
        let blocks = [tools[tool].clone(), maker.blocks(own)].concat();
        let twins = [1, 1, 1, 2, 4, 8][maker.random.usize(0..6)];
        for _ in 0..twins {
            let late_ms = maker.random.f64() * 50.0;
            maker.request(at_ms + late_ms, &blocks, 180.0);
        }
    }
}

/// Conversations that grow, with time to think between the turns.
fn sessions(maker: &mut Maker) {
    let system = maker.blocks(4);
    let mut begins_ms = 0.0;
    while maker.requests.len() < REQUESTS {
        begins_ms += maker.gap_ms(4000.0);
        let (mut at_ms, mut blocks) = (begins_ms, system.clone());
        for _ in 0..maker.length(6.0, 0.7) {
            let question = maker.random.u64(1..=6);
            blocks.extend(maker.blocks(question));
            maker.request(at_ms, &blocks, 250.0);
            at_ms += 2000.0 + maker.gap_ms(40_000.0);
        }
    }
}

/// Short prompts and long answers.
fn reasoning(maker: &mut Maker) {
    maker.one_by_one(
        |maker| {
            let tokens = maker.length(700.0, 0.7);
            maker.blocks(tokens.div_ceil(BLOCK_TOKENS))
        },
        2000.0,
    );
}

/// All kinds at once.
fn mixed(maker: &mut Maker) {
    for make in [shared, sessions, alone, reasoning] {
        let mut part = Maker {
            random: maker.random.fork(),
            next_block: maker.next_block,
            requests: Vec::new(),
        };
        make(&mut part);
        let last_ms = part.requests.iter().map(|request| request.at_ms);
        let last_ms = last_ms.fold(1.0, f64::max);
        // All parts take the same time.
        part.requests
            .iter_mut()
            .for_each(|request| request.at_ms *= 1e6 / last_ms);
        maker.next_block = part.next_block;
        maker.requests.append(&mut part.requests);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Of all blocks of a trace, those that came before.
    fn repeated(trace: &Trace) -> f64 {
        let mut seen = HashSet::new();
        let blocks = trace.requests.iter().flat_map(|request| &request.blocks);
        let all = blocks.clone().count();
        let again = blocks.filter(|block| !seen.insert(**block)).count();
        again as f64 / all as f64
    }

    #[test]
    fn each_shape_shares_as_much_as_it_is_made_for() {
        for (name, least, most) in [
            ("shared", 0.8, 0.95),
            ("documents", 0.8, 0.98),
            ("alone", 0.0, 0.0),
            ("bursts", 0.7, 0.95),
            ("sessions", 0.6, 0.95),
            ("reasoning", 0.0, 0.0),
            ("mixed", 0.2, 0.9),
        ] {
            let trace = made(name).unwrap();
            let share = repeated(&trace);
            assert!((least..=most).contains(&share), "{name}: {share}");
            assert!(trace.requests.len() >= REQUESTS, "{name}");
            assert!(
                trace
                    .requests
                    .is_sorted_by(|one, next| one.at_ms <= next.at_ms)
            );
            assert_eq!(made(name).unwrap(), trace, "the same each time");
        }
        assert!(made("none").is_none());
    }

    #[test]
    fn equal_blocks_have_equal_blocks_before_them() {
        for (name, _) in SHAPES {
            let mut before = std::collections::HashMap::new();
            for request in made(name).unwrap().requests {
                for pair in request.blocks.windows(2) {
                    assert_eq!(*before.entry(pair[1]).or_insert(pair[0]), pair[0], "{name}");
                }
            }
        }
    }

    #[test]
    fn lengths_have_their_median() {
        let mut maker = Maker::new();
        let mut lengths: Vec<u64> = (0..2001).map(|_| maker.length(1000.0, 0.7)).collect();
        lengths.sort_unstable();
        assert!((900..1100).contains(&lengths[1000]), "{}", lengths[1000]);
    }
}
