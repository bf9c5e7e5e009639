//! What routers get to know of ranks: pages taken at an interval, which arrive later.

use std::collections::VecDeque;

use crate::policy::RankReport;

/// How old reports are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportTiming {
    /// Time between two pages of a rank.
    pub interval_ms: f64,
    /// Time from a page being taken to its arrival at the router.
    pub delay_ms: f64,
}

/// The reports of all ranks as one router has them.
#[derive(Clone, Debug)]
pub struct Reports {
    arrived: Vec<Option<RankReport>>,
    on_their_way: VecDeque<Vec<RankReport>>,
}

impl Reports {
    /// No report yet.
    #[must_use]
    pub fn new(ranks: usize) -> Self {
        Self {
            arrived: vec![None; ranks],
            on_their_way: VecDeque::new(),
        }
    }

    /// The last report of each rank.
    #[must_use]
    pub fn arrived(&self) -> &[Option<RankReport>] {
        &self.arrived
    }

    /// Pages of all ranks were taken.
    pub fn taken(&mut self, pages: Vec<RankReport>) {
        self.on_their_way.push_back(pages);
    }

    /// The oldest pages under way arrive; gives them.
    pub fn arrive(&mut self) -> Vec<RankReport> {
        let pages = self.on_their_way.pop_front().unwrap_or_default();
        for (place, page) in self.arrived.iter_mut().zip(&pages) {
            *place = Some(*page);
        }
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_arrive_in_the_order_in_which_they_were_taken() {
        let page = |running| RankReport {
            running,
            waiting: 0,
            kv_usage: 0.0,
            taken_ms: f64::from(running),
        };
        let mut reports = Reports::new(1);
        assert_eq!(reports.arrived(), [None]);
        reports.taken(vec![page(1)]);
        reports.taken(vec![page(2)]);
        assert_eq!(reports.arrived(), [None], "still under way");
        assert_eq!(reports.arrive(), [page(1)]);
        assert_eq!(reports.arrived(), [Some(page(1))]);
        reports.arrive();
        assert_eq!(reports.arrived(), [Some(page(2))]);
        assert!(reports.arrive().is_empty());
        assert_eq!(reports.arrived(), [Some(page(2))]);
    }
}
