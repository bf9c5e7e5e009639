//! Work that was sent to each rank and has not come back.
//!
//! A rank begins with a request when it has all of its body. Until then the request is *incomplete*: it is counted, and weighs
//! nothing, whatever its client announces.

use crate::RankId;

/// What one request adds to a rank's load, from its pick to its end.
///
/// Not `Clone`: a charge is taken once and ends once.
#[derive(Debug, PartialEq, Eq)]
pub struct Charge {
    rank: RankId,
    queued_tokens: u64,
    held_tokens: u64,
    /// What the request will weigh when its body has ended; `None` once it has.
    incomplete: Option<Weight>,
    /// Whether its first byte has come: then nothing is queued any more, even if its body ends later.
    is_answered: bool,
}

/// What a request weighs on a rank, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    queued_tokens: u64,
    held_tokens: u64,
}

impl Charge {
    /// The rank that carries the charge.
    #[must_use]
    pub fn rank(&self) -> RankId {
        self.rank
    }

    /// Tokens still counted as queued; 0 after the first byte, and while the body is incomplete.
    #[must_use]
    pub fn queued_tokens(&self) -> u64 {
        self.queued_tokens
    }

    /// Whether the body of the request has not ended yet.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.incomplete.is_some()
    }

    fn load(&self) -> RankLoad {
        RankLoad {
            queued_tokens: self.queued_tokens,
            held_tokens: self.held_tokens,
            in_flight: 1,
            incomplete: u32::from(self.is_incomplete()),
        }
    }
}

/// Work on one rank that has not come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankLoad {
    /// Tokens whose first response byte has not come yet.
    pub queued_tokens: u64,
    /// Tokens of the prompts whose stream has not ended.
    pub held_tokens: u64,
    /// Requests whose stream has not ended.
    pub in_flight: u32,
    /// Those of them whose body has not ended: the rank cannot work on them.
    pub incomplete: u32,
}

impl RankLoad {
    /// Requests that the rank can work on.
    #[must_use]
    pub fn complete(self) -> u32 {
        self.in_flight.saturating_sub(self.incomplete)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            queued_tokens: self.queued_tokens.saturating_add(other.queued_tokens),
            held_tokens: self.held_tokens.saturating_add(other.held_tokens),
            in_flight: self.in_flight.saturating_add(other.in_flight),
            incomplete: self.incomplete.saturating_add(other.incomplete),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            queued_tokens: self.queued_tokens.saturating_sub(other.queued_tokens),
            held_tokens: self.held_tokens.saturating_sub(other.held_tokens),
            in_flight: self.in_flight.saturating_sub(other.in_flight),
            incomplete: self.incomplete.saturating_sub(other.incomplete),
        }
    }
}

/// Queued tokens and requests in flight of every rank of a pool, of this worker and of the others.
///
/// Counted at the pick, not at the response, so that a burst spreads. Queued tokens end with the first byte of
/// the response, when prefill is over; a request in flight ends with its stream. Constant cost each.
#[derive(Debug, Default)]
pub struct LoadTable {
    own: Vec<RankLoad>,
    others: Vec<RankLoad>,
}

impl LoadTable {
    /// Makes room for ranks up to `count`.
    pub fn grow(&mut self, count: usize) {
        let count = self.own.len().max(count);
        self.own.resize(count, RankLoad::default());
        self.others.resize(count, RankLoad::default());
    }

    /// Counts a request with a prompt of `held_tokens`, of which `queued_tokens` are left to prefill on `rank`.
    pub fn charge(&mut self, rank: RankId, queued_tokens: u64, held_tokens: u64) -> Charge {
        let charge = Charge {
            rank,
            queued_tokens,
            held_tokens,
            incomplete: None,
            is_answered: false,
        };
        self.add(rank, charge.load());
        charge
    }

    /// The body of the request has not ended: from now on it only counts as in flight, until [`complete`](Self::complete).
    pub fn suspend(&mut self, charge: &mut Charge) {
        if charge.is_incomplete() {
            return;
        }
        self.change(charge, |charge| {
            charge.incomplete = Some(Weight {
                queued_tokens: std::mem::take(&mut charge.queued_tokens),
                held_tokens: std::mem::take(&mut charge.held_tokens),
            });
        });
    }

    /// The body of the request has ended; its prompt has `held_tokens`. It weighs what it would have weighed before, and `prefills`
    /// says whether the tokens that came since the pick are to be prefilled on this rank, too. True when that is news.
    pub fn complete(&mut self, charge: &mut Charge, held_tokens: u64, prefills: bool) -> bool {
        let Some(weight) = charge.incomplete else {
            return false;
        };
        let more_tokens = held_tokens.saturating_sub(weight.held_tokens);
        let more_queued = if prefills { more_tokens } else { 0 };
        self.change(charge, |charge| {
            charge.incomplete = None;
            charge.held_tokens = weight.held_tokens.saturating_add(more_tokens);
            if !charge.is_answered {
                charge.queued_tokens = weight.queued_tokens.saturating_add(more_queued);
            }
        });
        true
    }

    /// Ends the queued part of a charge and gives how many tokens that were; later calls give 0.
    pub fn first_byte(&mut self, charge: &mut Charge) -> u64 {
        let queued_tokens = charge.queued_tokens;
        self.change(charge, |charge| charge.queued_tokens = 0);
        charge.is_answered = true;
        queued_tokens
    }

    /// Ends a charge whole and gives how many tokens were still queued.
    pub fn end(&mut self, charge: Charge) -> u64 {
        self.take_off(charge.rank, charge.load());
        charge.queued_tokens
    }

    /// What this worker has on `rank`.
    #[must_use]
    pub fn own(&self, rank: RankId) -> RankLoad {
        self.own.get(rank.index()).copied().unwrap_or_default()
    }

    /// What all workers have on `rank`.
    #[must_use]
    pub fn total(&self, rank: RankId) -> RankLoad {
        let others = self.others.get(rank.index()).copied();
        self.own(rank).plus(others.unwrap_or_default())
    }

    /// What the other workers have on `rank` from now on.
    pub fn set_others(&mut self, rank: RankId, load: RankLoad) {
        if let Some(others) = self.others.get_mut(rank.index()) {
            *others = load;
        }
    }

    fn change(&mut self, charge: &mut Charge, change: impl FnOnce(&mut Charge)) {
        self.take_off(charge.rank, charge.load());
        change(charge);
        self.add(charge.rank, charge.load());
    }

    fn add(&mut self, rank: RankId, added: RankLoad) {
        if let Some(load) = self.own.get_mut(rank.index()) {
            *load = load.plus(added);
        }
    }

    fn take_off(&mut self, rank: RankId, ended: RankLoad) {
        if let Some(load) = self.own.get_mut(rank.index()) {
            *load = load.minus(ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each request of these tests has a prompt of 1,000 tokens.
    fn of(loads: &LoadTable, rank: RankId) -> (u64, u32) {
        let load = loads.total(rank);
        assert_eq!(load.held_tokens, 1000 * u64::from(load.in_flight));
        (load.queued_tokens, load.in_flight)
    }

    #[test]
    fn a_charge_counts_until_its_first_byte_and_its_end() {
        let mut loads = LoadTable::default();
        loads.grow(2);
        let rank = RankId(1);
        let mut first = loads.charge(rank, 700, 1000);
        let second = loads.charge(rank, 50, 1000);
        assert_eq!(of(&loads, rank), (750, 2));
        assert_eq!(loads.first_byte(&mut first), 700);
        assert_eq!(loads.first_byte(&mut first), 0);
        assert_eq!(of(&loads, rank), (50, 2));
        assert_eq!((loads.end(first), loads.end(second)), (0, 50));
        assert_eq!(of(&loads, rank), (0, 0));
        assert_eq!(of(&loads, RankId(0)).1, 0);
    }

    #[test]
    fn a_stream_that_ends_before_its_first_byte_frees_both_counts() {
        let mut loads = LoadTable::default();
        loads.grow(1);
        let charge = loads.charge(RankId(0), 70, 1000);
        assert_eq!((charge.rank(), charge.queued_tokens()), (RankId(0), 70));
        assert_eq!(loads.end(charge), 70);
        assert_eq!(of(&loads, RankId(0)), (0, 0));
    }

    #[test]
    fn growing_keeps_the_load_and_never_shrinks() {
        let mut loads = LoadTable::default();
        loads.grow(2);
        let charge = loads.charge(RankId(1), 5, 1000);
        loads.grow(9);
        loads.grow(1);
        assert_eq!(of(&loads, RankId(1)), (5, 1));
        loads.end(charge);
        assert_eq!(of(&loads, RankId(1)), (0, 0));
    }

    #[test]
    fn counts_stop_at_their_limits() {
        let mut loads = LoadTable::default();
        loads.grow(1);
        let (first, second) = (
            loads.charge(RankId(0), u64::MAX, 1000),
            loads.charge(RankId(0), 5, 1000),
        );
        assert_eq!(of(&loads, RankId(0)).0, u64::MAX);
        loads.end(first);
        loads.end(second);
        assert_eq!(of(&loads, RankId(0)), (0, 0));
    }

    #[test]
    fn an_unknown_rank_carries_nothing() {
        let mut loads = LoadTable::default();
        loads.grow(3);
        let charge = loads.charge(RankId(3), 10, 1000);
        assert_eq!(of(&loads, RankId(3)), (0, 0));
        assert_eq!(loads.end(charge), 10);
        assert_eq!(of(&loads, RankId(3)), (0, 0));
    }

    #[test]
    fn a_request_weighs_nothing_until_its_body_has_ended_and_then_what_was_read() {
        let mut loads = LoadTable::default();
        loads.grow(1);
        let rank = RankId(0);
        let mut charge = loads.charge(rank, 700, 1000);
        loads.suspend(&mut charge);
        loads.suspend(&mut charge);
        let load = loads.total(rank);
        assert_eq!(
            (
                load.queued_tokens,
                load.held_tokens,
                load.in_flight,
                load.complete()
            ),
            (0, 0, 1, 0)
        );
        assert!(loads.complete(&mut charge, 1500, true));
        assert!(!loads.complete(&mut charge, 9000, true), "bodies end once");
        let load = loads.total(rank);
        assert_eq!(
            (
                load.queued_tokens,
                load.held_tokens,
                load.in_flight,
                load.complete()
            ),
            (1200, 1500, 1, 1)
        );
        loads.end(charge);
        assert_eq!(loads.total(rank), RankLoad::default());
    }

    #[test]
    fn an_answer_before_the_end_of_the_body_leaves_nothing_queued() {
        let mut loads = LoadTable::default();
        loads.grow(1);
        let mut charge = loads.charge(RankId(0), 700, 1000);
        loads.suspend(&mut charge);
        loads.first_byte(&mut charge);
        loads.complete(&mut charge, 1000, true);
        let load = loads.total(RankId(0));
        assert_eq!((load.queued_tokens, load.held_tokens), (0, 1000));
        let mut decodes = loads.charge(RankId(0), 0, 1000);
        loads.suspend(&mut decodes);
        loads.complete(&mut decodes, 3000, false);
        assert_eq!(decodes.queued_tokens(), 0, "another rank prefills");
        loads.end(charge);
        loads.end(decodes);
        assert_eq!(loads.total(RankId(0)), RankLoad::default());
    }

    #[test]
    fn what_others_have_counts_beside_ones_own_until_it_is_said_anew() {
        let mut loads = LoadTable::default();
        loads.grow(2);
        let rank = RankId(1);
        let charge = loads.charge(rank, 70, 1000);
        for (others, expected) in [((500, 3), (570, 4)), ((0, 1), (70, 2)), ((0, 0), (70, 1))] {
            let load = RankLoad {
                queued_tokens: others.0,
                held_tokens: 1000 * u64::from(others.1),
                in_flight: others.1,
                incomplete: 0,
            };
            loads.set_others(rank, load);
            assert_eq!(of(&loads, rank), expected);
            assert_eq!(loads.own(rank).queued_tokens, 70);
        }
        loads.end(charge);
        assert_eq!(of(&loads, rank), (0, 0));
    }
}
