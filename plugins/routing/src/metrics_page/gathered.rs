//! A quantity that several series of a page add to.

/// What the series of one name come to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Gathered<T> {
    /// No series has come.
    #[default]
    Absent,
    /// All that came could be read.
    Known(T),
    /// One could not, so that what the others come to is not the whole.
    Unreadable,
}

impl<T: Copy> Gathered<T> {
    /// Adds a series; `None` is one that cannot be read.
    pub(super) fn join(&mut self, series: Option<T>, both: impl FnOnce(T, T) -> T) {
        *self = match (*self, series) {
            (Self::Absent, Some(value)) => Self::Known(value),
            (Self::Known(before), Some(value)) => Self::Known(both(before, value)),
            (Self::Unreadable, _) | (_, None) => Self::Unreadable,
        };
    }

    pub(super) fn known(&self) -> Option<T> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_joined() {
        let mut sum = Gathered::default();
        assert_eq!(sum.known(), None);
        sum.join(Some(5), u64::saturating_add);
        assert_eq!(sum.known(), Some(5));
        sum.join(Some(7), u64::saturating_add);
        assert_eq!(sum.known(), Some(12));
    }

    #[test]
    fn one_unreadable_series_makes_all_unknown_whenever_it_comes() {
        for order in [[None, Some(5)], [Some(5), None]] {
            let mut sum = Gathered::default();
            for series in order {
                sum.join(series, u64::saturating_add);
            }
            assert_eq!(sum.known(), None, "{order:?}");
        }
    }
}
