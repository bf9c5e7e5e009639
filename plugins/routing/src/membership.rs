//! Which ranks a pool has, as all workers agree on it.

use std::net::SocketAddr;

use crate::config::MAX_RANKS;
use crate::{FoundEndpoint, Role, RoleRules, hash_bytes};

mod codec;

pub use codec::MembershipError;

/// What Envoy thinks of an endpoint's health; from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// Takes requests.
    Serving,
    /// Takes no new requests and ends those it has.
    Draining,
    /// Not ready, failing Envoy's health checks, or ejected by its outlier detection.
    Unhealthy,
}

impl Condition {
    /// What a `health_status` of Envoy means. Degraded ranks serve, and so do ranks of which nothing is known, as in Envoy.
    #[must_use]
    pub fn of_health_status(status: &str) -> Self {
        match status {
            "DRAINING" => Self::Draining,
            "UNHEALTHY" | "TIMEOUT" => Self::Unhealthy,
            _ => Self::Serving,
        }
    }
}

/// A rank of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it does for a request.
    pub role: Role,
    /// What Envoy thinks of its health.
    pub condition: Condition,
    /// Hash of its workload's revision, 0 where none is known: ranks of different revisions may not understand each other.
    pub revision_hash: u64,
}

/// The ranks of a pool, by address and each once; at most 1,024, the lowest addresses.
///
/// Two of them are equal exactly if nothing changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    members: Vec<Member>,
}

impl Membership {
    /// The ranks behind endpoints, which may come in any order and from several dumps.
    ///
    /// A rank that several clusters name is one member. Its role is that of the first rule that matches one of them; its
    /// condition is the worst, because only a cluster with requests can eject it, and the others do not know.
    #[must_use]
    pub fn from_found(found: &[FoundEndpoint], rules: &RoleRules) -> Self {
        let mut sorted: Vec<&FoundEndpoint> = found.iter().collect();
        sorted.sort_unstable();
        let same_address =
            |one: &&FoundEndpoint, other: &&FoundEndpoint| one.address == other.address;
        let ranks = sorted.chunk_by(same_address).take(MAX_RANKS);
        Self {
            members: ranks.filter_map(|rank| member(rank, rules)).collect(),
        }
    }

    /// The ranks of a static list: each does both and serves.
    #[must_use]
    pub fn from_static(ranks: &[SocketAddr]) -> Self {
        let mut addresses: Vec<SocketAddr> = ranks.iter().map(|rank| plain(*rank)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let member = |address| Member {
            address,
            role: Role::Both,
            condition: Condition::Serving,
            revision_hash: 0,
        };
        Self {
            members: addresses.into_iter().take(MAX_RANKS).map(member).collect(),
        }
    }

    /// These members, for tests.
    #[cfg(test)]
    pub(crate) fn from_members(mut members: Vec<Member>) -> Self {
        members.sort_unstable_by_key(|member| member.address);
        Self { members }
    }

    /// The ranks, by rising address.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The rank at an address.
    #[must_use]
    pub fn get(&self, address: SocketAddr) -> Option<&Member> {
        let place = self
            .members
            .binary_search_by_key(&address, |member| member.address);
        self.members.get(place.ok()?)
    }
}

fn member(rank: &[&FoundEndpoint], rules: &RoleRules) -> Option<Member> {
    let revision = rank.iter().find_map(|found| found.revision.as_deref());
    Some(Member {
        address: plain(rank.first()?.address),
        role: rules.role(rank),
        condition: rank.iter().map(|found| found.condition).max()?,
        revision_hash: revision.map_or(0, |revision| hash_bytes(revision.as_bytes())),
    })
}

/// Without the scope and flow of an IPv6 address, which no pod has and the codec does not carry.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

#[cfg(test)]
mod tests;
