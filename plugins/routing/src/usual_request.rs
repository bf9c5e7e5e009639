//! What a request under way has on a rank, on average.

use crate::RankLoad;

/// How many looks back half of what counts lies: some hundred requests.
const MEMORY: u64 = 64;

/// Sums over the last looks at all ranks, fading. Others' requests, of which only the number is known, are taken to be as one's
/// own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsualRequest {
    queued_tokens: u64,
    held_tokens: u64,
    /// Requests, times [`MEMORY`], so that few of them do not fade to nothing.
    in_flight: u64,
}

impl UsualRequest {
    /// All ranks together have this now.
    pub(crate) fn note(&mut self, load: RankLoad) {
        let faded = |sum: u64, more: u64| {
            let less = sum / MEMORY;
            sum.saturating_sub(less).saturating_add(more)
        };
        self.queued_tokens = faded(self.queued_tokens, load.queued_tokens);
        self.held_tokens = faded(self.held_tokens, load.held_tokens);
        // An incomplete request has nothing on its rank yet.
        let in_flight = u64::from(load.complete()).saturating_mul(MEMORY);
        self.in_flight = faded(self.in_flight, in_flight);
    }

    /// What so many requests have on a rank.
    #[must_use]
    pub(crate) fn times(&self, requests: u32) -> RankLoad {
        let of = |sum: u64| {
            let all = sum.saturating_mul(MEMORY).saturating_mul(requests.into());
            all.checked_div(self.in_flight).unwrap_or(0)
        };
        RankLoad {
            queued_tokens: of(self.queued_tokens),
            held_tokens: of(self.held_tokens),
            in_flight: requests,
            incomplete: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(queued_tokens: u64, held_tokens: u64, in_flight: u32) -> RankLoad {
        RankLoad {
            queued_tokens,
            held_tokens,
            in_flight,
            incomplete: 0,
        }
    }

    #[test]
    fn others_requests_are_taken_to_be_as_ones_own() {
        let mut usual = UsualRequest::default();
        assert_eq!(usual.times(3), load(0, 0, 3));
        usual.note(load(1000, 8000, 4));
        assert_eq!(usual.times(3), load(750, 6000, 3));
        assert_eq!(usual.times(0), RankLoad::default());
        (0..1000).for_each(|_| usual.note(load(200, 400, 2)));
        assert_eq!(usual.times(10), load(1000, 2000, 10));
    }

    #[test]
    fn no_load_is_too_large() {
        let mut usual = UsualRequest::default();
        (0..100).for_each(|_| usual.note(load(u64::MAX, u64::MAX, u32::MAX)));
        assert!(usual.times(u32::MAX).queued_tokens > 0);
    }
}
