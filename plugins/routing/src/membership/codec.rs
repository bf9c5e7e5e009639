//! A membership as bytes, for shared data.
//!
//! `version: u8`, `count: u16`, then for each member by rising address: a byte of marks (bits 0-1 role, 2-3 condition,
//! 4 IPv6), 4 or 16 bytes of IP as the network has it, `port: u16`, `revision_hash: u64`. Numbers are little-endian. 15 or
//! 27 bytes a member. A membership has exactly one form, so equal bytes are equal memberships.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Condition, MAX_RANKS, Member, Membership};
use crate::Role;

/// Changes with the format: what another version wrote is refused, and written anew at the next dump.
const VERSION: u8 = 1;
const IPV6: u8 = 1 << 4;

/// Why bytes are no membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipError {
    /// Of another version, or of no membership.
    Version,
    /// Shorter or longer than they say.
    Length,
    /// A count, a role, a condition or an order that no membership has.
    Content,
}

impl Membership {
    /// The membership as bytes; at most 27,651.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&count.to_le_bytes());
        for member in &self.members {
            encode_member(member, &mut bytes);
        }
        bytes
    }

    /// Reads what [`Membership::encode`] wrote; any other bytes are an error.
    ///
    /// # Errors
    ///
    /// Bytes of another version, cut or continued, or not in the one form that a membership has.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let mut rest = bytes;
        let [version] = take(&mut rest).map_err(|_| MembershipError::Version)?;
        if version != VERSION {
            return Err(MembershipError::Version);
        }
        let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
        if count > MAX_RANKS {
            return Err(MembershipError::Content);
        }
        let members: Vec<Member> = (0..count)
            .map(|_| decode_member(&mut rest))
            .collect::<Result<_, _>>()?;
        if !rest.is_empty() {
            return Err(MembershipError::Length);
        }
        if !members.is_sorted_by(|one, next| one.address < next.address) {
            return Err(MembershipError::Content);
        }
        Ok(Self { members })
    }
}

fn encode_member(member: &Member, bytes: &mut Vec<u8>) {
    let role = match member.role {
        Role::Prefill => 0,
        Role::Decode => 1,
        Role::Both => 2,
    };
    let condition = match member.condition {
        Condition::Serving => 0,
        Condition::Draining => 1 << 2,
        Condition::Unhealthy => 2 << 2,
    };
    match member.address.ip() {
        IpAddr::V4(ip) => {
            bytes.push(role | condition);
            bytes.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(role | condition | IPV6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    bytes.extend_from_slice(&member.address.port().to_le_bytes());
    bytes.extend_from_slice(&member.revision_hash.to_le_bytes());
}

fn decode_member(rest: &mut &[u8]) -> Result<Member, MembershipError> {
    let [marks] = take(rest)?;
    let (role, condition) = role_and_condition(marks & !IPV6).ok_or(MembershipError::Content)?;
    let ip = if marks & IPV6 == 0 {
        IpAddr::from(take::<4>(rest)?)
    } else {
        IpAddr::from(take::<16>(rest)?)
    };
    Ok(Member {
        address: SocketAddr::new(ip, u16::from_le_bytes(take(rest)?)),
        role,
        condition,
        revision_hash: u64::from_le_bytes(take(rest)?),
    })
}

fn role_and_condition(marks: u8) -> Option<(Role, Condition)> {
    let role = match marks & 0b11 {
        0 => Role::Prefill,
        1 => Role::Decode,
        2 => Role::Both,
        _ => return None,
    };
    let condition = match marks >> 2 {
        0 => Condition::Serving,
        1 => Condition::Draining,
        2 => Condition::Unhealthy,
        _ => return None,
    };
    Some((role, condition))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MembershipError> {
    let (taken, behind) = rest.split_first_chunk().ok_or(MembershipError::Length)?;
    *rest = behind;
    Ok(*taken)
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "ranks of another version",
            Self::Length => "ranks that are cut or continued",
            Self::Content => "ranks that cannot be",
        })
    }
}

impl std::error::Error for MembershipError {}
