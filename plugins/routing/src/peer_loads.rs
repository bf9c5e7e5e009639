//! What the other workers have on the ranks of a pool.

use hashbrown::HashMap;

use crate::RankLoad;

/// The last word of each slot on each rank, by the hash of the rank's address.
///
/// Kept for ranks that this worker does not know yet, too. Memory: one entry for each rank that a slot has work on.
/// Constant cost, but for [`clear`](Self::clear).
#[derive(Debug, Default)]
pub(crate) struct PeerLoads {
    by_rank: HashMap<u64, HashMap<u16, RankLoad>>,
}

impl PeerLoads {
    /// What a slot has on a rank from now on.
    pub(crate) fn set(&mut self, slot: u16, rank: u64, load: RankLoad) {
        if load != RankLoad::default() {
            self.by_rank.entry(rank).or_default().insert(slot, load);
        } else if let Some(slots) = self.by_rank.get_mut(&rank) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.by_rank.remove(&rank);
            }
        }
    }

    /// A slot has nothing more on any rank; gives the ranks that it had something on.
    pub(crate) fn clear(&mut self, slot: u16) -> Vec<u64> {
        let mut cleared = Vec::new();
        self.by_rank.retain(|rank, slots| {
            if slots.remove(&slot).is_some() {
                cleared.push(*rank);
            }
            !slots.is_empty()
        });
        cleared
    }

    /// What all slots have on a rank.
    pub(crate) fn of(&self, rank: u64) -> RankLoad {
        let slots = self.by_rank.get(&rank).into_iter().flatten();
        slots.fold(RankLoad::default(), |sum, (_, load)| sum.plus(*load))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(queued_tokens: u64, in_flight: u32) -> RankLoad {
        RankLoad {
            queued_tokens,
            held_tokens: 3 * queued_tokens,
            in_flight,
            incomplete: 0,
        }
    }

    #[test]
    fn the_last_word_of_each_slot_counts() {
        let mut loads = PeerLoads::default();
        loads.set(1, 7, load(100, 1));
        loads.set(2, 7, load(20, 2));
        loads.set(1, 7, load(50, 3));
        assert_eq!((loads.of(7), loads.of(8)), (load(70, 5), load(0, 0)));
        loads.set(2, 7, load(0, 0));
        assert_eq!(loads.of(7), load(50, 3));
    }

    #[test]
    fn a_slot_that_is_cleared_takes_its_loads_along_and_nothing_is_kept_for_idle_ranks() {
        let mut loads = PeerLoads::default();
        loads.set(1, 7, load(100, 1));
        loads.set(2, 7, load(20, 2));
        loads.set(1, 8, load(1, 1));
        let mut cleared = loads.clear(1);
        cleared.sort_unstable();
        assert_eq!(
            (cleared, loads.of(7), loads.of(8)),
            (vec![7, 8], load(20, 2), load(0, 0))
        );
        loads.set(2, 7, load(0, 0));
        loads.set(3, 9, load(0, 0));
        assert!(loads.by_rank.is_empty());
    }
}
