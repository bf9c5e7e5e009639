//! Virtual time, and a wall clock that people set.

use crate::schedule::MS;

/// Some day in 2026.
const EPOCH_NS: u64 = 1_790_000_000_000 * MS;

/// The time of a run.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now_ns: u64,
    wall_offset_ms: i64,
}

impl Clock {
    /// Nanoseconds since the run began; what timers follow.
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Time never goes back.
    pub(crate) fn advance_to(&mut self, at_ns: u64) {
        self.now_ns = self.now_ns.max(at_ns);
    }

    /// Nanoseconds since 1970, as a host tells the module.
    pub(crate) fn wall_ns(&self) -> u64 {
        let ns = EPOCH_NS.saturating_add(self.now_ns);
        let offset_ns = self.wall_offset_ms.unsigned_abs().saturating_mul(MS);
        match self.wall_offset_ms >= 0 {
            true => ns.saturating_add(offset_ns),
            false => ns.saturating_sub(offset_ns),
        }
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.wall_offset_ms = self.wall_offset_ms.saturating_add(by_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_moves_the_wall_clock_alone() {
        let mut clock = Clock::default();
        clock.advance_to(5 * MS);
        clock.advance_to(3 * MS);
        assert_eq!(clock.now_ns(), 5 * MS);
        assert_eq!(clock.wall_ns(), EPOCH_NS + 5 * MS);
        clock.jump(-7);
        assert_eq!(clock.wall_ns(), EPOCH_NS - 2 * MS);
        assert_eq!(clock.now_ns(), 5 * MS);
        clock.jump(9);
        assert_eq!(clock.wall_ns(), EPOCH_NS + 7 * MS);
    }
}
