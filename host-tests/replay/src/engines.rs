//! All ranks of a run, and their true state.

use std::collections::VecDeque;

use crate::engine::{Group, Rank, Sequence, Served, first_token_ms};
use crate::policy::{Arrival, RankReport, Truth};
use crate::profile::Profile;

/// Ranks in their groups, and the requests on their way to each.
#[derive(Debug)]
pub struct Engines {
    profile: Profile,
    groups: Vec<Group>,
    ranks: usize,
    per_group: usize,
    /// By rank, those that its front end still reads, with the times when they reach the queue, by time.
    joining: Vec<VecDeque<(f64, Sequence)>>,
    now_ms: f64,
}

impl Engines {
    /// Idle ranks with cold caches.
    #[must_use]
    pub fn new(profile: Profile, ranks: usize) -> Self {
        let per_group = profile.lockstep_ranks.clamp(1, ranks.max(1));
        let group = |first: usize| {
            let count = per_group.min(ranks - first);
            Group::new((0..count).map(|_| Rank::new(profile)).collect())
        };
        Self {
            profile,
            groups: (0..ranks).step_by(per_group).map(group).collect(),
            ranks,
            per_group,
            joining: vec![VecDeque::new(); ranks],
            now_ms: 0.0,
        }
    }

    /// How many ranks there are.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// The group of a rank.
    #[must_use]
    pub fn group_of(&self, rank: usize) -> usize {
        rank / self.per_group
    }

    /// A rank.
    #[must_use]
    pub fn rank(&self, rank: usize) -> &Rank {
        self.groups[self.group_of(rank)].rank(rank % self.per_group)
    }

    /// The ranks of a group.
    pub fn ranks_of(&self, group: usize) -> std::ops::Range<usize> {
        let first = group * self.per_group;
        first..(first + self.per_group).min(self.ranks)
    }

    /// Requests on their way to a rank, before or behind its front end.
    pub fn joining(&self, rank: usize) -> impl Iterator<Item = &Sequence> {
        self.joining[rank].iter().map(|(_, sequence)| sequence)
    }

    /// When the steps under way of a group end.
    #[must_use]
    pub fn ends_ms(&self, group: usize) -> Option<f64> {
        self.groups[group].ends_ms()
    }

    /// It is this late.
    pub fn set_time(&mut self, now_ms: f64) {
        self.now_ms = now_ms;
    }

    /// A request is sent to a rank; gives when it will reach the queue.
    pub fn send(&mut self, rank: usize, sequence: Sequence) -> f64 {
        self.send_with(rank, sequence, 0.0)
    }

    /// As [`send`](Self::send), where keys and values must be received for so long before the request reaches the queue.
    pub fn send_with(&mut self, rank: usize, sequence: Sequence, transfer_ms: f64) -> f64 {
        let frontend_ms = self.profile.frontend_ms(sequence.prompt_tokens);
        let joins_ms = self.now_ms + frontend_ms + transfer_ms;
        let joining = &mut self.joining[rank];
        let place = joining.partition_point(|(time_ms, _)| *time_ms <= joins_ms);
        joining.insert(place, (joins_ms, sequence));
        joins_ms
    }

    /// The next request on its way to a rank reaches its queue; the group's steps may end earlier now.
    pub fn join(&mut self, rank: usize) {
        let group = self.group_of(rank);
        if let Some((_, sequence)) = self.joining[rank].pop_front() {
            self.groups[group].add(rank % self.per_group, sequence, self.now_ms);
        }
    }

    /// The steps under way of a group end.
    pub fn end_steps(&mut self, group: usize, served: &mut Vec<Served>) {
        self.groups[group].end_steps(served);
    }

    /// The cache of a rank loses all that no sequence uses.
    pub fn lose_cache(&mut self, rank: usize) {
        let group = self.group_of(rank);
        self.groups[group].lose_cache(rank % self.per_group);
    }

    /// The pages of all ranks, as of the last step that ended.
    #[must_use]
    pub fn pages(&self) -> Vec<RankReport> {
        let page = |rank: usize| {
            let rank = self.rank(rank);
            RankReport {
                running: u32::try_from(rank.running()).unwrap_or(u32::MAX),
                waiting: u32::try_from(rank.waiting()).unwrap_or(u32::MAX),
                kv_usage: rank.cache().usage(),
                taken_ms: self.now_ms,
            }
        };
        (0..self.ranks).map(page).collect()
    }
}

impl Truth for Engines {
    /// The rank's own scheduler on a copy. In a lockstep group the other ranks count with the step that they do now.
    fn first_token_ms(&self, rank: usize, arrival: &Arrival) -> f64 {
        let group = self.groups[self.group_of(rank)].alone(rank % self.per_group);
        let joins_ms = self.now_ms + self.profile.frontend_ms(arrival.prompt_tokens);
        let blocks = arrival.blocks.clone();
        let sequence = Sequence::new(arrival.number, blocks, arrival.prompt_tokens, 1);
        let pending = self.joining[rank].iter().cloned();
        first_token_ms(group, pending, joins_ms, sequence)
    }

    fn cached_tokens(&self, rank: usize, arrival: &Arrival) -> u64 {
        let matched = self.rank(rank).cache().matched(&arrival.blocks);
        matched as u64 * crate::engine::BLOCK_TOKENS
    }
}
