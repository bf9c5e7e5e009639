//! What a trial counts for a rank.

use crate::policy::RankReport;

/// Work that ended in a time, both fading.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    work: f64,
    ms: f64,
}

impl Rate {
    /// How much of what was seen before still counts.
    const KEPT: f64 = 0.95;

    /// Work was done in this time.
    pub fn note(&mut self, work: f64, ms: f64) {
        self.work = self.work * Self::KEPT + work;
        self.ms = self.ms * Self::KEPT + ms;
    }

    /// Work in a millisecond; nothing before the first was seen.
    #[must_use]
    pub fn per_ms(&self) -> Option<f64> {
        (self.ms > 0.0 && self.work > 0.0).then(|| self.work / self.ms)
    }
}

/// A rank as a trial sees it.
#[derive(Clone, Debug)]
pub struct RankTally {
    /// Work before its first byte.
    pub queued: f64,
    /// Requests before their first byte.
    pub waiting: u32,
    /// Requests that have not ended.
    pub flights: u32,
    /// Tokens of their prompts.
    pub held: f64,
    /// When its queue began or last moved.
    pub moved_ms: f64,
    /// How fast its queue moved.
    pub rate: Rate,
    /// Tokens in use, as reported, for each of those that run by our count.
    pub use_factor: f64,
}

impl RankTally {
    /// Nothing sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            queued: 0.0,
            waiting: 0,
            flights: 0,
            held: 0.0,
            moved_ms: 0.0,
            rate: Rate::default(),
            use_factor: 1.0,
        }
    }

    /// A request was sent.
    pub fn send(&mut self, work: f64, prompt: f64, now_ms: f64) {
        if self.waiting == 0 {
            self.moved_ms = now_ms;
        }
        self.queued += work;
        self.held += prompt;
        self.waiting += 1;
        self.flights += 1;
    }

    /// Its first byte came; gives how long the queue took for it.
    pub fn first_byte(&mut self, work: f64, now_ms: f64) -> f64 {
        let ms = now_ms - self.moved_ms;
        self.rate.note(work, ms);
        self.moved_ms = now_ms;
        self.waiting -= 1;
        self.queued = if self.waiting == 0 {
            0.0
        } else {
            self.queued - work
        };
        ms
    }

    /// It ended.
    pub fn end(&mut self, prompt: f64) {
        self.flights -= 1;
        self.held -= prompt;
    }

    /// The rank reported. What waits there is not in use.
    pub fn reported(&mut self, report: &RankReport, capacity: f64) {
        let all = f64::from(report.running + report.waiting);
        if report.running > 0 && self.held > 0.0 {
            let running = self.held * f64::from(report.running) / all;
            self.use_factor = report.kv_usage * capacity / running;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_moves_from_its_begin_to_its_first_bytes() {
        let mut tally = RankTally::new();
        tally.send(100.0, 150.0, 1000.0);
        tally.send(300.0, 300.0, 1010.0);
        assert_eq!((tally.queued, tally.held), (400.0, 450.0));
        assert_eq!(tally.first_byte(100.0, 1050.0), 50.0);
        assert_eq!(tally.rate.per_ms(), Some(2.0));
        assert_eq!(tally.first_byte(300.0, 1200.0), 150.0);
        // (95 + 300) tokens in (47.5 + 150) ms.
        assert_eq!(tally.rate.per_ms(), Some(2.0));
        tally.end(150.0);
        assert_eq!((tally.queued, tally.held, tally.flights), (0.0, 300.0, 1));
    }

    #[test]
    fn reports_correct_what_running_prompts_use() {
        let mut tally = RankTally::new();
        (0..4).for_each(|_| tally.send(0.0, 100.0, 0.0));
        // Three of four run, 300 tokens by our count, and use 150 of 1,000.
        let report = RankReport {
            running: 3,
            waiting: 1,
            kv_usage: 0.15,
            taken_ms: 0.0,
        };
        tally.reported(&report, 1000.0);
        assert_eq!(tally.use_factor, 0.5);
    }
}
