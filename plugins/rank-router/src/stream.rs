//! A request, from its pick to its end.

use std::net::SocketAddr;

use crate::worker::ModelPools;
use routing::{Attempt, Charge, Expected, Insertion, Prompt, RankId};

/// What a worker keeps of a request that a picker saw.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) pool: u64,
    pub(crate) charge: Option<Charge>,
    /// What was read of the prompt, until the answer has told which rank has it now and how much of it was cached there.
    pub(crate) prompt: Option<Box<Prompt>>,
    /// What the answer is expected to say of the rank's cache.
    pub(crate) expected: Option<Expected>,
    /// What the prompt changed in the index, until an answer shows that its rank has taken it in.
    pub(crate) insertion: Option<Insertion>,
    /// The prefill on another rank; boxed, because most pools have none.
    pub(crate) leg: Option<Box<StreamLeg>>,
    /// Where the model decides on the pool: among which, until it has.
    pub(crate) model_pools: Option<Box<ModelPools>>,
    /// The ranks that were named, best first.
    pub(crate) named: Vec<SocketAddr>,
    pub(crate) picked_ms: u64,
    /// When its body had ended, so that its rank can work on it.
    pub(crate) complete_ms: Option<u64>,
    /// Whether that was after the pick.
    pub(crate) is_early: bool,
    /// When the answer's first byte is expected.
    pub(crate) expected_ms: u64,
    pub(crate) is_streamed: bool,
    /// Whether a pick that steers nothing was compared with where the request went.
    pub(crate) is_compared: bool,
    pub(crate) answer: Answer,
    /// Whether it has waited so long that its rank was found to hang: that is said once.
    pub(crate) is_given_up: bool,
}

/// The prefill of a request on another rank.
#[derive(Debug)]
pub(crate) struct StreamLeg {
    pub(crate) rank: RankId,
    /// Until the headers of the answer are here.
    pub(crate) charge: Option<Charge>,
    /// The ranks that were named to prefill, for each attempt one.
    pub(crate) named: Vec<SocketAddr>,
    /// What the prompt changed in the index, until an answer shows that the rank has taken it in.
    pub(crate) insertion: Option<Insertion>,
}

/// How far the answer to a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing has come.
    None,
    /// Headers that say nothing against the rank.
    Good,
    /// Headers that count against it, or an answer of Envoy's own.
    Bad,
}

impl Stream {
    /// A request that waits for its pick.
    pub(crate) fn held(pool: u64) -> Self {
        Self {
            pool,
            charge: None,
            prompt: None,
            expected: None,
            insertion: None,
            leg: None,
            model_pools: None,
            named: Vec::new(),
            picked_ms: 0,
            complete_ms: None,
            is_early: false,
            expected_ms: 0,
            is_streamed: false,
            is_compared: false,
            answer: Answer::None,
            is_given_up: false,
        }
    }

    /// The rank that the request counts on.
    pub(crate) fn rank(&self) -> Option<RankId> {
        self.charge.as_ref().map(Charge::rank)
    }

    /// The ranks that hold the prompt: the one that answers, and the one that prefills for it.
    pub(crate) fn ranks(&self) -> Vec<RankId> {
        let leg = self.leg.as_ref().map(|leg| leg.rank);
        self.rank().into_iter().chain(leg).collect()
    }

    /// What the prompt changed in the index on one of its ranks, while that can be taken back.
    pub(crate) fn insertion_on(&mut self, rank: RankId) -> Option<&mut Insertion> {
        if self.rank() == Some(rank) {
            return self.insertion.as_mut();
        }
        let leg = self.leg.as_mut().filter(|leg| leg.rank == rank);
        leg.and_then(|leg| leg.insertion.as_mut())
    }

    /// Whether prefill is still counted for it.
    fn is_queued(&self) -> bool {
        let leg = self.leg.as_ref().and_then(|leg| leg.charge.as_ref());
        let charges = self.charge.iter().chain(leg);
        charges.into_iter().any(|charge| charge.queued_tokens() > 0)
    }

    /// The attempt that ends now.
    pub(crate) fn attempt(&self, now_ms: u64) -> Attempt {
        Attempt {
            picked_ms: self.picked_ms,
            ended_ms: now_ms,
        }
    }

    /// Since when its first byte is awaited, where it comes when the prompt is prefilled: since its rank has all of the request.
    pub(crate) fn awaited_since_ms(&self) -> Option<u64> {
        let is_awaited = self.is_streamed && !self.is_given_up && self.is_queued();
        self.complete_ms.filter(|_| is_awaited)
    }

    /// Whether its rank has all of it. Before that nothing that happens to it is evidence for or against a rank.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete_ms.is_some()
    }

    /// Whether the wait for its first byte tells how long prefills take.
    pub(crate) fn tells_wait(&self) -> bool {
        self.is_streamed && !self.is_early
    }

    /// Whether its rank has probably prefilled the prompt although nothing was answered: it has had all of it for as long as that
    /// was expected to take.
    pub(crate) fn is_probably_prefilled(&self, now_ms: u64) -> bool {
        self.complete_ms
            .is_some_and(|complete_ms| now_ms.saturating_sub(complete_ms) >= self.expected_ms)
    }

    /// The ranks of which it is not certain that they have taken the prompt in, with what it changed in the index.
    pub(crate) fn take_insertions(&mut self) -> Vec<(RankId, Insertion)> {
        let own = self.rank().zip(self.insertion.take());
        let leg = self.leg.as_mut();
        let of_leg = leg.and_then(|leg| Some((leg.rank, leg.insertion.take()?)));
        own.into_iter().chain(of_leg).collect()
    }
}
