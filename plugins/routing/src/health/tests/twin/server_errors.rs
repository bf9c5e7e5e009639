//! Which failures of requests put a rank out, and whether a row of server errors is its own.

use super::*;

impl Twin {
    pub(super) fn request_failed(&mut self, failure: Failure, heard: Heard) -> bool {
        let row = self.ranks[heard.rank].request_failed(failure, heard, self.log.len());
        let Some(length) = row else { return false };
        let rank = &self.ranks[heard.rank];
        let others = rank.row.iter().filter(|(f, _)| *f != Failure::ServerError);
        let points: u64 = others
            .map(|(failure, _)| match failure {
                Failure::Connect => 4,
                Failure::NoFirstByte => 6,
                _ => 2,
            })
            .sum();
        let is_plain =
            failure != Failure::ServerError && rank.standing(heard.now_ms) != Standing::In;
        if points < 6 && !is_plain && !self.is_ranks_own(heard, length) {
            self.pardon(heard, length);
            return false;
        }
        let cause = if rank.has_connect() {
            Failure::Connect
        } else {
            failure
        };
        self.ranks[heard.rank].go_out(heard.rank, Some(cause), heard.attempt.ended_ms);
        true
    }

    fn pardon(&mut self, heard: Heard, length: usize) {
        let is_explained = self.is_explained(heard.rank, length);
        let rank = &mut self.ranks[heard.rank];
        let away = rank.away.as_ref();
        let went_for_errors = away.is_some_and(|away| away.cause == Some(Failure::ServerError));
        if is_explained && went_for_errors {
            rank.away = None;
            rank.in_since_ms = heard.attempt.ended_ms;
            rank.row.clear();
        }
    }

    fn is_explained(&self, rank: usize, length: usize) -> bool {
        let since = &self.log[self.ranks[rank].row_from..];
        let excused: usize = since.iter().map(|answer| answer.excused).sum();
        length <= 4 * excused
    }

    fn is_ranks_own(&self, heard: Heard, length: usize) -> bool {
        let rank = &self.ranks[heard.rank];
        let others = || {
            (0..4)
                .filter(|other| *other != heard.rank)
                .map(|other| &self.ranks[other])
        };
        let is_alone = if rank.standing(heard.now_ms) == Standing::In {
            !others().any(|other| other.is_failing(heard.now_ms))
        } else {
            let went_ms = rank.last_went_ms.unwrap();
            let mut answers = others().flat_map(|other| &other.answers);
            answers.any(|answer| answer.ended_ms > went_ms)
        };
        let is_long =
            length >= 2 * self.longest(heard.now_ms) && !self.is_explained(heard.rank, length);
        (is_alone && is_long) || self.is_silent(heard.rank, length)
    }

    fn longest(&self, now_ms: u64) -> usize {
        let faded = |(length, at_ms): (usize, u64), now_ms: u64| {
            let halvings = (now_ms - at_ms) / 60_000;
            (0..halvings).fold(length, |length, _| length / 2)
        };
        let keep = |kept: (usize, u64), new: &Answered| {
            let is_kept = new.excused == 0 || faded(kept, new.now_ms) > new.excused;
            if is_kept {
                kept
            } else {
                (new.excused, new.now_ms)
            }
        };
        faded(self.log.iter().fold((0, T0), keep), now_ms)
    }

    fn is_silent(&self, rank: usize, length: usize) -> bool {
        let since = &self.log[self.ranks[rank].row_from..];
        let given = since.iter().filter(|answer| answer.rank != rank).count();
        let mut gap = 3;
        if self.is_explained(rank, length) {
            let gaps: Vec<usize> = self
                .log
                .split(|answer| answer.rank == rank)
                .map(<[_]>::len)
                .collect();
            let [first, rest @ .., _] = &gaps[..] else {
                return false;
            };
            let usual = rest
                .iter()
                .fold(first * 8, |usual, gap| usual - usual / 8 + gap);
            gap = gap.max(usual / 8);
        }
        given >= 7 * gap
    }
}
