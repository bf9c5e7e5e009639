//! How Envoy's admin endpoint is asked for endpoints.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Glob;
use crate::glob::ANY_RUN_INSTRUCTIONS;

/// All but the characters that RFC 3986 calls unreserved (section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What all patterns together may compile to. Envoy refuses a `name_regex` of more than 100 instructions
/// (`re2.max_program_size.error_level`), which two names of usual length exceed; the rest is for RE2's own frame.
const MOST_INSTRUCTIONS: usize = 88;

/// One of the two lists that Envoy keeps of clusters with endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointTable {
    /// Clusters that came by CDS: all of Istio's.
    Dynamic,
    /// Clusters of the bootstrap, those with EDS too.
    Static,
}

impl EndpointTable {
    /// The path that asks the admin endpoint for the endpoints of clusters that match one of `clusters`.
    ///
    /// The answer may hold other clusters too, which [`EndpointDump::parse`](crate::EndpointDump::parse) passes over: long
    /// patterns are shortened to what Envoy takes, and of more than eight it is asked for all clusters.
    #[must_use]
    pub fn path(self, clusters: &[Glob]) -> String {
        let resource = match self {
            Self::Dynamic => "dynamic_endpoint_configs",
            Self::Static => "static_endpoint_configs",
        };
        let regex = query_escape(&name_regex(clusters));
        format!("/config_dump?include_eds&resource={resource}&name_regex={regex}")
    }
}

/// An expression that matches every name that one of `clusters` matches, and no more others than must be.
fn name_regex(clusters: &[Glob]) -> String {
    // One instruction of each share is for the choice between alternatives.
    let share = MOST_INSTRUCTIONS
        .checked_div(clusters.len())
        .map_or(0, |share| share.saturating_sub(1));
    if share < ANY_RUN_INSTRUCTIONS {
        return ".*".to_string();
    }
    let alternatives = clusters.iter().map(|glob| glob.to_regex_within(share));
    alternatives.collect::<Vec<_>>().join("|")
}

/// Text as a value in a URL's query: every byte but unreserved ones as `%XX`.
///
/// A space is `%20`, because Envoy leaves `+` as it is.
#[must_use]
pub fn query_escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests;
