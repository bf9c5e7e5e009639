//! Goes through a trace and counts what each way of looking at it recognises.

use routing::{Endpoint, Prefaces, Prompt, PromptReader};

use super::{Cutting, Exact, Figures, Link, Request, Seen, Writer, Written};

/// `blockBytes` unless configured.
pub const BLOCK_BYTES: usize = 256;

/// `decideAfterBytes` unless configured.
pub const DECIDE_AFTER_BYTES: u64 = 768 * 1024;

/// In such pieces a body comes to the module.
const CHUNK_BYTES: usize = 16 * 1024;

/// The model that all requests name, behind the messages, as OpenAI's Python client does.
const MODEL: &str = "rank-router/model";

/// A way of looking at prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The router's reader on the whole body.
    Whole,
    /// The router's reader on so many bytes of the body; earlier bodies were read to their ends behind their picks.
    DecidedAt(u64),
    /// Blocks of the text alone.
    Cut(Cutting),
}

impl Way {
    /// All that are compared: the router's, then budgets of blocks, the first of them without one.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let decided = [256, 512, 768, 1024, 2048].map(|kib| Self::DecidedAt(kib * 1024));
        let fixed = [(256, None), (256, Some(4096)), (1024, Some(4096))]
            .map(|(bytes, most)| cutting(bytes, None, most));
        let growing = [
            (1024, 8192),
            (512, 4096),
            (256, 2048),
            (128, 1024),
            (64, 512),
        ]
        .map(|(after, most)| cutting(256, Some(after), Some(most)));
        let cuttings = fixed.into_iter().chain(growing).map(Self::Cut);
        [Self::Whole]
            .into_iter()
            .chain(decided)
            .chain(cuttings)
            .collect()
    }

    /// The way in words.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Whole => "router, body read whole".to_string(),
            Self::DecidedAt(bytes) => format!("router, decided at {} KiB", bytes / 1024),
            Self::Cut(cutting) => format!("text, {}", cutting.name()),
        }
    }
}

fn cutting(
    first_bytes: usize,
    doubles_after: Option<usize>,
    most_blocks: Option<usize>,
) -> Cutting {
    Cutting {
        first_bytes,
        doubles_after,
        most_blocks,
    }
}

/// Compares every way over all requests.
#[must_use]
pub fn compare(requests: impl Iterator<Item = Request>) -> Figures {
    let mut comparison = Comparison::new(&Way::all());
    requests.for_each(|request| comparison.take(&request));
    comparison.figures
}

/// What was seen so far, each way, and the figures.
#[derive(Debug)]
pub struct Comparison {
    exact: Exact,
    /// Blocks of the bodies that were read whole.
    bodies: Seen,
    prefaces: Prefaces,
    /// Blocks of the texts, for each way that needs them.
    texts: Vec<Seen>,
    ways: Vec<Way>,
    writer: Writer,
    written: Written,
    figures: Figures,
}

impl Comparison {
    /// Nothing seen.
    #[must_use]
    pub fn new(ways: &[Way]) -> Self {
        Self {
            exact: Exact::default(),
            bodies: Seen::default(),
            prefaces: Prefaces::default(),
            texts: ways.iter().map(|_| Seen::default()).collect(),
            ways: ways.to_vec(),
            writer: Writer::default(),
            written: Written::default(),
            figures: Figures::new(ways),
        }
    }

    /// Counts what is recognised of a request, then remembers it.
    pub fn take(&mut self, request: &Request) {
        self.writer.write(request, MODEL, &mut self.written);
        let exact = self.exact.matched(&request.pieces);
        self.exact.insert(&request.pieces);
        self.figures.add(request.tokens(), exact);
        let early = self.read();
        let whole = early.last().cloned().unwrap_or_default();
        let mut early = early.into_iter();
        for (place, way) in self.ways.iter().enumerate() {
            let links = match way {
                Way::Whole => whole.clone(),
                Way::DecidedAt(_) => early.next().unwrap_or_default(),
                Way::Cut(cutting) => cutting.links(self.written.text.as_bytes()),
            };
            let seen = match way {
                Way::Cut(_) => &mut self.texts[place],
                _ => &mut self.bodies,
            };
            let matched = seen.matched(&links);
            self.figures.count(place, matched, exact, links.len());
            if matches!(way, Way::Cut(_)) {
                seen.insert(&links);
            }
        }
        self.bodies.insert(&whole);
    }

    /// The blocks at each limit, by rising limits, and at last those of the whole body.
    fn read(&mut self) -> Vec<Vec<Link>> {
        let limits = self.ways.iter().filter_map(|way| match way {
            Way::DecidedAt(bytes) => Some(*bytes),
            _ => None,
        });
        let prompts = read_at(&self.written.body, limits, &mut self.prefaces);
        prompts.iter().map(Link::of).collect()
    }
}

/// Reads a body in chunks and gives the prompt as it is known at each of the limits, which rise, and at the end.
pub(super) fn read_at(
    body: &str,
    limits: impl Iterator<Item = u64>,
    prefaces: &mut Prefaces,
) -> Vec<Prompt> {
    let mut reader = PromptReader::new(Endpoint::ChatCompletions, BLOCK_BYTES);
    let mut rest = body.as_bytes();
    let mut prompts = Vec::new();
    for limit in limits {
        let missing = limit.saturating_sub(reader.seen_bytes());
        let missing = usize::try_from(missing).unwrap_or(usize::MAX);
        let (part, behind) = rest.split_at(missing.min(rest.len()));
        part.chunks(CHUNK_BYTES)
            .for_each(|chunk| reader.feed(chunk));
        rest = behind;
        prompts.push(reader.clone().finish_with(rest.is_empty(), prefaces));
    }
    rest.chunks(CHUNK_BYTES)
        .for_each(|chunk| reader.feed(chunk));
    prompts.push(reader.finish_with(true, prefaces));
    prompts
}

#[cfg(test)]
mod tests {
    use routing::{Config, RawConfig};

    use super::super::{parse, ragged};
    use super::*;

    /// Requests of these lengths and blocks.
    fn trace(lines: &[(u32, &[u64])]) -> Vec<Request> {
        let lines = lines.iter().map(|(tokens, blocks)| {
            format!("{{\"input_length\":{tokens},\"output_length\":1,\"hash_ids\":{blocks:?}}}\n")
        });
        parse(&lines.collect::<String>()).unwrap()
    }

    /// Exact tokens and those recognised each way, over all requests.
    fn matched(ways: &[Way], requests: &[Request]) -> (u64, Vec<u64>) {
        let mut comparison = Comparison::new(ways);
        requests.iter().for_each(|request| comparison.take(request));
        let figures = comparison.figures;
        let ways = figures.ways.iter().map(|way| way.matched_tokens);
        (figures.exact_tokens, ways.collect())
    }

    #[test]
    fn block_and_limit_are_the_defaults_of_the_configuration() {
        let raw = RawConfig {
            ranks: Some(vec!["10.0.0.1:8000".to_string()]),
            ..RawConfig::default()
        };
        let config = Config::try_from(raw).unwrap();
        assert_eq!(config.block_bytes(), BLOCK_BYTES);
        assert_eq!(config.decide_after_bytes(), DECIDE_AFTER_BYTES);
        assert!(Way::all().contains(&Way::DecidedAt(DECIDE_AFTER_BYTES)));
    }

    #[test]
    fn a_prompt_that_comes_again_matches_but_for_its_last_partial_block() {
        let requests = trace(&[(1100, &[0, 1, 2]), (1100, &[0, 1, 2])]);
        let ways = [Way::Whole, Way::Cut(Cutting::UNLIMITED)];
        // 1,100 tokens are 17 blocks of 64 and 12 tokens; 17 x 64 = 1,088. The router counts four for the system's
        // message, less a byte that ends it.
        assert_eq!(matched(&ways, &requests), (1100, vec![1091, 1088]));
    }

    #[test]
    fn prompts_that_part_at_a_block_of_the_trace_match_up_to_there() {
        let requests = trace(&[(1536, &[0, 1, 2]), (1536, &[0, 1, 3]), (1536, &[9, 1, 2])]);
        let ways = [Way::Whole, Way::Cut(Cutting::UNLIMITED)];
        assert_eq!(matched(&ways, &requests), (1024, vec![1027, 1024]));
    }

    #[test]
    fn ragged_prompts_lose_what_a_partial_block_holds() {
        let requests = trace(&[(1536, &[0, 1, 2]), (1536, &[0, 1, 3])]);
        let requests: Vec<Request> = requests.iter().map(ragged).collect();
        let shared = u64::from(requests[0].pieces[0].tokens + requests[0].pieces[1].tokens);
        let ways = [Way::Cut(Cutting::UNLIMITED)];
        assert_ne!(shared % 64, 0);
        assert_eq!(matched(&ways, &requests), (shared, vec![shared / 64 * 64]));
    }

    #[test]
    fn a_decision_sees_no_more_than_what_was_read_by_then() {
        let blocks: Vec<u64> = (0..40).collect();
        let requests = trace(&[(20_480, &blocks), (20_480, &blocks)]);
        let ways = [Way::Whole, Way::DecidedAt(32_768), Way::DecidedAt(1 << 20)];
        let (exact, matched) = matched(&ways, &requests);
        assert_eq!((exact, matched[0], matched[2]), (20_480, 20_483, 20_483));
        // 32 KiB are 8,192 tokens, less the escapes in the body.
        assert!((7_500..8_192).contains(&matched[1]), "{}", matched[1]);
    }

    #[test]
    fn a_budget_ends_the_match() {
        let blocks: Vec<u64> = (0..40).collect();
        let requests = trace(&[(20_480, &blocks), (20_480, &blocks)]);
        let ways = [
            Way::Cut(cutting(256, None, Some(100))),
            Way::Cut(cutting(256, Some(50), Some(100))),
        ];
        let (_, matched) = matched(&ways, &requests);
        assert_eq!(matched, [100 * 64, 50 * 64 + 50 * 128]);
    }

    #[test]
    fn the_router_never_recognises_what_is_new() {
        let requests = trace(&[(512, &[0]), (512, &[1]), (512, &[2])]);
        let (exact, matched) = matched(&Way::all(), &requests);
        assert_eq!((exact, matched), (0, vec![0; Way::all().len()]));
    }
}
