//! What a rank may be given.

/// How a rank stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Takes whatever it is given.
    In,
    /// Has answered since it was out, and takes more with each answer.
    Ramping {
        /// Requests that may be in flight on it, over all workers.
        limit: u32,
    },
    /// Its time out is over, but nothing was answered yet.
    Probe {
        /// Requests that may be in flight on it, over all workers: one, unless nothing was heard of it for long.
        limit: u32,
    },
    /// Takes nothing.
    Out,
}

impl Standing {
    /// Requests that may be in flight on the rank.
    #[must_use]
    pub fn limit(self) -> u32 {
        match self {
            Self::In => u32::MAX,
            Self::Ramping { limit } | Self::Probe { limit } => limit,
            Self::Out => 0,
        }
    }

    /// Whether one more request may go to the rank while `in_flight` are on it, over all workers.
    #[must_use]
    pub fn admits(self, in_flight: u32) -> bool {
        self == Self::In || in_flight < self.limit()
    }
}

/// How many ranks stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ranks that take whatever they are given.
    pub in_ranks: usize,
    /// Ranks that are being probed or are ramping.
    pub coming_back: usize,
    /// Ranks that take nothing.
    pub out_ranks: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, standing: Standing) {
        let count = match standing {
            Standing::In => &mut self.in_ranks,
            Standing::Ramping { .. } | Standing::Probe { .. } => &mut self.coming_back,
            Standing::Out => &mut self.out_ranks,
        };
        *count = count.saturating_add(1);
    }
}

/// Which ranks of a pool a pick may choose from. A request is never refused for health: somebody gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Those that admit a request: the ordinary case.
    Admitting,
    /// None admits one, but some have answered since they were out: those, over their limits. They live, of the others
    /// nobody knows.
    Ramping,
    /// Nothing is known to live: all.
    All,
}

impl Admission {
    /// What a pick among these ranks has to do, each with its standing and what is in flight on it. One pass.
    pub fn of(ranks: impl IntoIterator<Item = (Standing, u32)>) -> Self {
        let mut admission = Self::All;
        for (standing, in_flight) in ranks {
            if standing.admits(in_flight) {
                return Self::Admitting;
            }
            if matches!(standing, Standing::Ramping { .. }) {
                admission = Self::Ramping;
            }
        }
        admission
    }

    /// Whether a rank may be picked.
    #[must_use]
    pub fn takes(self, standing: Standing, in_flight: u32) -> bool {
        match self {
            Self::Admitting => standing.admits(in_flight),
            Self::Ramping => matches!(standing, Standing::Ramping { .. }),
            Self::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAMPING: Standing = Standing::Ramping { limit: 2 };
    const PROBE: Standing = Standing::Probe { limit: 1 };

    #[test]
    fn each_standing_admits_up_to_its_limit() {
        for (standing, in_flight, admits) in [
            (Standing::In, u32::MAX, true),
            (RAMPING, 1, true),
            (RAMPING, 2, false),
            (PROBE, 0, true),
            (PROBE, 1, false),
            (Standing::Out, 0, false),
        ] {
            assert_eq!(standing.admits(in_flight), admits, "{standing:?}");
        }
    }

    #[test]
    fn a_pool_uses_the_living_over_their_limits_before_it_uses_all() {
        let takes = |ranks: &[(Standing, u32)]| {
            let admission = Admission::of(ranks.iter().copied());
            let taken = ranks.iter().map(|&(s, n)| admission.takes(s, n));
            taken.collect::<Vec<bool>>()
        };
        assert_eq!(
            takes(&[(Standing::Out, 0), (Standing::In, 9), (RAMPING, 2)]),
            [false, true, false]
        );
        assert_eq!(takes(&[(Standing::Out, 0), (PROBE, 0)]), [false, true]);
        assert_eq!(
            takes(&[(Standing::Out, 0), (RAMPING, 2), (PROBE, 1)]),
            [false, true, false]
        );
        assert_eq!(takes(&[(Standing::Out, 0), (PROBE, 1)]), [true, true]);
        assert_eq!(takes(&[]), Vec::<bool>::new());
    }
}
