//! Work that was sent to each rank and has not come back.

use crate::RankId;

/// What one request adds to a rank's load, from its pick to its end.
///
/// Not `Clone`: a charge is taken once and ends once.
#[derive(Debug, PartialEq, Eq)]
pub struct Charge {
    rank: RankId,
    queued_tokens: u64,
    held_tokens: u64,
}

impl Charge {
    /// The rank that carries the charge.
    #[must_use]
    pub fn rank(&self) -> RankId {
        self.rank
    }

    /// Tokens still counted as queued; 0 after the first byte.
    #[must_use]
    pub fn queued_tokens(&self) -> u64 {
        self.queued_tokens
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
}

impl RankLoad {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            queued_tokens: self.queued_tokens.saturating_add(other.queued_tokens),
            held_tokens: self.held_tokens.saturating_add(other.held_tokens),
            in_flight: self.in_flight.saturating_add(other.in_flight),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            queued_tokens: self.queued_tokens.saturating_sub(other.queued_tokens),
            held_tokens: self.held_tokens.saturating_sub(other.held_tokens),
            in_flight: self.in_flight.saturating_sub(other.in_flight),
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
        let added = RankLoad {
            queued_tokens,
            held_tokens,
            in_flight: 1,
        };
        if let Some(load) = self.own.get_mut(rank.index()) {
            *load = load.plus(added);
        }
        Charge {
            rank,
            queued_tokens,
            held_tokens,
        }
    }

    /// Ends the queued part of a charge and gives how many tokens that were; later calls give 0.
    pub fn first_byte(&mut self, charge: &mut Charge) -> u64 {
        let queued_tokens = std::mem::take(&mut charge.queued_tokens);
        self.take_off(
            charge.rank,
            RankLoad {
                queued_tokens,
                ..RankLoad::default()
            },
        );
        queued_tokens
    }

    /// Ends a charge whole and gives how many tokens were still queued.
    pub fn end(&mut self, charge: Charge) -> u64 {
        let Charge {
            rank,
            queued_tokens,
            held_tokens,
        } = charge;
        let ended = RankLoad {
            queued_tokens,
            held_tokens,
            in_flight: 1,
        };
        self.take_off(rank, ended);
        queued_tokens
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
            };
            loads.set_others(rank, load);
            assert_eq!(of(&loads, rank), expected);
            assert_eq!(loads.own(rank).queued_tokens, 70);
        }
        loads.end(charge);
        assert_eq!(of(&loads, rank), (0, 0));
    }
}
