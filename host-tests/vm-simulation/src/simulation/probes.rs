//! A rank that comes back while clients stop in the middle of bodies: their requests must not take the places of those that
//! could show that it is well.

use super::Simulation;
use crate::hostile;
use crate::invariants;
use crate::ranks::Mood;
use crate::schedule::MS;
use crate::vm_record::MAIN_THREAD;

/// How many gateways at rest are asked this: it takes many requests.
const SHARE: f64 = 0.1;
/// Requests until a rank that answers with errors is surely out, and as many more until one that is well is surely in again, if
/// it gets the share of one of eight.
const REQUESTS: u64 = 200;
/// Between two of them: so short that all take half of the time after which a rank without news is tried once more.
const GAP_NS: u64 = 25 * MS;
/// Clients that stop, so many that one of eight ranks hardly gets none.
const STOPPED: u64 = 16;
/// The first time out of a rank is about a second.
const TIME_OUT_NS: u64 = 3_000 * MS;
/// Bytes of these prompts.
const BYTES: usize = 300;

impl Simulation {
    /// Breaks a rank until it is out, mends it, and sees it come back beside clients that stop.
    pub(super) fn see_rank_come_back(&mut self) -> Option<()> {
        let is_asked = self.envoy().chance.hits(SHARE);
        let is_apt = self.ranks_listed() > 1 && self.not_in() == 0;
        if !is_asked || !is_apt {
            return Some(());
        }
        // From here on a rank is to blame for something.
        self.spares_ranks = false;
        self.envoy().ranks.ranks[0].mood = Mood::Fails;
        self.send_many("before", REQUESTS, |simulation| simulation.not_in() > 0)?;
        let is_out = self.not_in() > 0;
        self.envoy().ranks.ranks[0].mood = Mood::Well;
        self.wait(TIME_OUT_NS, |simulation| {
            simulation.metric("ranks_coming_back") > 0
        })?;
        if !is_out || self.metric("ranks_coming_back") == 0 {
            return Some(());
        }
        for number in 0..STOPPED {
            let start = format!("stopped afterwards {number} ");
            let plan = hostile::stopped(&start, BYTES);
            self.send(MAIN_THREAD + 1, plan);
        }
        self.send_many("after", REQUESTS, |_| false)?;
        self.envoy().findings.count("ranks seen coming back");
        let not_in = self.not_in();
        invariants::judge_coming_back(self, not_in);
        self.is_well()
    }

    /// Ranks that are out or on their way back.
    fn not_in(&mut self) -> i64 {
        self.metric("ranks_out") + self.metric("ranks_coming_back")
    }

    /// Sends prompts that differ until `is_enough`.
    fn send_many(
        &mut self,
        what: &str,
        most: u64,
        is_enough: impl Fn(&mut Self) -> bool,
    ) -> Option<()> {
        for number in 0..most {
            if is_enough(self) {
                break;
            }
            let plan = hostile::served(&format!("{what} {number} "), BYTES);
            self.send(MAIN_THREAD + 1, plan);
            let end_ns = self.envoy().clock.now_ns() + GAP_NS;
            self.pass(end_ns)?;
        }
        Some(())
    }

    fn wait(&mut self, most_ns: u64, is_so: impl Fn(&mut Self) -> bool) -> Option<()> {
        let end_ns = self.envoy().clock.now_ns() + most_ns;
        while !is_so(self) && self.envoy().clock.now_ns() < end_ns {
            let soon_ns = self.envoy().clock.now_ns() + GAP_NS;
            self.pass(soon_ns)?;
        }
        Some(())
    }
}
