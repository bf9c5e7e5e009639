//! What a rank is for, where prefill and decode are apart.

use clap::ValueEnum;
use serde::Serialize;

/// The role of a rank, by the values of llm-d's label `llm-d.ai/role`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Prefills and decodes; nothing stands before it.
    #[default]
    Both,
    /// Prefills for decode ranks, and is no destination of requests; nothing stands before it.
    Prefill,
    /// Decodes, behind a sidecar that has prompts prefilled elsewhere.
    Decode,
}

/// Which sidecar stands before a decode rank: they differ in what follows a prefill leg that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
pub enum SidecarVersion {
    /// llm-d-routing-sidecar 0.8.0, of the wide-EP guide: unless the error is the client's (400 to 451), the decode rank
    /// prefills the prompt itself.
    #[default]
    #[value(name = "v0.8", alias = "0.8")]
    V0_8,
    /// llm-d-router from 0.9.0 on: the client gets the prefill leg's error. Of an answer whose leg went well, the cached
    /// tokens are replaced by those of the prefill rank.
    #[value(name = "v0.9", alias = "0.9")]
    V0_9,
}

impl SidecarVersion {
    /// Whether a prefill leg that ended with this status is followed by a decode that prefills itself.
    #[must_use]
    pub fn falls_back(self, status: u16) -> bool {
        self == Self::V0_8 && !(400..=451).contains(&status)
    }

    /// Whether the cached tokens of an answer are those of the prefill rank.
    #[must_use]
    pub fn tells_cached_tokens_of_prefill(self) -> bool {
        self == Self::V0_9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_older_sidecar_falls_back_and_not_from_what_the_client_did_wrong() {
        for (status, falls_back) in [
            (400, false),
            (451, false),
            (452, true),
            (500, true),
            (302, true),
        ] {
            assert_eq!(
                SidecarVersion::V0_8.falls_back(status),
                falls_back,
                "{status}"
            );
            assert!(!SidecarVersion::V0_9.falls_back(status), "{status}");
        }
    }
}
