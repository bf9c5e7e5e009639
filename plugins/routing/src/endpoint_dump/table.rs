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

impl EndpointTable {
    /// The path that asks the admin endpoint for the endpoints of clusters that match one of `clusters`.
    #[must_use]
    pub fn path(self, clusters: &[Glob]) -> String {
        let resource = match self {
            Self::Dynamic => "dynamic_endpoint_configs",
            Self::Static => "static_endpoint_configs",
        };
        let patterns: Vec<String> = clusters.iter().map(Glob::to_regex).collect();
        let regex = query_escape(&patterns.join("|"));
        format!("/config_dump?include_eds&resource={resource}&name_regex={regex}")
    }
}

/// Text as a value in a URL's query: every byte but unreserved ones as `%XX`.
///
/// A space is `%20`, because Envoy leaves `+` as it is.
#[must_use]
pub fn query_escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
