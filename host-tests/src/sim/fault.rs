//! What can be wrong with a rank.

use serde::{Deserialize, Serialize};

/// A switch that can be thrown while the rank runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "lowercase")]
pub enum Fault {
    /// Healthy.
    #[default]
    None,
    /// Steps take `factor` times as long.
    Slow {
        /// 2 is half as fast.
        factor: f64,
    },
    /// Requests get this status at once, as when the engine behind the API server has died.
    Failing {
        /// 500 or 503 in practice.
        status: u16,
    },
    /// Requests are accepted and never answered, those under way stand still; `/health` still says 200, as it does in
    /// vLLM.
    Hanging,
    /// Nobody listens, and connections are cut.
    Dead,
    /// The connection of a streamed answer is cut after the first token; other answers are whole.
    Reset,
    /// Every request gets 503: the rank has not finished starting. The sidecar before a decode rank says so in its own
    /// words, and its `/health` is 200 all the same.
    NotReady,
    /// Requests are answered, the metrics page is not: it is closed by policy, or elsewhere.
    NoMetrics,
}

impl Fault {
    /// How many times as long a step takes.
    #[must_use]
    pub fn slowness(self) -> f64 {
        if let Self::Slow { factor } = self {
            factor.clamp(0.001, 10_000.0)
        } else {
            1.0
        }
    }
}
