//! Work that was sent to each rank and has not come back.

use crate::RankId;

/// What one request adds to a rank's load, from its pick to its end.
///
/// Not `Clone`: a charge is taken once and ends once.
#[derive(Debug, PartialEq, Eq)]
pub struct Charge {
    rank: RankId,
    queued_tokens: u64,
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

#[derive(Clone, Copy, Debug, Default)]
struct RankLoad {
    queued_tokens: u64,
    in_flight: u32,
}

/// Queued tokens and requests in flight of every rank of a pool.
///
/// Counted at the pick, not at the response, so that a burst spreads. Queued tokens end with the first byte of
/// the response, when prefill is over; a request in flight ends with its stream. Constant cost each.
#[derive(Debug, Default)]
pub struct LoadTable {
    loads: Vec<RankLoad>,
}

impl LoadTable {
    /// Makes room for ranks up to `count`.
    pub fn grow(&mut self, count: usize) {
        self.loads
            .resize(self.loads.len().max(count), RankLoad::default());
    }

    /// Counts a request with `queued_tokens` left to prefill on `rank`.
    pub fn charge(&mut self, rank: RankId, queued_tokens: u64) -> Charge {
        if let Some(load) = self.loads.get_mut(rank.index()) {
            load.queued_tokens = load.queued_tokens.saturating_add(queued_tokens);
            load.in_flight = load.in_flight.saturating_add(1);
        }
        Charge {
            rank,
            queued_tokens,
        }
    }

    /// Ends the queued part of a charge and gives how many tokens that were; later calls give 0.
    pub fn first_byte(&mut self, charge: &mut Charge) -> u64 {
        let tokens = std::mem::take(&mut charge.queued_tokens);
        if let Some(load) = self.loads.get_mut(charge.rank.index()) {
            load.queued_tokens = load.queued_tokens.saturating_sub(tokens);
        }
        tokens
    }

    /// Ends a charge whole and gives how many tokens were still queued.
    pub fn end(&mut self, mut charge: Charge) -> u64 {
        let tokens = self.first_byte(&mut charge);
        if let Some(load) = self.loads.get_mut(charge.rank.index()) {
            load.in_flight = load.in_flight.saturating_sub(1);
        }
        tokens
    }

    /// Tokens sent to `rank` whose first response byte has not come yet.
    #[must_use]
    pub fn queued_tokens(&self, rank: RankId) -> u64 {
        self.loads
            .get(rank.index())
            .map_or(0, |load| load.queued_tokens)
    }

    /// Requests on `rank` whose stream has not ended.
    #[must_use]
    pub fn in_flight(&self, rank: RankId) -> u32 {
        self.loads
            .get(rank.index())
            .map_or(0, |load| load.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_counts_until_its_first_byte_and_its_end() {
        let mut loads = LoadTable::default();
        loads.grow(2);
        let rank = RankId(1);
        let mut first = loads.charge(rank, 700);
        let second = loads.charge(rank, 50);
        assert_eq!((loads.queued_tokens(rank), loads.in_flight(rank)), (750, 2));
        assert_eq!(loads.first_byte(&mut first), 700);
        assert_eq!(loads.first_byte(&mut first), 0);
        assert_eq!((loads.queued_tokens(rank), loads.in_flight(rank)), (50, 2));
        assert_eq!((loads.end(first), loads.end(second)), (0, 50));
        assert_eq!((loads.queued_tokens(rank), loads.in_flight(rank)), (0, 0));
        assert_eq!(loads.in_flight(RankId(0)), 0);
    }

    #[test]
    fn a_stream_that_ends_before_its_first_byte_frees_both_counts() {
        let mut loads = LoadTable::default();
        loads.grow(1);
        let charge = loads.charge(RankId(0), 70);
        assert_eq!((charge.rank(), charge.queued_tokens()), (RankId(0), 70));
        assert_eq!(loads.end(charge), 70);
        assert_eq!(
            (loads.queued_tokens(RankId(0)), loads.in_flight(RankId(0))),
            (0, 0)
        );
    }

    #[test]
    fn growing_keeps_the_load_and_never_shrinks() {
        let mut loads = LoadTable::default();
        loads.grow(2);
        let charge = loads.charge(RankId(1), 5);
        loads.grow(9);
        loads.grow(1);
        assert_eq!(
            (loads.queued_tokens(RankId(1)), loads.in_flight(RankId(1))),
            (5, 1)
        );
        loads.end(charge);
        assert_eq!(
            (loads.queued_tokens(RankId(1)), loads.in_flight(RankId(1))),
            (0, 0)
        );
    }

    #[test]
    fn counts_stop_at_their_limits() {
        let mut loads = LoadTable::default();
        loads.grow(1);
        let (first, second) = (
            loads.charge(RankId(0), u64::MAX),
            loads.charge(RankId(0), 5),
        );
        assert_eq!(loads.queued_tokens(RankId(0)), u64::MAX);
        loads.end(first);
        loads.end(second);
        assert_eq!(
            (loads.queued_tokens(RankId(0)), loads.in_flight(RankId(0))),
            (0, 0)
        );
    }

    #[test]
    fn an_unknown_rank_carries_nothing() {
        let mut loads = LoadTable::default();
        loads.grow(3);
        let charge = loads.charge(RankId(3), 10);
        assert_eq!(
            (loads.queued_tokens(RankId(3)), loads.in_flight(RankId(3))),
            (0, 0)
        );
        assert_eq!(loads.end(charge), 10);
        assert_eq!(
            (loads.queued_tokens(RankId(3)), loads.in_flight(RankId(3))),
            (0, 0)
        );
    }
}
