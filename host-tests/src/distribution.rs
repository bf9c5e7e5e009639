//! Many values in a few.

use serde::Serialize;

/// Where most of some values are, and the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// How many values there are.
    pub count: usize,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Distribution {
    /// Of values in any order; all zero without values.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            count: values.len(),
            p50: percentile(&values, 50),
            p99: percentile(&values, 99),
            max: percentile(&values, 100),
        }
    }
}

/// The middle of values in any order; 0 without values.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The nearest-rank percentile of sorted values: the smallest that at least so many percent do not exceed.
#[must_use]
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

/// With so many digits behind the point.
#[must_use]
pub fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let distribution = Distribution::of((1..=200).map(f64::from).rev().collect());
        let expected = Distribution {
            count: 200,
            p50: 100.0,
            p99: 198.0,
            max: 200.0,
        };
        assert_eq!(distribution, expected);
        assert_eq!(Distribution::of(vec![]), Distribution::default());
    }

    #[test]
    fn the_median_is_the_middle_and_one_outlier_does_not_move_it() {
        assert_eq!(median(vec![3.0, 1.0, 1e9]), 3.0);
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(rounded(1.2345, 2), 1.23);
    }
}
