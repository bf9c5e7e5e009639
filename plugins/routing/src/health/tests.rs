use std::net::Ipv4Addr;

use super::*;

mod coming_back;
mod copies;
mod going_out;
mod pods;
#[cfg(not(target_arch = "wasm32"))]
mod properties;
mod scrapes;
mod server_errors;
#[cfg(not(target_arch = "wasm32"))]
mod twin;

/// The start of every test; far from zero, as a wall clock is.
const T0: u64 = 1_700_000_000_000;
const A: RankId = RankId(0);
const B: RankId = RankId(1);

/// `pods` pods of `ranks` ranks each, numbered pod by pod.
fn table(pods: u8, ranks: u8) -> HealthTable {
    let mut table = HealthTable::default();
    for rank in 0..u16::from(pods) * u16::from(ranks) {
        let pod = u8::try_from(rank / u16::from(ranks)).unwrap();
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, pod));
        table.seat(RankId(rank), crate::hash_bytes(&rank.to_le_bytes()), ip);
    }
    table
}

/// An attempt that took from `picked` to `ended`, in milliseconds after the start.
fn attempt(picked: u64, ended: u64) -> Attempt {
    Attempt {
        picked_ms: T0 + picked,
        ended_ms: T0 + ended,
    }
}

/// One test's table and clock in milliseconds after the start.
struct Scene {
    table: HealthTable,
}

impl Scene {
    fn new(pods: u8, ranks: u8) -> Self {
        Self {
            table: table(pods, ranks),
        }
    }

    /// A request that was picked at `picked` fails at `ended`.
    fn fail(&mut self, rank: RankId, failure: Failure, picked: u64, ended: u64) -> bool {
        let attempt = attempt(picked, ended);
        self.verdict(rank, failure, attempt) == Verdict::GoesOut
    }

    fn verdict(&mut self, rank: RankId, failure: Failure, attempt: Attempt) -> Verdict {
        self.table.failed(rank, failure, attempt, attempt.ended_ms)
    }

    /// A request that was picked at `picked` gets its first byte at `ended`.
    fn answer(&mut self, rank: RankId, picked: u64, ended: u64) -> bool {
        let attempt = attempt(picked, ended);
        self.table.answered(rank, attempt, attempt.ended_ms)
    }

    fn scrape(&mut self, rank: RankId, is_good: bool, at: u64) -> bool {
        if is_good {
            return self.table.scrape_answered(rank, T0 + at);
        }
        self.fail(rank, Failure::Scrape, at, at)
    }

    fn standing(&self, rank: RankId, at: u64) -> Standing {
        self.table.standing(rank, T0 + at)
    }

    fn standings(&self, at: u64) -> String {
        let count = u16::try_from(self.table.ranks.len()).unwrap();
        let signs = (0..count).map(|rank| match self.standing(RankId(rank), at) {
            Standing::In => 'I',
            Standing::Ramping { .. } => 'R',
            Standing::Probe { .. } => 'P',
            Standing::Out => 'O',
        });
        signs.collect()
    }

    /// Lets two connects fail, one millisecond apart; gives when the rank's time out is over.
    fn put_out(&mut self, rank: RankId, at: u64) -> u64 {
        self.fail(rank, Failure::Connect, at, at);
        self.fail(rank, Failure::Connect, at + 1, at + 1);
        assert_eq!(self.standing(rank, at + 1), Standing::Out);
        self.opens(rank, at + 1)
    }

    /// When a rank that is out may be probed.
    fn opens(&self, rank: RankId, at: u64) -> u64 {
        (at..)
            .find(|&at| self.standing(rank, at) != Standing::Out)
            .unwrap()
    }
}

#[test]
fn a_rank_takes_at_most_64_bytes() {
    assert!(size_of::<RankHealth>() <= 64);
}

#[test]
fn an_unknown_rank_is_in_and_events_of_it_are_ignored() {
    let mut scene = Scene::new(1, 1);
    let unknown = RankId(9);
    for at in 0..9 {
        assert!(!scene.fail(unknown, Failure::NoFirstByte, at, at));
        assert!(!scene.answer(unknown, at, at));
        assert!(!scene.scrape(unknown, true, at));
    }
    assert_eq!(scene.standing(unknown, 9), Standing::In);
    assert!(scene.table.admits(unknown, 1_000, T0));
}

#[test]
fn counts_are_of_the_ranks_asked_for() {
    let mut scene = Scene::new(4, 1);
    scene.put_out(A, 0);
    scene.put_out(B, 2_000);
    let counts = scene.table.counts([A, B, RankId(2)], T0 + 2_001);
    assert_eq!(
        (counts.in_ranks, counts.coming_back, counts.out_ranks),
        (1, 1, 1)
    );
}

#[test]
fn a_rank_that_takes_a_seat_starts_anew() {
    let mut scene = Scene::new(1, 1);
    scene.scrape(A, true, 0);
    scene.put_out(A, 0);
    scene
        .table
        .seat(A, 77, IpAddr::V4(Ipv4Addr::new(10, 0, 9, 9)));
    assert_eq!(scene.standing(A, 2), Standing::In);
    assert_eq!((scene.table.scraped, scene.table.unscraped), (0, 0));
    let out = scene.put_out(A, 10_000);
    assert!(out <= 11_201, "the first time out is about a second");
}
