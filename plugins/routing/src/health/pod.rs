//! Ranks that die together.
//!
//! The ranks of a pod share a supervisor that stops all of them when one dies, so the death of two is the death of all.
//! Groups of pods (LeaderWorkerSet) die together too, but nothing an endpoint table says tells which pods form a group;
//! each pod is found by its own first failures.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::spell::CLOCK_STEP_MS;
use crate::RankId;

/// A pod's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PodId(u16);

impl Default for PodId {
    /// No pod.
    fn default() -> Self {
        Self(u16::MAX)
    }
}

/// One pod: its ranks, eight of them inline as pods usually have, and whether any answered of late.
#[derive(Debug)]
pub(crate) struct Pod {
    ip: IpAddr,
    pub(crate) ranks: SmallVec<[RankId; 8]>,
    /// The first failure that looks like death since a rank of the pod answered; 0 for none.
    failed_ms: u64,
    /// The last answer of any rank.
    answered_ms: u64,
}

impl Pod {
    fn new(ip: IpAddr) -> Self {
        Self {
            ip,
            ranks: SmallVec::new(),
            failed_ms: 0,
            answered_ms: 0,
        }
    }

    /// A rank failed in a way that looks like death.
    pub(crate) fn failed(&mut self, at_ms: u64, now_ms: u64) {
        self.settle(now_ms);
        if self.answered_ms > at_ms {
            return;
        }
        self.failed_ms = match self.failed_ms {
            0 => at_ms,
            first => first.min(at_ms),
        };
    }

    /// A rank answered; true when that is the first answer since a failure.
    pub(crate) fn answered(&mut self, at_ms: u64, now_ms: u64) -> bool {
        self.settle(now_ms);
        self.answered_ms = self.answered_ms.max(at_ms);
        let is_news = self.failed_ms > 0 && self.answered_ms > self.failed_ms;
        if is_news {
            self.failed_ms = 0;
        }
        is_news
    }

    /// Since when ranks of the pod have failed and none has answered.
    pub(crate) fn unanswered_since_ms(&self) -> Option<u64> {
        (self.failed_ms > 0).then_some(self.failed_ms)
    }

    /// What lies in the future was measured before the clock was set back.
    fn settle(&mut self, now_ms: u64) {
        let latest_ms = now_ms.saturating_add(CLOCK_STEP_MS);
        if self.failed_ms > latest_ms {
            self.failed_ms = 0;
        }
        if self.answered_ms > latest_ms {
            self.answered_ms = 0;
        }
    }
}

/// The pods of a pool. A pod that no rank is in any more gives its place to the next new one.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    pods: Vec<Pod>,
}

impl Pods {
    /// Puts a rank into the pod of this IP. Cost: one pass over the pods.
    pub(crate) fn join(&mut self, rank: RankId, ip: IpAddr) -> PodId {
        let known = self.place(|pod| pod.ip == ip && !pod.ranks.is_empty());
        let place = known
            .or_else(|| self.place(|pod| pod.ranks.is_empty()))
            .unwrap_or(self.pods.len());
        match self.pods.get_mut(place) {
            Some(pod) if known.is_none() => *pod = Pod::new(ip),
            Some(_) => {}
            None => self.pods.push(Pod::new(ip)),
        }
        if let Some(pod) = self.pods.get_mut(place) {
            pod.ranks.push(rank);
        }
        PodId(u16::try_from(place).unwrap_or(u16::MAX))
    }

    /// Takes a rank out of its pod.
    pub(crate) fn leave(&mut self, rank: RankId, pod: PodId) {
        if let Some(pod) = self.get_mut(pod) {
            pod.ranks.retain(|other| *other != rank);
        }
    }

    pub(crate) fn get(&self, pod: PodId) -> Option<&Pod> {
        self.pods.get(usize::from(pod.0))
    }

    pub(crate) fn get_mut(&mut self, pod: PodId) -> Option<&mut Pod> {
        self.pods.get_mut(usize::from(pod.0))
    }

    fn place(&self, is_it: impl Fn(&Pod) -> bool) -> Option<usize> {
        self.pods.iter().position(is_it)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    fn ranks(pods: &Pods, pod: PodId) -> Vec<u16> {
        let pod = pods.get(pod).unwrap();
        pod.ranks.iter().map(|rank| rank.0).collect()
    }

    #[test]
    fn ranks_of_one_ip_are_one_pod() {
        let mut pods = Pods::default();
        let first = pods.join(RankId(0), ip(1));
        let second = pods.join(RankId(1), ip(2));
        assert_eq!(pods.join(RankId(2), ip(1)), first);
        assert_ne!(first, second);
        assert_eq!(ranks(&pods, first), [0, 2]);
        assert_eq!(ranks(&pods, second), [1]);
    }

    #[test]
    fn pods_that_come_and_go_take_no_more_places() {
        let mut pods = Pods::default();
        for last in 0..200 {
            let pod = pods.join(RankId(7), ip(last));
            assert_eq!(ranks(&pods, pod), [7]);
            pods.leave(RankId(7), pod);
        }
        assert_eq!(pods.pods.len(), 1);
    }

    #[test]
    fn a_place_taken_over_knows_nothing_of_the_pod_before() {
        let mut pods = Pods::default();
        let pod = pods.join(RankId(0), ip(1));
        pods.get_mut(pod).unwrap().failed(10, 10);
        pods.leave(RankId(0), pod);
        let pod = pods.join(RankId(0), ip(1));
        assert_eq!(pods.get(pod).unwrap().unanswered_since_ms(), None);
    }

    #[test]
    fn failures_are_unanswered_from_the_first_until_a_later_answer() {
        let mut pod = Pod::new(ip(1));
        pod.failed(120, 120);
        pod.failed(110, 121);
        pod.failed(130, 130);
        assert_eq!(pod.unanswered_since_ms(), Some(110));
        assert!(!pod.answered(105, 131));
        assert_eq!(pod.unanswered_since_ms(), Some(110));
        assert!(pod.answered(140, 140));
        assert_eq!(pod.unanswered_since_ms(), None);
        pod.failed(135, 141);
        assert_eq!(pod.unanswered_since_ms(), None, "heard of late");
    }

    #[test]
    fn a_clock_set_back_does_not_let_old_answers_hide_new_failures() {
        let mut pod = Pod::new(ip(1));
        pod.answered(9_000_000, 9_000_000);
        pod.failed(1_000, 1_000);
        assert_eq!(pod.unanswered_since_ms(), Some(1_000));
        assert!(pod.answered(2_000, 2_000));
    }
}
