//! Ways to take one rank out of equals.

/// The ranks whose score is the highest, lowest number first. Empty without ranks.
pub(super) fn best(scores: &[f64]) -> Vec<usize> {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let is_best = |&rank: &usize| scores[rank] == highest;
    (0..scores.len()).filter(is_best).collect()
}

/// One of `ranks` at random; 0 when there is none.
pub(super) fn any(ranks: &[usize], dice: &mut fastrand::Rng) -> usize {
    dice.choice(ranks).copied().unwrap_or(0)
}

/// The first rank of the least load; 0 when there is none.
pub(super) fn first_least(loads: &[u64]) -> usize {
    (0..loads.len())
        .min_by_key(|&rank| loads[rank])
        .unwrap_or(0)
}

/// The ranks of the least load.
pub(super) fn least(loads: &[u64]) -> Vec<usize> {
    let lowest = loads.iter().min();
    (0..loads.len())
        .filter(|&rank| Some(&loads[rank]) == lowest)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_all_that_share_the_highest_score() {
        assert_eq!(best(&[1.0, 3.0, 2.0, 3.0]), [1, 3]);
        assert_eq!(best(&[]), [] as [usize; 0]);
    }

    #[test]
    fn the_first_of_the_least_loaded_is_taken() {
        assert_eq!(first_least(&[4, 2, 2, 9]), 1);
        assert_eq!(least(&[4, 2, 2, 9]), [1, 2]);
        assert_eq!(first_least(&[]), 0);
    }

    #[test]
    fn every_equal_comes_up() {
        let mut dice = fastrand::Rng::with_seed(1);
        let mut seen: Vec<usize> = (0..100).map(|_| any(&[2, 5, 7], &mut dice)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [2, 5, 7]);
        assert_eq!(any(&[], &mut dice), 0);
    }
}
