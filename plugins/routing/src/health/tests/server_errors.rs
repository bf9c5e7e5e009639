//! Server errors that are the requests', and those that are a rank's.

use super::*;

/// Ranks before which requests come at a steady pace. Honest ones are answered at once by ranks that work, the others fail
/// anywhere.
struct Pool {
    scene: Scene,
    ranks: u16,
    broken: Vec<u16>,
    at: u64,
    /// Moments that ranks were out, and errors of honest requests.
    out: u64,
    honest_errors: u32,
    dice: u64,
}

impl Pool {
    fn new(ranks: u16) -> Self {
        Self {
            scene: Scene::new(u8::try_from(ranks / 8).unwrap(), 8),
            ranks,
            broken: Vec::new(),
            at: 0,
            out: 0,
            honest_errors: 0,
            dice: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.dice += 1;
        crate::chain(77, self.dice) % below
    }

    /// A request to some rank that takes one; true when it failed.
    fn request(&mut self, fails: bool, among: &[u16]) -> bool {
        let admits = |rank: &&u16| self.scene.table.admits(RankId(**rank), 0, T0 + self.at);
        let admitted: Vec<u16> = among.iter().filter(admits).copied().collect();
        let among = if admitted.is_empty() {
            among
        } else {
            &admitted
        };
        let place = self.draw(u64::try_from(among.len()).unwrap());
        let rank = among[usize::try_from(place).unwrap()];
        let fails = fails || self.broken.contains(&rank);
        if fails {
            self.scene
                .fail(RankId(rank), Failure::ServerError, self.at, self.at);
        } else {
            self.scene.answer(RankId(rank), self.at, self.at);
        }
        fails
    }

    /// Moves on to the next millisecond.
    fn pass(&mut self) {
        self.at += 1;
        let ranks = (0..self.ranks).map(RankId);
        let counts = self.scene.table.counts(ranks, T0 + self.at);
        self.out += u64::try_from(counts.out_ranks).unwrap();
    }

    /// Some seconds of honest requests to some ranks, and of provoked errors on some, so many a second on average.
    fn run(&mut self, seconds: u64, honest: (u64, &[u16]), provoked: (u64, &[u16])) {
        for _ in 0..seconds * 1_000 {
            if self.draw(1_000) < honest.0 {
                self.honest_errors += u32::from(self.request(false, honest.1));
            }
            if self.draw(1_000) < provoked.0 {
                self.request(true, provoked.1);
            }
            self.pass();
        }
    }

    /// How many ranks were out on average, in thousandths, and begins to count anew.
    fn out_in_thousandths(&mut self, seconds: u64) -> u64 {
        let out = std::mem::take(&mut self.out) / seconds;
        println!("{out} thousandths of a rank out");
        out
    }

    fn all(&self) -> Vec<u16> {
        (0..self.ranks).collect()
    }
}

#[test]
fn provoked_errors_that_spread_over_all_ranks_put_hardly_any_out() {
    let mut pool = Pool::new(16);
    let all = pool.all();
    pool.run(10, (40, &all), (0, &all));
    pool.run(60, (40, &all), (83, &all));
    let out = pool.out_in_thousandths(60);
    assert!(out < 300, "{out} thousandths");
    assert_eq!(pool.honest_errors, 0);
}

#[test]
fn provoked_errors_on_one_rank_after_the_other_put_hardly_any_out() {
    let mut pool = Pool::new(16);
    let all = pool.all();
    pool.run(10, (40, &all), (0, &all));
    for _ in 0..60 {
        // A prompt that sticks to a rank until that is out.
        let target = |rank: &u16| pool.scene.table.admits(RankId(*rank), 0, T0 + pool.at);
        let target = all.iter().copied().find(target).unwrap();
        pool.run(1, (40, &all), (83, &[target]));
    }
    let out = pool.out_in_thousandths(60);
    assert!(out < 300, "{out} thousandths");
}

#[test]
fn bursts_of_provoked_errors_cost_one_rank_at_most_however_often_they_come() {
    let mut pool = Pool::new(16);
    let all = pool.all();
    for burst in 0..20 {
        pool.run(29, (40, &all), (0, &all));
        pool.run(1, (40, &all), (500, &[burst % 16]));
    }
    let out = pool.out_in_thousandths(600);
    assert!(out < 1_000, "{out} thousandths");
}

#[test]
fn ranks_that_get_nothing_but_provoked_errors_stay_in_if_they_answered_before() {
    let mut pool = Pool::new(16);
    let all = pool.all();
    pool.run(10, (40, &all), (0, &all));
    let hot = [0, 1, 2, 3];
    pool.run(20, (40, &hot), (83, &hot));
    // The conversations of the others have become rare.
    for _ in 0..20 {
        pool.run(9, (40, &hot), (83, &all));
        pool.run(1, (40, &all), (83, &all));
    }
    let out = pool.out_in_thousandths(230);
    assert!(out < 1_000, "{out} thousandths");
}

#[test]
fn a_broken_rank_goes_out_after_three_errors_when_there_are_no_others() {
    let mut pool = Pool::new(16);
    let all = pool.all();
    pool.run(10, (40, &all), (0, &all));
    pool.broken = vec![5];
    pool.run(10, (40, &all), (0, &all));
    // Three, and probes after 1, 2 and 4 s.
    assert!(
        (3..=7).contains(&pool.honest_errors),
        "{}",
        pool.honest_errors
    );
}

#[test]
fn a_broken_rank_goes_out_beside_provoked_errors() {
    let mut pool = Pool::new(16);
    let all = pool.all();
    pool.run(10, (40, &all), (83, &all));
    pool.out_in_thousandths(10);
    pool.broken = vec![5];
    pool.run(60, (40, &all), (83, &all));
    let out = pool.out_in_thousandths(60);
    assert!(pool.honest_errors < 60, "{} of 2400", pool.honest_errors);
    assert!((500..1_500).contains(&out), "{out} thousandths");
}

#[test]
fn half_of_all_ranks_that_break_at_once_go_out_after_a_bounded_number_of_errors() {
    for rate in [4, 40, 400] {
        let mut pool = Pool::new(16);
        let all = pool.all();
        pool.run(10, (rate, &all), (0, &all));
        pool.broken = (0..16).step_by(2).collect();
        let mut seconds = 0;
        let out = |pool: &Pool| {
            let ranks = pool.broken.iter().map(|rank| RankId(*rank));
            pool.scene.table.counts(ranks, T0 + pool.at).in_ranks == 0
        };
        while !out(&pool) {
            pool.run(1, (rate, &all), (0, &all));
            seconds += 1;
        }
        // Seven answers of each of the other 15 ranks, all by those 8 that work, are 105 answers.
        println!(
            "{rate} a second: {} errors in {seconds} s",
            pool.honest_errors
        );
        assert!(
            pool.honest_errors < 200 + u32::try_from(rate).unwrap(),
            "{}",
            pool.honest_errors
        );
        // From then on one error each time.
        let before = pool.honest_errors;
        pool.run(60, (rate, &all), (0, &all));
        let later = pool.honest_errors - before;
        assert!(later <= 8 * 8, "{later} in a minute");
    }
}

#[test]
fn a_node_that_breaks_in_a_large_pool_costs_three_errors_a_rank() {
    let mut pool = Pool::new(256);
    let all = pool.all();
    pool.run(10, (400, &all), (0, &all));
    pool.broken = (0..8).collect();
    pool.run(5, (400, &all), (0, &all));
    assert!(pool.honest_errors <= 8 * 6, "{}", pool.honest_errors);
}

#[test]
fn when_every_rank_fails_each_stays_in_or_is_probed() {
    let mut pool = Pool::new(8);
    let all = pool.all();
    pool.broken = all.clone();
    pool.run(30, (40, &all), (0, &all));
    let counts = pool
        .scene
        .table
        .counts(all.iter().map(|rank| RankId(*rank)), T0 + pool.at);
    assert_eq!((counts.in_ranks, counts.out_ranks), (7, 0));
    pool.broken.clear();
    pool.honest_errors = 0;
    pool.run(5, (40, &all), (0, &all));
    assert_eq!(pool.honest_errors, 0);
    let counts = pool
        .scene
        .table
        .counts(all.iter().map(|rank| RankId(*rank)), T0 + pool.at);
    assert_eq!(counts.in_ranks, 8);
}

#[test]
fn ranks_that_prefill_are_compared_with_each_other() {
    let mut pool = Pool::new(16);
    let (prefill, decode): (Vec<u16>, Vec<u16>) = (0..16).partition(|rank| *rank < 8);
    for rank in &prefill {
        pool.scene.table.set_part(RankId(*rank), true, true);
    }
    // Honest prompts are short and are prefilled where they are decoded.
    pool.run(60, (40, &decode), (83, &prefill));
    let out = pool.out_in_thousandths(60);
    assert!(out <= 1_000, "{out} thousandths");
    let counts = pool
        .scene
        .table
        .counts(prefill.iter().map(|rank| RankId(*rank)), T0 + pool.at);
    assert!(counts.in_ranks >= 7, "{counts:?}");
}

#[test]
fn an_error_that_is_the_requests_is_told_from_one_that_counts() {
    let mut scene = Scene::new(1, 2);
    let fail =
        |scene: &mut Scene, rank, at| scene.verdict(rank, Failure::ServerError, attempt(at, at));
    assert_eq!(fail(&mut scene, A, 1), Verdict::Noted);
    assert_eq!(fail(&mut scene, A, 2), Verdict::Noted);
    assert_eq!(fail(&mut scene, A, 3), Verdict::GoesOut);
    assert_eq!(fail(&mut scene, A, 4), Verdict::Noted, "it is out");
    assert_eq!(fail(&mut scene, B, 5), Verdict::Noted);
    assert_eq!(fail(&mut scene, B, 6), Verdict::Noted);
    assert_eq!(fail(&mut scene, B, 7), Verdict::NotCounted, "both fail");
}

#[test]
fn a_row_that_an_answer_ended_makes_twice_as_many_errors_needed_for_some_minutes() {
    let row_until_out = |after: u64| {
        let mut scene = Scene::new(2, 1);
        for at in 0..2 {
            scene.fail(B, Failure::ServerError, at, at);
        }
        scene.answer(B, 5, 5);
        let row = 6 + after..;
        row.take_while(|at| !scene.fail(A, Failure::ServerError, *at, *at))
            .count()
            + 1
    };
    assert_eq!((row_until_out(0), row_until_out(60_000)), (4, 3));
}

#[test]
fn a_rank_that_is_out_is_pardoned_when_its_errors_turn_out_to_be_the_requests() {
    let mut scene = Scene::new(4, 1);
    for at in 0..3 {
        scene.fail(A, Failure::ServerError, at, at);
    }
    let opens = scene.opens(A, 2);
    scene.fail(A, Failure::ServerError, opens, opens);
    assert_eq!(scene.standing(A, opens), Standing::Probe { limit: 1 });
    // B has the same errors, and answers others.
    for at in opens + 1..opens + 3 {
        scene.fail(B, Failure::ServerError, at, at);
    }
    scene.answer(B, opens + 3, opens + 3);
    scene.fail(A, Failure::ServerError, opens + 4, opens + 4);
    assert_eq!(scene.standing(A, opens + 4), Standing::In);
}

#[test]
fn a_row_long_ago_before_the_clock_was_set_back_says_nothing() {
    let mut scene = Scene::new(2, 1);
    let day = 86_400_000;
    for at in day..day + 2 {
        scene.fail(B, Failure::ServerError, at, at);
    }
    scene.answer(B, day + 10, day + 10);
    for at in 0..2 {
        assert!(!scene.fail(A, Failure::ServerError, at, at));
    }
    assert!(scene.fail(A, Failure::ServerError, 2, 2));
}
