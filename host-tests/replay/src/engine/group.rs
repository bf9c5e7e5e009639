//! Ranks that begin and end each step together: one where ranks are free, those of a group under wide expert parallelism,
//! whose all-to-all exchange holds all of them until the slowest is through. Ranks without work run dummy batches.

use super::{Plan, Rank, Sequence, Served};

/// Steps of one kind that are planned at once: enough to make planning cheap, few enough to let a list of their ends be
/// short.
const MAX_REPEATS: u64 = 64;

/// Steps under way.
#[derive(Clone, Debug, Default)]
struct Span {
    begin_ms: f64,
    /// When each step ends.
    ends_ms: Vec<f64>,
}

/// Ranks in lockstep.
#[derive(Clone, Debug)]
pub struct Group {
    ranks: Vec<Rank>,
    span: Option<Span>,
    plans: Vec<Plan>,
    /// Least time of a step with work: what ranks that were left out of a look ahead need.
    floor_ms: f64,
}

impl Group {
    /// A group of idle ranks.
    #[must_use]
    pub fn new(ranks: Vec<Rank>) -> Self {
        Self {
            plans: vec![Plan::default(); ranks.len()],
            ranks,
            span: None,
            floor_ms: 0.0,
        }
    }

    /// A rank of it by its place.
    #[must_use]
    pub fn rank(&self, place: usize) -> &Rank {
        &self.ranks[place]
    }

    /// The cache of a rank loses all that no sequence uses.
    pub fn lose_cache(&mut self, place: usize) {
        self.ranks[place].lose_cache();
    }

    /// When the steps under way end; `None` while all ranks are idle.
    #[must_use]
    pub fn ends_ms(&self) -> Option<f64> {
        self.span.as_ref()?.ends_ms.last().copied()
    }

    /// A request reaches a rank. It is looked at when the step under way ends.
    pub fn add(&mut self, place: usize, sequence: Sequence, now_ms: f64) {
        let rank = &mut self.ranks[place];
        // Behind one that finds no room, it finds none before a sequence ends, and there the steps under way end anyway.
        let changes_nothing = rank.waiting() > 0;
        rank.add(sequence);
        match &mut self.span {
            None => self.begin(now_ms),
            Some(_) if changes_nothing => {}
            Some(span) => span.cut(now_ms),
        }
    }

    /// Ends the steps under way, at the time when they end, and begins the next.
    pub fn end_steps(&mut self, served: &mut Vec<Served>) {
        let Some(span) = self.span.take() else {
            return;
        };
        let now_ms = span.ends_ms.last().copied().unwrap_or(span.begin_ms);
        for rank in &mut self.ranks {
            rank.finish(span.ends_ms.len() as u64, served);
        }
        self.begin_reusing(now_ms, span);
    }

    /// This rank without the others of its group, of which only the time of their step stays.
    #[must_use]
    pub fn alone(&self, place: usize) -> Self {
        let others = (0..self.ranks.len()).filter(|other| *other != place);
        let floors = others.map(|other| self.ranks[other].step_ms(&self.plans[other], 0));
        Self {
            ranks: vec![self.ranks[place].clone()],
            span: self.span.clone(),
            plans: vec![self.plans[place]],
            floor_ms: floors.fold(0.0, f64::max),
        }
    }

    fn begin(&mut self, now_ms: f64) {
        self.begin_reusing(now_ms, Span::default());
    }

    fn begin_reusing(&mut self, now_ms: f64, mut span: Span) {
        for (rank, plan) in self.ranks.iter_mut().zip(&mut self.plans) {
            *plan = rank.plan();
        }
        let repeats = self.plans.iter().map(|plan| plan.repeats);
        let Some(repeats) = repeats.filter(|repeats| *repeats > 0).min() else {
            return;
        };
        span.begin_ms = now_ms;
        span.ends_ms.clear();
        let mut end_ms = now_ms;
        for repeat in 0..repeats.min(MAX_REPEATS) {
            end_ms += self.step_ms(repeat);
            span.ends_ms.push(end_ms);
        }
        self.span = Some(span);
    }

    fn step_ms(&self, repeat: u64) -> f64 {
        let steps = self.ranks.iter().zip(&self.plans);
        steps
            .map(|(rank, plan)| rank.step_ms(plan, repeat))
            .fold(self.floor_ms, f64::max)
    }
}

impl Span {
    /// Leaves out the steps that have not begun.
    fn cut(&mut self, now_ms: f64) {
        let ended = self.ends_ms.partition_point(|end_ms| *end_ms <= now_ms);
        self.ends_ms.truncate(ended.saturating_add(1).max(1));
    }
}

#[cfg(test)]
mod tests;
