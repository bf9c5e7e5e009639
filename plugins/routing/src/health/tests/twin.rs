//! A naive twin: it keeps every event, and works out how each rank stands by going through all of them again.

use proptest::prelude::*;

use super::super::time_out::out_ms;
use super::*;

mod server_errors;

#[derive(Clone, Copy, Debug)]
enum Event {
    Fail(Failure),
    Answer,
    Page,
}

/// An event on a rank: what, of an attempt of when, heard when.
#[derive(Clone, Copy, Debug)]
struct Heard {
    rank: usize,
    event: Event,
    attempt: Attempt,
    now_ms: u64,
}

#[derive(Clone, Debug)]
struct Away {
    went_ms: u64,
    until_ms: u64,
    /// `None` when it followed its pod.
    cause: Option<Failure>,
    answers: u32,
    last_step_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Rank {
    row: Vec<(Failure, u64)>,
    /// How much of the log there was when the row's first server error came.
    row_from: usize,
    answers: Vec<Attempt>,
    page_was_read: bool,
    failed_pages: u32,
    times: u64,
    last_went_ms: Option<u64>,
    in_since_ms: u64,
    away: Option<Away>,
}

#[derive(Clone, Debug, Default)]
struct Pod {
    failures: Vec<u64>,
    answers: Vec<u64>,
}

/// An answer of a rank, heard at a time, and the server errors in the row that it ended.
#[derive(Clone, Copy, Debug)]
struct Answered {
    rank: usize,
    excused: usize,
    now_ms: u64,
}

#[derive(Default)]
struct Twin {
    pod_size: usize,
    ranks: Vec<Rank>,
    pods: Vec<Pod>,
    log: Vec<Answered>,
}

fn seed(rank: usize) -> u32 {
    let rank = u16::try_from(rank).unwrap();
    u32::try_from(crate::hash_bytes(&rank.to_le_bytes()) & 0xffff_ffff).unwrap()
}

fn dies(failure: Failure) -> bool {
    !matches!(failure, Failure::ServerError | Failure::NoFirstByte)
}

impl Rank {
    fn standing(&self, now_ms: u64) -> Standing {
        let Some(away) = &self.away else {
            return Standing::In;
        };
        if now_ms < away.until_ms {
            return Standing::Out;
        }
        let quiet_ms = now_ms - away.until_ms.max(away.last_step_ms);
        match away.answers {
            0 if quiet_ms >= 600_000 => Standing::In,
            1.. if quiet_ms >= 60_000 => Standing::In,
            0 => {
                let more = (now_ms - away.until_ms) / 10_000;
                let limit = 1 + u32::try_from(more).unwrap();
                Standing::Probe { limit }
            }
            answers => Standing::Ramping {
                limit: 1 << (answers - 1),
            },
        }
    }

    /// What time alone changes.
    fn pass(&mut self, now_ms: u64) {
        if self.away.is_some() && self.standing(now_ms) == Standing::In {
            self.away = None;
            self.in_since_ms = now_ms;
        }
        let last_ms = self.row.iter().map(|(_, at_ms)| *at_ms).max();
        if last_ms.is_some_and(|last_ms| now_ms - last_ms >= 60_000) {
            self.row.clear();
        }
    }

    fn go_out(&mut self, rank: usize, cause: Option<Failure>, at_ms: u64) {
        let healed = match self.away {
            None => at_ms.saturating_sub(self.in_since_ms) / 60_000,
            Some(_) => 0,
        };
        self.times = self.times.saturating_sub(healed) + 1;
        let length_ms = out_ms(seed(rank), u8::try_from(self.times.min(255)).unwrap());
        self.row.clear();
        self.last_went_ms = Some(at_ms);
        self.away = Some(Away {
            went_ms: at_ms,
            until_ms: at_ms + length_ms,
            cause,
            answers: 0,
            last_step_ms: at_ms,
        });
    }

    fn is_disproved(&self, failure: Failure, at_ms: u64) -> bool {
        self.answers.iter().any(|answer| match failure {
            Failure::Connect => answer.picked_ms > at_ms,
            _ => answer.ended_ms > at_ms,
        })
    }

    fn errors(&self) -> usize {
        let is_error = |(failure, _): &&(Failure, u64)| *failure == Failure::ServerError;
        self.row.iter().filter(is_error).count()
    }

    fn has_connect(&self) -> bool {
        let mut row = self.row.iter();
        row.any(|(failure, _)| *failure == Failure::Connect)
    }

    fn is_failing(&self, now_ms: u64) -> bool {
        let last_ms = self.row.iter().map(|(_, at_ms)| *at_ms).max();
        let is_fresh = last_ms.is_some_and(|last_ms| now_ms - last_ms < 60_000);
        let mut away = self.away.iter();
        let is_away = away.any(|away| away.cause == Some(Failure::ServerError));
        (is_fresh && self.errors() >= 3) || (is_away && self.standing(now_ms) != Standing::In)
    }

    /// Gives how long the row is, in server errors, if the rank is to go out for it.
    fn request_failed(&mut self, failure: Failure, heard: Heard, logged: usize) -> Option<usize> {
        let Attempt {
            picked_ms,
            ended_ms,
        } = heard.attempt;
        let is_known = self.last_went_ms.is_some_and(|went| picked_ms <= went);
        if is_known || self.is_disproved(failure, ended_ms) {
            return None;
        }
        let standing = self.standing(heard.now_ms);
        if standing == Standing::Out {
            return None;
        }
        if failure == Failure::ServerError && self.errors() == 0 {
            self.row_from = logged;
        }
        self.row.push((failure, ended_ms));
        let weight = |(failure, _): &(Failure, u64)| match failure {
            Failure::Connect => 4,
            Failure::NoFirstByte => 6,
            _ => 2,
        };
        let sum: usize = self.row.iter().map(weight).sum();
        (sum >= 6 || standing != Standing::In).then_some(sum / 2)
    }

    /// Gives the server errors in the row that the answer ends.
    fn answered(&mut self, heard: Heard) -> usize {
        let answer = heard.attempt;
        self.answers.push(answer);
        let mut excused = 0;
        if let Some(last_ms) = self.row.iter().map(|(_, at_ms)| *at_ms).max() {
            let kind = if self.has_connect() {
                Failure::Connect
            } else {
                Failure::Reset
            };
            if self.is_disproved(kind, last_ms) {
                excused = self.errors();
                self.row.clear();
            }
        }
        self.step_in(heard);
        excused
    }

    fn step_in(&mut self, heard: Heard) {
        let answer = heard.attempt;
        self.page_was_read &= self.failed_pages < 3;
        self.failed_pages = 0;
        let Some(away) = &mut self.away else { return };
        let is_new = answer.picked_ms > away.went_ms;
        let is_late = answer.ended_ms > away.went_ms + 100;
        let is_proof = is_new || (is_late && away.cause != Some(Failure::Connect));
        let is_out = heard.now_ms < away.until_ms;
        if !is_proof || (is_out && away.answers > 0) {
            return;
        }
        away.answers += 1;
        away.last_step_ms = answer.ended_ms.max(away.until_ms.min(heard.now_ms));
        if away.answers == 6 {
            self.in_since_ms = away.last_step_ms;
            self.away = None;
        }
    }

    fn page_read(&mut self, now_ms: u64) {
        let was_down = self.failed_pages >= 3;
        self.page_was_read = true;
        self.failed_pages = 0;
        if let Some(away) = &mut self.away {
            let is_guess = matches!(away.cause, None | Some(Failure::Scrape));
            if was_down || is_guess {
                away.until_ms = away.until_ms.min(now_ms.max(away.went_ms));
            }
        }
    }
}

impl Twin {
    fn hear(&mut self, heard: Heard) {
        self.ranks[heard.rank].pass(heard.now_ms);
        match heard.event {
            Event::Fail(Failure::Scrape) => self.page_failed(heard),
            Event::Fail(failure) => {
                let goes_out = self.request_failed(failure, heard);
                if dies(failure) {
                    self.pod_failed(heard, goes_out);
                }
            }
            Event::Answer => {
                let excused = self.ranks[heard.rank].answered(heard);
                self.log.push(Answered {
                    rank: heard.rank,
                    excused,
                    now_ms: heard.now_ms,
                });
                self.pod_answered(heard.rank, heard.attempt.ended_ms);
            }
            Event::Page => {
                self.ranks[heard.rank].page_read(heard.now_ms);
                self.pod_answered(heard.rank, heard.now_ms);
            }
        }
    }

    fn page_failed(&mut self, heard: Heard) {
        let rank = &mut self.ranks[heard.rank];
        if !rank.page_was_read {
            return;
        }
        rank.failed_pages += 1;
        let standing = rank.standing(heard.now_ms);
        let is_half_open = matches!(standing, Standing::Probe { .. });
        let cause = match &rank.away {
            Some(away) if is_half_open => away.cause,
            _ => Some(Failure::Scrape),
        };
        let may = standing != Standing::Out && !(is_half_open && cause == Some(Failure::Scrape));
        let is_down = rank.failed_pages >= 3 && may;
        let read = self.ranks.iter().filter(|rank| rank.page_was_read);
        let (failing, known) = (
            read.clone().filter(|r| r.failed_pages > 0).count(),
            read.count(),
        );
        let goes_out = is_down && failing * 4 <= known * 3;
        if goes_out {
            self.ranks[heard.rank].go_out(heard.rank, cause, heard.now_ms);
        }
        self.pod_failed(heard, goes_out);
    }

    fn pod_failed(&mut self, heard: Heard, goes_out: bool) {
        let at_ms = heard.attempt.ended_ms;
        let pod = &mut self.pods[heard.rank / self.pod_size];
        if pod.answers.iter().all(|answer| *answer <= at_ms) {
            pod.failures.push(at_ms);
        }
        let first_ms = pod.failures.iter().min().copied();
        let (Some(first_ms), true) = (first_ms, goes_out) else {
            return;
        };
        let went_ms = self.ranks[heard.rank].last_went_ms.unwrap();
        let start = heard.rank / self.pod_size * self.pod_size;
        let members = start..start + self.pod_size;
        let is_dead = |rank: &&Rank| {
            rank.away.as_ref().is_some_and(|away| {
                let is_near = away.went_ms.abs_diff(went_ms) <= 5_000;
                let is_death = away.cause.is_none_or(|cause| dies(cause) && is_near);
                is_death && away.answers == 0 && away.went_ms >= first_ms
            })
        };
        if self.ranks[members.clone()].iter().filter(is_dead).count() < 2 {
            return;
        }
        for rank in members {
            self.ranks[rank].pass(heard.now_ms);
            if self.ranks[rank].standing(heard.now_ms) != Standing::Out {
                self.ranks[rank].go_out(rank, None, went_ms);
            }
        }
    }

    fn pod_answered(&mut self, rank: usize, at_ms: u64) {
        let pod = &mut self.pods[rank / self.pod_size];
        pod.answers.push(at_ms);
        let first_ms = pod.failures.iter().min();
        if first_ms.is_some_and(|first| pod.answers.iter().any(|answer| answer > first)) {
            pod.failures.clear();
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => prop::sample::select(Failure::ALL.to_vec()).prop_map(Event::Fail),
        2 => Just(Event::Fail(Failure::Scrape)),
        4 => Just(Event::Answer),
        1 => Just(Event::Page),
    ]
}

/// Steps of a few milliseconds, of a second, and now and then of minutes.
fn step() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..50, 6 => 200_u64..3_000, 1 => 10_000_u64..700_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_table_stands_as_its_twin_says(
        pod_size in prop::sample::select(vec![1_usize, 2, 4]),
        events in prop::collection::vec(
            (0_usize..4, event(), step(), 0_u64..5_000, 0_u64..60, any::<bool>()),
            1..150,
        ),
    ) {
        let mut table = table(u8::try_from(4 / pod_size).unwrap(), u8::try_from(pod_size).unwrap());
        let mut twin = Twin {
            pod_size,
            ranks: vec![Rank::default(); 4],
            pods: vec![Pod::default(); 4 / pod_size],
            log: Vec::new(),
        };
        for place in 0..4 {
            table.scrape_answered(RankId(place), T0);
            twin.hear(Heard {
                rank: usize::from(place),
                event: Event::Page,
                attempt: Attempt { picked_ms: T0, ended_ms: T0 },
                now_ms: T0,
            });
        }
        let mut now_ms = T0 + 10_000;
        for (place, event, step, took, late, is_late) in events {
            now_ms += step;
            let ended_ms = now_ms - if is_late { late } else { 0 };
            let attempt = Attempt { picked_ms: ended_ms - took, ended_ms };
            twin.hear(Heard { rank: place, event, attempt, now_ms });
            let rank = RankId(u16::try_from(place).unwrap());
            match event {
                Event::Fail(failure) => table.failed(rank, failure, attempt, now_ms) == Verdict::GoesOut,
                Event::Answer => table.answered(rank, attempt, now_ms),
                Event::Page => table.scrape_answered(rank, now_ms),
            };
            for (place, rank) in (0..).zip(&twin.ranks) {
                for ahead in [0, 1_000, 9_000] {
                    let given = table.standing(RankId(place), now_ms + ahead);
                    prop_assert_eq!(given, rank.standing(now_ms + ahead), "rank {}", place);
                }
            }
        }
    }
}
