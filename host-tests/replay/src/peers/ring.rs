//! A ring of hashes that ranks share by many points each.

/// Ranks on a ring: a key belongs to the rank of the first point at or after it.
///
/// Points depend on rank numbers alone, so that all routers have the same ring.
pub(super) struct Ring {
    points: Vec<(u64, usize)>,
}

impl Ring {
    /// Gives each rank `points_per_rank` points.
    pub(super) fn new(ranks: usize, points_per_rank: u64) -> Self {
        let point = |rank: usize, number| (mix(rank as u64, number), rank);
        let mut points: Vec<_> = (0..ranks)
            .flat_map(|rank| (0..points_per_rank).map(move |number| point(rank, number)))
            .collect();
        points.sort_unstable();
        Self { points }
    }

    /// The ranks of all points from a key on, once around: a rank comes up as often as it has points.
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let first = self.points.partition_point(|&(hash, _)| hash < key);
        self.points[first..]
            .iter()
            .chain(&self.points[..first])
            .map(|&(_, rank)| rank)
    }
}

/// One hash of two numbers: two rounds of SplitMix64's finalizer. Which hash it is does not matter, only that it spreads.
pub(super) fn mix(left: u64, right: u64) -> u64 {
    finalize(finalize(left) ^ right)
}

fn finalize(number: u64) -> u64 {
    let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_the_next_point_and_around_the_end() {
        let ring = Ring {
            points: vec![(10, 0), (20, 1), (30, 2)],
        };
        let ranks = |key| ring.from(key).collect::<Vec<_>>();
        assert_eq!(ranks(20), [1, 2, 0]);
        assert_eq!(ranks(21), [2, 0, 1]);
        assert_eq!(ranks(31), [0, 1, 2]);
    }

    #[test]
    fn a_new_rank_takes_keys_and_moves_no_other() {
        let (few, more) = (Ring::new(4, 160), Ring::new(5, 160));
        let owner = |ring: &Ring, key| ring.from(mix(key, 99)).next().unwrap();
        let moved: Vec<u64> = (0..1000)
            .filter(|&key| owner(&few, key) != owner(&more, key))
            .collect();
        assert!(moved.iter().all(|&key| owner(&more, key) == 4));
        assert!(
            (100..300).contains(&moved.len()),
            "{} of 1000 moved, about 200 should",
            moved.len()
        );
    }

    #[test]
    fn an_empty_ring_has_no_ranks() {
        assert_eq!(Ring::new(0, 160).from(1).count(), 0);
    }
}
