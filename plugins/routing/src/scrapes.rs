//! When which rank is asked for its metrics.

use std::net::SocketAddr;

use crate::seats::address_hash;

/// Ranks asked at the same time: a hung group of 16 must not keep the others waiting, and 1,024 ranks that answer in
/// 60 ms each take a second.
const AT_ONCE: usize = 64;

/// How long a rank may take: a busy model server answers late, and one that needs longer is not to be trusted.
pub const SCRAPE_TIMEOUT_MS: u64 = 1000;

/// An answer that has not come this long after its time limit will not come: the root that asked is gone.
const LOST_AFTER_MS: u64 = 2 * SCRAPE_TIMEOUT_MS;

/// A rank to be asked.
#[derive(Clone, Copy, Debug)]
struct Target {
    address: SocketAddr,
    address_hash: u64,
    next_ms: u64,
    asked_ms: Option<u64>,
}

/// The ranks of one pool, each asked once an interval, at a moment of its own.
#[derive(Debug, Default)]
pub struct Scrapes {
    targets: Vec<Target>,
}

impl Scrapes {
    /// These are the ranks from now on. A new one has its first turn within one interval, at a moment that its address
    /// tells, so that the ranks are spread over it.
    pub fn follow(
        &mut self,
        ranks: impl Iterator<Item = SocketAddr>,
        interval_ms: u64,
        now_ms: u64,
    ) {
        let targets = ranks.map(|address| {
            let known = self.targets.iter().find(|target| target.address == address);
            known.copied().unwrap_or_else(|| {
                let address_hash = address_hash(address);
                let moment_ms = address_hash.checked_rem(interval_ms).unwrap_or(0);
                Target {
                    address,
                    address_hash,
                    next_ms: now_ms.saturating_add(moment_ms),
                    asked_ms: None,
                }
            })
        });
        self.targets = targets.collect();
    }

    /// The ranks to ask now, which are then waited for. Cost: one pass over the ranks.
    pub fn start(&mut self, interval_ms: u64, now_ms: u64) -> Vec<SocketAddr> {
        let lost = |asked_ms: u64| now_ms.abs_diff(asked_ms) > LOST_AFTER_MS;
        for target in &mut self.targets {
            target.asked_ms = target.asked_ms.filter(|asked_ms| !lost(*asked_ms));
            // A clock that was set back must not keep a rank waiting.
            target.next_ms = target.next_ms.min(now_ms.saturating_add(interval_ms));
        }
        let asked = self
            .targets
            .iter()
            .filter(|target| target.asked_ms.is_some());
        let room = AT_ONCE.saturating_sub(asked.count());
        let is_due = |target: &&mut Target| target.asked_ms.is_none() && target.next_ms <= now_ms;
        let due = self.targets.iter_mut().filter(is_due).take(room);
        due.map(|target| {
            target.asked_ms = Some(now_ms);
            // From the moment that was due, so that the moments stay spread; after a long pause from now.
            let next_ms = target.next_ms.saturating_add(interval_ms);
            target.next_ms = if next_ms > now_ms {
                next_ms
            } else {
                now_ms.saturating_add(interval_ms)
            };
            target.address
        })
        .collect()
    }

    /// A rank has answered, or will not.
    pub fn end(&mut self, rank: u64) {
        let target = self
            .targets
            .iter_mut()
            .find(|target| target.address_hash == rank);
        if let Some(target) = target {
            target.asked_ms = None;
        }
    }

    /// Whether a rank is one of those that are asked.
    #[must_use]
    pub fn has(&self, rank: u64) -> bool {
        self.targets
            .iter()
            .any(|target| target.address_hash == rank)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ranks(count: u16) -> impl Iterator<Item = SocketAddr> {
        (0..count).map(|port| SocketAddr::from(([10, 0, 0, 1], 8000 + port)))
    }

    fn following(count: u16) -> Scrapes {
        let mut scrapes = Scrapes::default();
        scrapes.follow(ranks(count), 1000, 0);
        scrapes
    }

    #[test]
    fn every_rank_is_asked_once_an_interval_and_never_many_at_the_same_moment() {
        let mut scrapes = following(200);
        let mut asked: BTreeMap<SocketAddr, Vec<u64>> = BTreeMap::new();
        for now_ms in (0..5000).step_by(4) {
            let now = scrapes.start(1000, now_ms);
            assert!(now.len() < 12, "{} of 200 at {now_ms} ms", now.len());
            for rank in now {
                asked.entry(rank).or_default().push(now_ms);
                scrapes.end(address_hash(rank));
            }
        }
        assert_eq!(asked.len(), 200);
        for times in asked.values() {
            assert_eq!(times.len(), 5);
            assert!(
                times
                    .windows(2)
                    .all(|pair| (996..=1004).contains(&(pair[1] - pair[0])))
            );
        }
    }

    #[test]
    fn no_more_than_64_are_waited_for_and_a_rank_is_not_asked_while_it_is() {
        let mut scrapes = following(200);
        let first = scrapes.start(1000, 1000);
        assert_eq!(first.len(), 64);
        assert!(scrapes.start(1000, 1004).is_empty());
        scrapes.end(address_hash(first[0]));
        assert_eq!(scrapes.start(1000, 1008).len(), 1);
        let lost = scrapes.start(1000, 3500);
        assert_eq!(lost.len(), 64, "answers that never came are given up");
    }

    #[test]
    fn a_rank_that_stays_keeps_its_moment_and_one_that_left_is_not_asked() {
        let mut scrapes = following(2);
        let before: Vec<u64> = scrapes
            .targets
            .iter()
            .map(|target| target.next_ms)
            .collect();
        scrapes.follow(ranks(1), 1000, 500);
        let after: Vec<u64> = scrapes
            .targets
            .iter()
            .map(|target| target.next_ms)
            .collect();
        assert_eq!(after, before[..1]);
        assert!(scrapes.has(address_hash(ranks(1).next().unwrap())));
        assert_eq!(scrapes.start(1000, 5000).len(), 1);
    }

    #[test]
    fn a_clock_that_jumps_delays_no_rank_by_more_than_an_interval() {
        let mut scrapes = following(3);
        assert_eq!(scrapes.start(1000, 9_000_000).len(), 3);
        ranks(3).for_each(|rank| scrapes.end(address_hash(rank)));
        assert!(scrapes.start(1000, 50).is_empty());
        assert_eq!(scrapes.start(1000, 1050).len(), 3);
    }
}
