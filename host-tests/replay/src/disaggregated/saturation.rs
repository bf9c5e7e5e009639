//! The rate at which prefill ranks and decode ranks can serve a window of a trace at most: what loads are shares of.
//!
//! Each kind is driven alone, as hard as it goes, and the lower rate of both is that of the whole. Prefill: the prefill ranks
//! under the oracle that knows caches and queues, sixteen requests for each rank always there, as where ranks do both. Decode:
//! the decode ranks, each prompt coming with its keys and values at once, as many requests for each rank always there as it may
//! run at once, dealt to the rank with the fewest. What decode ranks could prefill is not counted, so a policy that lets them
//! may serve more.

use anyhow::Result;

use super::ratio::Ratio;
use crate::baselines::LeastInFlight;
use crate::gateways::Gateways;
use crate::profile::Profile;
use crate::reports::ReportTiming;
use crate::saturation::{self, middle_rate};
use crate::simulation::{Feed, run};
use crate::workload::{TraceRequest, scaled};

/// How often all that is under way is replaced: its beginning, when all ranks fill at once, and its end weigh little then.
const TURNS: usize = 4;

/// Most requests a second of each kind of ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saturation {
    /// Of the prefill ranks.
    pub prefill: f64,
    /// Of the decode ranks.
    pub decode: f64,
}

impl Saturation {
    /// Of a window of a trace.
    ///
    /// # Errors
    /// When a run fails.
    pub fn of(window: &[TraceRequest], profile: Profile, ratio: Ratio) -> Result<Self> {
        Ok(Self {
            prefill: saturation::per_second(window, profile.prefill_only(), ratio.prefill)?,
            decode: decode_per_second(window, profile, ratio.decode)?,
        })
    }

    /// Of both together.
    #[must_use]
    pub fn joint(&self) -> f64 {
        self.prefill.min(self.decode)
    }
}

fn decode_per_second(window: &[TraceRequest], profile: Profile, ranks: usize) -> Result<f64> {
    let in_flight = profile.max_sequences * ranks;
    // Windows are shorter than what so many ranks hold at once.
    let count = window.len().max(TURNS * in_flight);
    let repeated: Vec<TraceRequest> = window.iter().cycle().take(count).cloned().collect();
    let gateways = Gateways::new(vec![LeastInFlight::boxed(ranks, 0)], ranks, 0);
    let timing = ReportTiming {
        interval_ms: 60_000.0,
        delay_ms: 0.0,
    };
    let requests = scaled(&repeated, 1.0);
    let feed = Feed::Closed(in_flight);
    let profile = profile.decode_only();
    let outcome = run(&requests, profile, ranks, gateways, timing, feed)?;
    Ok(middle_rate(&outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::dense;

    fn saturation(ratio: &str, prompt_tokens: u64, output_tokens: u64) -> Saturation {
        let request =
            |number: u64| TraceRequest::new(0.0, prompt_tokens, output_tokens, &[number * 99]);
        let window: Vec<TraceRequest> = (0..400).map(request).collect();
        // Two at once: worked out by hand below.
        let profile = Profile {
            max_sequences: 2,
            ..dense()
        };
        Saturation::of(&window, profile, ratio.parse().unwrap()).unwrap()
    }

    #[test]
    fn each_kind_serves_what_it_was_measured_to() {
        let given = saturation("1:1", 8191, 1001);
        // A step of 8,191 tokens takes 2.4 + 39.3 + 12.7 ms.
        let prefill = 1000.0 / 54.4;
        // Two sequences at some 8,700 tokens of context: 2.4 + 0.06 + 0.4 ms a token each, 1,001 tokens an answer.
        let decode = 2.0 / (2.86e-3 * 1001.0);
        for (given, expected) in [(given.prefill, prefill), (given.decode, decode)] {
            assert!((given / expected - 1.0).abs() < 0.03, "{given}, {expected}");
        }
        assert_eq!(given.joint(), given.decode);
    }

    #[test]
    fn each_kind_grows_with_its_own_ranks_and_the_lower_counts() {
        let (one, more) = (saturation("1:1", 8191, 2), saturation("2:1", 8191, 2));
        assert!((more.prefill / one.prefill - 2.0).abs() < 0.05, "{more:?}");
        assert_eq!(more.decode, one.decode);
        assert_eq!(one.joint(), one.prefill);
    }
}
