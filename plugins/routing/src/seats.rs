//! The places of a pool's ranks in all tables.

use std::net::SocketAddr;

use hashbrown::HashMap;

use crate::{Condition, Member, Membership, RankId, Role, hash_bytes};

/// A rank's place; kept when the rank leaves, so that charges on it stay meaningful.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) address: SocketAddr,
    pub(crate) address_hash: u64,
    pub(crate) role: Role,
    pub(crate) condition: Condition,
    pub(crate) revision_hash: u64,
    /// Whether the pool has the rank now.
    pub(crate) is_listed: bool,
}

impl Seat {
    fn new(member: &Member) -> Self {
        Self {
            address: member.address,
            address_hash: address_hash(member.address),
            role: member.role,
            condition: member.condition,
            revision_hash: member.revision_hash,
            is_listed: true,
        }
    }
}

/// What workers and gateways call a rank by.
pub(crate) fn address_hash(address: SocketAddr) -> u64 {
    hash_bytes(address.to_string().as_bytes())
}

/// The seats of one pool: as many as it has ranks, and those of ranks that left while requests are on them.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    by_hash: HashMap<u64, RankId>,
}

impl Seats {
    /// Gives every member a seat: its own, or one that is free, or a new one; gives those that are new to their seat.
    ///
    /// A seat is free when its rank has left and `is_idle` says that nothing refers to it. Cost: the seats and members.
    pub(crate) fn list(
        &mut self,
        membership: &Membership,
        is_idle: impl Fn(RankId) -> bool,
    ) -> Vec<RankId> {
        self.seats
            .iter_mut()
            .for_each(|seat| seat.is_listed = false);
        let mut comers: Vec<Seat> = Vec::new();
        for seat in membership.members().iter().map(Seat::new) {
            match self.by_hash.get(&seat.address_hash).copied() {
                Some(rank) => self.put(rank, seat),
                None => comers.push(seat),
            }
        }
        let idle =
            |(rank, seat): (RankId, &Seat)| (!seat.is_listed && is_idle(rank)).then_some(rank);
        let mut free: Vec<RankId> = self.all().filter_map(idle).collect();
        let seated = comers.into_iter().filter_map(|seat| {
            let next = || u16::try_from(self.seats.len()).ok().map(RankId);
            let rank = free.pop().or_else(next)?;
            self.put(rank, seat);
            Some(rank)
        });
        seated.collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn get(&self, rank: RankId) -> Option<&Seat> {
        self.seats.get(rank.index())
    }

    /// The rank of this address, listed or not.
    pub(crate) fn rank_of(&self, address_hash: u64) -> Option<RankId> {
        self.by_hash.get(&address_hash).copied()
    }

    /// Every seat, listed or not.
    pub(crate) fn all(&self) -> impl Iterator<Item = (RankId, &Seat)> {
        (0..=u16::MAX).map(RankId).zip(&self.seats)
    }

    /// The ranks that a request may be sent to: of the right role, and serving unless none is.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = (RankId, &Seat)> {
        let can_serve = |seat: &Seat| seat.is_listed && seat.role.can_serve();
        let is_serving = move |seat: &Seat| can_serve(seat) && seat.condition == Condition::Serving;
        let none_is_serving = !self.seats.iter().any(is_serving);
        self.all()
            .filter(move |(_, seat)| is_serving(seat) || (none_is_serving && can_serve(seat)))
    }

    /// The ranks that may prefill for decode ranks, if the pool has any of those: serving ones only, because a decode rank
    /// can do without.
    pub(crate) fn prefillers(&self) -> impl Iterator<Item = (RankId, &Seat)> {
        let can_help = |seat: &Seat| seat.is_listed && seat.role.can_prefill();
        let is_apart = self.has_decode_ranks();
        self.all().filter(move |(_, seat)| {
            is_apart && can_help(seat) && seat.condition == Condition::Serving
        })
    }

    /// Whether ranks are listed that leave the prefill to others.
    pub(crate) fn has_decode_ranks(&self) -> bool {
        let decodes = |seat: &Seat| seat.is_listed && seat.role == Role::Decode;
        self.seats.iter().any(decodes)
    }

    fn put(&mut self, rank: RankId, seat: Seat) {
        self.by_hash.insert(seat.address_hash, rank);
        match self.seats.get_mut(rank.index()) {
            Some(place) => {
                if place.address_hash != seat.address_hash {
                    self.by_hash.remove(&place.address_hash);
                }
                *place = seat;
            }
            None => self.seats.push(seat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(ports: &[u16]) -> Vec<SocketAddr> {
        let address = |port: &u16| SocketAddr::from(([10, 0, 0, 1], *port));
        ports.iter().map(address).collect()
    }

    fn list(seats: &mut Seats, ports: &[u16], is_idle: impl Fn(RankId) -> bool) -> Vec<RankId> {
        seats.list(&Membership::from_static(&ranks(ports)), is_idle)
    }

    fn listed(seats: &Seats) -> Vec<u16> {
        let destinations = seats.destinations();
        destinations.map(|(_, seat)| seat.address.port()).collect()
    }

    fn of(seats: &Seats, port: u16) -> Option<RankId> {
        seats.rank_of(address_hash(SocketAddr::from(([10, 0, 0, 1], port))))
    }

    #[test]
    fn a_rank_keeps_its_seat_while_it_is_away_and_work_is_on_it() {
        let mut seats = Seats::default();
        assert_eq!(list(&mut seats, &[1, 2], |_| true), [RankId(0), RankId(1)]);
        assert!(list(&mut seats, &[2], |_| false).is_empty());
        assert_eq!((listed(&seats), of(&seats, 1)), (vec![2], Some(RankId(0))));
        assert_eq!(list(&mut seats, &[2, 3], |_| false), [RankId(2)]);
        assert!(list(&mut seats, &[1, 2, 3], |_| false).is_empty());
        assert_eq!(listed(&seats), [1, 2, 3]);
    }

    #[test]
    fn an_idle_seat_goes_to_who_comes_next() {
        let mut seats = Seats::default();
        list(&mut seats, &[1, 2], |_| true);
        assert_eq!(list(&mut seats, &[2, 3], |_| true), [RankId(0)]);
        assert_eq!((of(&seats, 1), of(&seats, 3)), (None, Some(RankId(0))));
        for port in 10..60 {
            list(&mut seats, &[2, port], |_| true);
        }
        assert_eq!((seats.len(), seats.by_hash.len()), (2, 2));
    }

    #[test]
    fn ranks_that_drain_are_destinations_only_while_none_serves_and_prefill_ranks_never() {
        let member = |port: u16, role, condition| Member {
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            role,
            condition,
            revision_hash: 0,
        };
        let mut seats = Seats::default();
        let mut destinations = |members: &[Member]| {
            seats.list(&Membership::from_members(members.to_vec()), |_| true);
            let mut ports = listed(&seats);
            ports.sort_unstable();
            ports
        };
        let draining = member(1, Role::Both, Condition::Draining);
        let unhealthy = member(2, Role::Decode, Condition::Unhealthy);
        let prefill = member(3, Role::Prefill, Condition::Serving);
        let serving = member(4, Role::Decode, Condition::Serving);
        assert_eq!(destinations(&[draining, unhealthy, prefill, serving]), [4]);
        assert_eq!(destinations(&[draining, unhealthy, prefill]), [1, 2]);
        assert!(destinations(&[prefill]).is_empty());
    }
}
