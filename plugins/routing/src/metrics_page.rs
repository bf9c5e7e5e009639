//! Reads a rank's metrics page in pieces.
//!
//! The page is Prometheus' text format 0.0.4, as `GET /metrics` of vLLM and SGLang and `/prometheus/metrics` of
//! trtllm-serve give it: some 50 KB, of which some fifteen lines matter. Crates that parse this format build all of it
//! in memory from one string; this reader keeps the line that a piece breaks off and a few numbers, and leaves a line at
//! its name unless the name is one it needs.
//!
//! - Series of one name, those of several engines or models, are summed; usages give the highest, start times the last.
//! - One series of a name that cannot be read makes all of that name unknown, because a sum without it would be too low.
//! - A field comes from one source. Where a page has several, current vLLM names win over those before 0.12, those over
//!   SGLang, over trtllm-serve, over Triton with TensorRT-LLM.

mod gathered;
mod lines;
mod metric;
mod sample;
mod server_tally;

use crate::Report;
use gathered::Gathered;
use lines::Lines;
use metric::{Metric, Server};
use sample::Sample;
use server_tally::ServerTally;

/// A metrics page that is fed in pieces, however it is split.
///
/// Cost: linear in the bytes. Memory: constant, below 10 KiB.
#[derive(Debug, Default)]
pub struct MetricsPage {
    lines: Lines,
    tally: Tally,
}

impl MetricsPage {
    /// Reads the next piece.
    pub fn feed(&mut self, bytes: &[u8]) {
        let tally = &mut self.tally;
        self.lines.feed(bytes, &mut |line| tally.read(line));
    }

    /// Ends the page, whether or not its last line has an end, and gives what it said.
    ///
    /// A page that breaks off may end inside a number: only whole ones should be finished.
    #[must_use]
    pub fn finish(self) -> Report {
        let mut tally = self.tally;
        self.lines.finish(&mut |line| tally.read(line));
        tally.report()
    }
}

#[derive(Debug, Default)]
struct Tally {
    start_time_ms: Gathered<u64>,
    /// In the order of [`Server`], which is the order of preference.
    servers: [ServerTally; Server::COUNT],
}

impl Tally {
    fn read(&mut self, line: &[u8]) {
        let Some((name, rest)) = sample::split_name(line) else {
            return;
        };
        match Metric::of_name(name) {
            Some(Metric::StartTime) => self.start_time_ms.join(start_time_ms(rest), u64::max),
            Some(Metric::OfServer(server, quantity)) => {
                if let Some(tally) = self.servers.get_mut(server.place()) {
                    tally.record(server, quantity, Sample::parse(rest));
                }
            }
            None => {}
        }
    }

    fn report(&self) -> Report {
        let prefix = self.first(ServerTally::prefix_tokens);
        Report {
            running: self.first(|server| server.running.known()).map(narrowed),
            waiting: self.first(|server| server.waiting.known()).map(narrowed),
            kv_usage: self.first(|server| server.kv_usage.known()),
            capacity_tokens: self.first(ServerTally::capacity_tokens),
            start_time_ms: self.start_time_ms.known(),
            prompt_tokens_total: self.first(|server| server.prompt_tokens.known()),
            generation_tokens_total: self.first(|server| server.generation_tokens.known()),
            prefix_queried_tokens_total: prefix.map(|(queried, _)| queried),
            prefix_hit_tokens_total: prefix.map(|(_, hit)| hit),
            is_awake: self.first(|server| server.is_awake.known()),
        }
    }

    /// The word of the most preferred server that has one.
    fn first<T>(&self, word: impl Fn(&ServerTally) -> Option<T>) -> Option<T> {
        self.servers.iter().find_map(word)
    }
}

/// The process collector of Prometheus' clients gives seconds with a fraction; 0 is what it gives when it cannot know.
fn start_time_ms(rest: &[u8]) -> Option<u64> {
    let seconds = Sample::parse(rest)?.value;
    sample::whole(seconds * 1000.0 + 0.5).filter(|ms| *ms > 0)
}

fn narrowed(requests: u64) -> u32 {
    u32::try_from(requests).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests;
