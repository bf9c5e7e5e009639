//! What a run showed: broken invariants, and figures.

use std::collections::BTreeMap;
use std::fmt;

/// Counts and peaks of one run or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    counts: BTreeMap<&'static str, u64>,
    peaks: BTreeMap<&'static str, u64>,
}

impl Figures {
    /// How often something happened.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// The most there ever was of something.
    #[must_use]
    pub fn peak(&self, what: &str) -> u64 {
        self.peaks.get(what).copied().unwrap_or(0)
    }

    /// Takes the figures of another run in.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            self.add(what, *count);
        }
        for (what, peak) in &other.peaks {
            self.raise(what, *peak);
        }
    }

    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_insert(0) += count;
    }

    pub(crate) fn raise(&mut self, what: &'static str, to: u64) {
        let peak = self.peaks.entry(what).or_insert(0);
        *peak = to.max(*peak);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{count:>12}  {what}")?;
        }
        for (what, peak) in &self.peaks {
            writeln!(f, "{peak:>12}  {what}, at most")?;
        }
        Ok(())
    }
}

/// The findings of one run.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) violations: Vec<String>,
    /// Invariants that are not judged, by the beginning of their name.
    pub(crate) except: &'static [String],
    pub(crate) figures: Figures,
}

impl Findings {
    /// An invariant is broken.
    pub(crate) fn violate(&mut self, invariant: &str, how: impl fmt::Display) {
        if !self.except.iter().any(|name| invariant.starts_with(name)) {
            self.violations.push(format!("{invariant}: {how}"));
        }
    }

    /// Something happened once more.
    pub(crate) fn count(&mut self, what: &'static str) {
        self.figures.add(what, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_runs_are_added_and_peaks_compared() {
        let mut all = Figures::default();
        for (count, peak) in [(2, 5), (3, 4)] {
            let mut one = Figures::default();
            one.add("traps", count);
            one.raise("keys", peak);
            all.merge(&one);
        }
        assert_eq!((all.count("traps"), all.peak("keys")), (5, 5));
        assert_eq!(all.count("none"), 0);
    }
}
