//! What a rank does for a request: prefill, decode or both.

use serde::Deserialize;

use crate::{FoundEndpoint, Glob};

/// Rules that one pool may have, so that the work for each rank is bounded.
const MAX_RULES: usize = 64;

/// A rank's part where prefill and decode are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Computes the KV cache of a prompt for a decode rank; never a destination.
    Prefill,
    /// Answers requests, with or without a prefill rank's help.
    Decode,
    /// Answers requests, and may prefill for others.
    Both,
}

impl Role {
    /// Whether a request may be sent to the rank.
    #[must_use]
    pub fn can_serve(self) -> bool {
        matches!(self, Self::Decode | Self::Both)
    }

    /// Whether the rank may prefill for another one.
    #[must_use]
    pub fn can_prefill(self) -> bool {
        matches!(self, Self::Prefill | Self::Both)
    }

    /// The role that the name of a workload tells: `prefill` or `decode` in it; both words or neither are [`Role::Both`].
    ///
    /// Istio shows no labels of pods in a gateway, only the workload's name, and the known manifests put the role there
    /// (`wide-ep-llm-d-prefill`, `wide-ep-llm-d-decode-0`). Both words say both roles, as the values `prefill-decode` and
    /// `encode-prefill-decode` of the label `llm-d.ai/role` do; and if they meant something else, a rank that answers
    /// slowly is better than a decode rank that is never used.
    #[must_use]
    pub fn of_workload(name: &str) -> Self {
        match (name.contains("prefill"), name.contains("decode")) {
            (true, false) => Self::Prefill,
            (false, true) => Self::Decode,
            _ => Self::Both,
        }
    }
}

/// A rule: endpoints that meet all its criteria have its role.
///
/// Written as `{"role":"prefill","workload":"*-prefill*"}`. What Envoy does not say of an endpoint meets no criterion,
/// not even `*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "RawRoleMatcher")]
pub struct RoleMatcher {
    role: Role,
    cluster: Option<Glob>,
    workload: Option<Glob>,
    namespace: Option<Glob>,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct RawRoleMatcher {
    role: Role,
    cluster: Option<Glob>,
    workload: Option<Glob>,
    namespace: Option<Glob>,
}

impl TryFrom<RawRoleMatcher> for RoleMatcher {
    type Error = &'static str;

    fn try_from(raw: RawRoleMatcher) -> Result<Self, Self::Error> {
        let has_criterion =
            raw.cluster.is_some() || raw.workload.is_some() || raw.namespace.is_some();
        let matcher = Self {
            role: raw.role,
            cluster: raw.cluster,
            workload: raw.workload,
            namespace: raw.namespace,
        };
        has_criterion
            .then_some(matcher)
            .ok_or("a role needs a cluster, a workload or a namespace that it is for")
    }
}

impl RoleMatcher {
    /// Whether the endpoint meets every criterion.
    #[must_use]
    pub fn matches(&self, found: &FoundEndpoint) -> bool {
        meets(self.cluster.as_ref(), Some(&found.cluster))
            && meets(self.workload.as_ref(), found.workload.as_deref())
            && meets(self.namespace.as_ref(), found.namespace.as_deref())
    }
}

fn meets(criterion: Option<&Glob>, given: Option<&str>) -> bool {
    criterion.is_none_or(|glob| given.is_some_and(|given| glob.matches(given)))
}

/// How the ranks of a pool get their roles.
///
/// With rules the first that matches decides, and ranks that none matches are [`Role::Both`]: an operator who writes
/// rules need not guess what names would do besides. Without rules the workload's name tells
/// ([`Role::of_workload`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<RoleMatcher>")]
pub struct RoleRules(Vec<RoleMatcher>);

impl TryFrom<Vec<RoleMatcher>> for RoleRules {
    type Error = &'static str;

    fn try_from(rules: Vec<RoleMatcher>) -> Result<Self, Self::Error> {
        if rules.len() > MAX_RULES {
            return Err("there may be 64 rules for roles");
        }
        Ok(Self(rules))
    }
}

impl RoleRules {
    /// The role of one rank that was found as `found`: once, or once for each cluster that names it.
    ///
    /// A rule matches if it matches one of them, so the order in which clusters come does not matter. Cost: rules times
    /// what was found, a glob each.
    #[must_use]
    pub fn role(&self, found: &[&FoundEndpoint]) -> Role {
        if self.0.is_empty() {
            return Self::role_by_name(found);
        }
        let first = self
            .0
            .iter()
            .find(|rule| found.iter().any(|endpoint| rule.matches(endpoint)));
        first.map_or(Role::Both, |rule| rule.role)
    }

    fn role_by_name(found: &[&FoundEndpoint]) -> Role {
        let mut names = found
            .iter()
            .filter_map(|endpoint| endpoint.workload.as_deref());
        names.next().map_or(Role::Both, Role::of_workload)
    }
}

#[cfg(test)]
mod tests;
