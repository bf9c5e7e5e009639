//! In which ways a rank can fail, and how much each says.

/// How an attempt on a rank failed. An answer with a status below 500 is none: the rank is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// No connection: refused, unreachable or timed out.
    Connect,
    /// The connection broke before the answer was complete.
    Reset,
    /// An answer with a status of 500 or more.
    ServerError,
    /// No first byte for so long that the rank must be hung.
    NoFirstByte,
    /// Its metrics page could not be read.
    Scrape,
}

/// Points at which a rank goes out.
pub(crate) const OUT_POINTS: u8 = 6;

/// Nobody listens, or nobody can be reached: two of them are enough. One may be a lost packet.
const CONNECT_POINTS: u8 = 4;
/// Model servers close idle connections (vLLM after 5 s) while a request may be on its way, and a burst after a pause
/// meets two such connections easily: three of them, or one beside a failed connect.
const RESET_POINTS: u8 = 2;
/// A single request may be what makes a server fail, and clients repeat those: three of them.
const SERVER_ERROR_POINTS: u8 = 2;

impl Failure {
    /// Every failure, in the order of the codes.
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::Reset,
        Self::ServerError,
        Self::NoFirstByte,
        Self::Scrape,
    ];

    /// A number that workers tell each other; never changes its meaning.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Connect => 1,
            Self::Reset => 2,
            Self::ServerError => 3,
            Self::NoFirstByte => 4,
            Self::Scrape => 5,
        }
    }

    /// The failure of a code; `None` for a number that means nothing here.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| failure.code() == code)
    }

    /// What it adds to a row of failures; scrapes have a row of their own.
    pub(crate) fn points(self) -> u8 {
        match self {
            Self::Connect => CONNECT_POINTS,
            Self::Reset => RESET_POINTS,
            Self::ServerError => SERVER_ERROR_POINTS,
            // Several requests of several ranks were compared before this was said.
            Self::NoFirstByte => OUT_POINTS,
            Self::Scrape => 0,
        }
    }

    /// Whether it is what the death of a process looks like, in which the other ranks of its pod share.
    pub(crate) fn is_like_death(self) -> bool {
        matches!(self, Self::Connect | Self::Reset | Self::Scrape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_gives_its_failure_and_other_numbers_none() {
        for failure in Failure::ALL {
            assert_eq!(Failure::from_code(failure.code()), Some(failure));
        }
        let known = (0..=u8::MAX).filter_map(Failure::from_code);
        assert_eq!(known.collect::<Vec<_>>(), Failure::ALL);
    }

    #[test]
    fn a_failed_connect_weighs_most_among_those_that_do_not_count_at_once() {
        let weights = [Failure::Connect, Failure::Reset, Failure::ServerError].map(Failure::points);
        assert!(weights[0] > weights[1] && weights[0] > weights[2]);
        assert!(weights.into_iter().all(|points| points < OUT_POINTS));
        assert_eq!(Failure::NoFirstByte.points(), OUT_POINTS);
    }
}
