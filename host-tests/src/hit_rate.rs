//! What share of prompt tokens the ranks found in their caches, as their metrics say.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::connection::get;

const HITS: &str = "vllm:prefix_cache_hits_total";
const QUERIES: &str = "vllm:prefix_cache_queries_total";

/// Tokens found over tokens asked for, of all ranks together; 0 when nothing was asked.
///
/// # Errors
/// When a rank's page cannot be fetched or lacks a counter.
pub async fn of_ranks(ranks: impl Iterator<Item = SocketAddr>) -> Result<f64> {
    let (hits, queries) = lookups(ranks).await?;
    Ok(if queries > 0.0 { hits / queries } else { 0.0 })
}

/// Tokens found, and tokens asked for, of all ranks together since their start.
///
/// # Errors
/// When a rank's page cannot be fetched or lacks a counter.
pub async fn lookups(ranks: impl Iterator<Item = SocketAddr>) -> Result<(f64, f64)> {
    let (mut hits, mut queries) = (0.0, 0.0);
    for rank in ranks {
        let page = get(rank, "/metrics").await?;
        hits += counter(&page, HITS).with_context(|| format!("{rank}: no {HITS}"))?;
        queries += counter(&page, QUERIES).with_context(|| format!("{rank}: no {QUERIES}"))?;
    }
    Ok((hits, queries))
}

/// The sum of a counter over its labels.
fn counter(page: &str, name: &str) -> Option<f64> {
    let samples = page.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    let values: Vec<f64> = samples
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels_and_not_mixed_with_others() {
        let page =
            "# TYPE a counter\na_total{x=\"1\"} 2.0\na_total{x=\"2\"} 3.0\na_total_created 9.0\n";
        assert_eq!(counter(page, "a_total"), Some(5.0));
        assert_eq!(counter(page, "b_total"), None);
    }
}
