//! One try of a request on a rank, as far as health is concerned: when it started and when it showed something.

/// An attempt of a request on one rank that has failed, or whose answer has begun.
///
/// Both times are wall clock in milliseconds of the process that sent it. They let each worker judge in the same way
/// what it hears late or out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// When the rank was picked; for a later attempt of the same request when that attempt started, if it is known.
    pub picked_ms: u64,
    /// When it failed, or when the first byte of a good answer came.
    pub ended_ms: u64,
}

impl Attempt {
    /// The same attempt with times that can be true at `now_ms`: nothing comes from the future, nothing ends before it
    /// starts. What contradicts this was measured across a jump of the clock.
    pub(crate) fn settled(self, now_ms: u64) -> Self {
        let ended_ms = self.ended_ms.min(now_ms);
        Self {
            picked_ms: self.picked_ms.min(ended_ms),
            ended_ms,
        }
    }
}
