//! How Envoy's admin endpoint is asked for endpoints.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Glob;

/// All but the characters that RFC 3986 calls unreserved (section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One of the two lists that Envoy keeps of clusters with endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointTable {
    /// Clusters that came by CDS: all of Istio's.
    Dynamic,
    /// Clusters of the bootstrap, those with EDS too.
    Static,
}

/// What one question may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// As much as fits into a path. Istio's bootstrap allows `name_regex` 32,768 instructions (`extractRuntimeFlags` in
    /// `pkg/bootstrap/config.go` of <https://github.com/istio/istio>).
    Wide,
    /// What any Envoy takes: it refuses a `name_regex` of more than 100 instructions (`re2.max_program_size.error_level`)
    /// with a 400.
    Narrow,
}

impl Reach {
    /// What the patterns of a question may compile to together; of Narrow's 100 the rest is for RE2's own frame.
    fn instructions(self) -> usize {
        match self {
            Self::Wide => 16_384,
            Self::Narrow => 88,
        }
    }

    /// Bytes of the escaped expression: paths of more than 60 KiB are refused by the admin endpoint, as all headers together.
    fn bytes(self) -> usize {
        16 * 1024
    }
}

impl EndpointTable {
    /// The paths that ask the admin endpoint for the endpoints of clusters that match one of `clusters`: as few as `reach`
    /// allows, at most one for each pattern.
    ///
    /// The answers may hold other clusters too, which [`EndpointDump::parse`](crate::EndpointDump::parse) passes over: a
    /// pattern that is longer than a question may be is shortened.
    #[must_use]
    pub fn paths(self, clusters: &[Glob], reach: Reach) -> Vec<String> {
        let resource = match self {
            Self::Dynamic => "dynamic_endpoint_configs",
            Self::Static => "static_endpoint_configs",
        };
        let path = |regex: String| {
            format!("/config_dump?include_eds&resource={resource}&name_regex={regex}")
        };
        let regexes = name_regexes(clusters, reach).into_iter();
        regexes.map(|regex| path(query_escape(&regex))).collect()
    }
}

/// Expressions that match together every name that one of `clusters` matches, and no more others than must be.
fn name_regexes(clusters: &[Glob], reach: Reach) -> Vec<String> {
    let mut regexes = Vec::new();
    let mut alternatives: Vec<String> = Vec::new();
    let (mut instructions, mut bytes) = (0usize, 0usize);
    for glob in clusters {
        // One instruction is for the choice between alternatives.
        let most = reach.instructions().saturating_sub(1);
        let regex = glob.to_regex_within(most);
        if alternatives.contains(&regex) || regexes.contains(&regex) {
            continue;
        }
        let cost = glob.instructions().min(most).saturating_add(1);
        let length = query_escape(&regex).len();
        let is_full = instructions.saturating_add(cost) > reach.instructions()
            || bytes.saturating_add(length) > reach.bytes();
        if is_full && !alternatives.is_empty() {
            regexes.push(std::mem::take(&mut alternatives).join("|"));
            (instructions, bytes) = (0, 0);
        }
        instructions = instructions.saturating_add(cost);
        bytes = bytes.saturating_add(length);
        alternatives.push(regex);
    }
    if !alternatives.is_empty() {
        regexes.push(alternatives.join("|"));
    }
    regexes
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
