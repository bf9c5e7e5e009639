//! vLLM's own balancing over the data-parallel ranks behind one API server.
//!
//! Source: vLLM, `DPLBAsyncMPClient` in `vllm/v1/engine/core_client.py`, as quoted in vllm-project/vllm#33172.
//!
//! The least `4 * waiting + running` wins, the first rank among equals. A coordinator sends the counts each 100 ms; until
//! then each pick adds one to the waiting count of its rank. Prefixes play no part.
//!
//! Simpler here: one API server (with several, each adds their number instead of one, and starts its walk elsewhere); a
//! report is believed as soon as it is there. Newer versions add a KV term and rotate the start of the walk.

use super::Setup;
use crate::policy::{Arrival, Policy, View};

const WAITING_WEIGHT: u64 = 4;

/// See the module.
pub(super) struct VllmDp {
    ranks: Vec<Count>,
}

/// What is known of a rank.
#[derive(Clone, Copy, Default)]
struct Count {
    waiting: u64,
    running: u64,
    taken_ms: Option<f64>,
}

impl Count {
    fn score(&self) -> u64 {
        WAITING_WEIGHT * self.waiting + self.running
    }
}

impl VllmDp {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            ranks: vec![Count::default(); setup.ranks],
        }
    }

    fn read(&mut self, view: &View<'_>) {
        for (count, report) in self.ranks.iter_mut().zip(view.reports) {
            if let Some(report) = report.filter(|report| count.taken_ms != Some(report.taken_ms)) {
                let (waiting, running) = (report.waiting.into(), report.running.into());
                *count = Count {
                    waiting,
                    running,
                    taken_ms: Some(report.taken_ms),
                };
            }
        }
    }
}

impl Policy for VllmDp {
    fn pick(&mut self, _arrival: &Arrival, view: &View<'_>) -> usize {
        self.read(view);
        let scores: Vec<u64> = self.ranks.iter().map(Count::score).collect();
        let rank = super::choice::first_least(&scores);
        if let Some(count) = self.ranks.get_mut(rank) {
            count.waiting += 1;
        }
        rank
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Scene, setup};
    use super::*;

    #[test]
    fn waiting_weighs_four_times_running() {
        let mut scene = Scene::new(3);
        // 4*1 + 2 = 6, 4*0 + 5 = 5, 4*2 + 0 = 8.
        scene.report(&[(2, 1, 0.5), (5, 0, 0.5), (0, 2, 0.5)]);
        assert_eq!(scene.pick(&mut VllmDp::new(&setup(3)), 0, &[], 10), 1);
    }

    #[test]
    fn picks_count_as_waiting_until_the_next_report() {
        let mut scene = Scene::new(3);
        let mut dp = VllmDp::new(&setup(3));
        scene.report(&[(0, 0, 0.0), (2, 0, 0.0), (5, 0, 0.0)]);
        // 0, 2, 5; then 4, 2, 5; then 4, 6, 5; then 8, 6, 5.
        let picks: Vec<usize> = (0..4)
            .map(|number| scene.pick(&mut dp, number, &[], 10))
            .collect();
        assert_eq!(picks, [0, 1, 0, 2]);
        scene.now_ms = 100.0;
        scene.report(&[(0, 0, 0.0), (2, 0, 0.0), (5, 0, 0.0)]);
        assert_eq!(scene.pick(&mut dp, 4, &[], 10), 0);
    }

    #[test]
    fn without_reports_ranks_take_turns() {
        let scene = Scene::new(2);
        let mut dp = VllmDp::new(&setup(2));
        let picks: Vec<usize> = (0..4)
            .map(|number| scene.pick(&mut dp, number, &[], 10))
            .collect();
        assert_eq!(picks, [0, 1, 0, 1]);
    }
}
