//! What goes wrong in a run, and how often.
//!
//! Each seed draws some troubles and leaves the others out, so that each is also met alone, and some seeds have none at
//! all: what must hold in a quiet gateway is checked there without excuse.

use crate::chance::Chance;
use crate::schedule::MS;

/// How often a seed has a given trouble.
const SHARE: f64 = 0.35;
/// A worker that is taken for dead meanwhile: longer than any lease.
const LONG_STALL_MS: u64 = 40_000;
/// How often a seed has none.
const CALM_SHARE: f64 = 0.1;

/// Troubles of HTTP calls: probabilities for each call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CallTroubles {
    /// The cluster is not known, or has no host.
    pub(crate) refused: f64,
    /// The connection broke: a callback without headers.
    pub(crate) reset: f64,
    /// 503 or 504 from Envoy.
    pub(crate) error: f64,
    /// A body that is something else, or very long.
    pub(crate) junk: f64,
    /// No callback.
    pub(crate) lost: f64,
}

/// The troubles of a run. Probabilities are for each occasion.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chaos {
    /// Another plugin writes just before a compare-and-set.
    pub(crate) cas_conflict: f64,
    /// A queue's callback does not come.
    pub(crate) lost_bell: f64,
    /// A queue's callback comes up to so much later.
    pub(crate) late_bell_ns: u64,
    /// Nothing can be put into a queue.
    pub(crate) enqueue_fails: f64,
    /// A tick is left out.
    pub(crate) lost_tick: f64,
    /// No timer is faster than this.
    pub(crate) tick_floor_ns: u64,
    /// A VM traps in a callback.
    pub(crate) trap: f64,
    /// Time between writes of another plugin under our keys; 0 for none.
    pub(crate) junk_gap_ms: u64,
    /// Time between changes of the wall clock; 0 for none.
    pub(crate) jump_gap_ms: u64,
    /// Time between stalls of a worker; 0 for none.
    pub(crate) stall_gap_ms: u64,
    pub(crate) longest_stall_ns: u64,
    /// Time between new configurations; 0 for none.
    pub(crate) update_gap_ms: u64,
    /// Time between changes of a rank's manners; 0 for none.
    pub(crate) mood_gap_ms: u64,
    pub(crate) calls: CallTroubles,
}

impl Chaos {
    /// No trouble, and timers on time.
    pub(crate) fn none() -> Self {
        Self {
            tick_floor_ns: 20 * MS,
            ..Self::default()
        }
    }

    /// No trouble, and timers that run as rarely as in a very busy gateway: to let time pass cheaply.
    pub(crate) fn rest() -> Self {
        Self {
            tick_floor_ns: 400 * MS,
            ..Self::default()
        }
    }

    /// Leaves only troubles that no rank, no clock and no dead VM has a part in: what goes wrong then is the clients' doing.
    pub(crate) fn spare_ranks(&mut self) {
        self.trap = 0.0;
        self.junk_gap_ms = 0;
        self.jump_gap_ms = 0;
        self.stall_gap_ms = 0;
        self.mood_gap_ms = 0;
        self.calls = CallTroubles::default();
    }

    /// Whether this has no other troubles than those.
    pub(crate) fn spares_ranks(&self) -> bool {
        let mut spared = self.clone();
        spared.spare_ranks();
        spared == *self
    }

    /// Draws the troubles of a seed.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        if chance.hits(CALM_SHARE) {
            return Self::none();
        }
        let gap = |chance: &mut Chance, least, most| match chance.hits(SHARE) {
            true => chance.between(least, most),
            false => 0,
        };
        let longest_stall_ms = chance.pick(&[300, 1_000, 1_000, LONG_STALL_MS]);
        // A long stall is a long run: with fewer ticks.
        let floors_ms: &[u64] = match longest_stall_ms {
            LONG_STALL_MS => &[100, 200],
            _ => &[4, 20, 50, 100],
        };
        Self {
            cas_conflict: maybe(chance, &[0.1, 0.5, 0.9]),
            lost_bell: maybe(chance, &[0.05, 0.3, 1.0]),
            late_bell_ns: gap(chance, 1, 300) * MS,
            enqueue_fails: maybe(chance, &[0.1, 1.0]),
            lost_tick: maybe(chance, &[0.1, 0.5]),
            tick_floor_ns: chance.pick(floors_ms) * MS,
            trap: maybe(chance, &[0.001, 0.005, 0.02]),
            junk_gap_ms: gap(chance, 50, 2000),
            jump_gap_ms: gap(chance, 200, 3000),
            stall_gap_ms: gap(chance, 200, 3000),
            longest_stall_ns: longest_stall_ms * MS,
            update_gap_ms: gap(chance, 300, 3000),
            mood_gap_ms: gap(chance, 100, 2000),
            calls: CallTroubles {
                refused: maybe(chance, &[0.1, 1.0]),
                reset: maybe(chance, &[0.1, 0.5]),
                error: maybe(chance, &[0.1, 0.5]),
                junk: maybe(chance, &[0.1, 0.5]),
                lost: maybe(chance, &[0.1, 0.5]),
            },
        }
    }
}

fn maybe(chance: &mut Chance, probabilities: &[f64]) -> f64 {
    match chance.hits(SHARE) {
        true => chance.pick(probabilities),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_seeds_are_calm_and_each_trouble_is_met_and_left_out() {
        let drawn: Vec<Chaos> = (0..500)
            .map(|seed| Chaos::draw(&mut Chance::of(seed)))
            .collect();
        let calm = drawn
            .iter()
            .filter(|chaos| **chaos == Chaos::none())
            .count();
        assert!((20..100).contains(&calm), "{calm}");
        let troubles: [fn(&Chaos) -> bool; 6] = [
            |chaos| chaos.trap > 0.0,
            |chaos| chaos.lost_bell > 0.0,
            |chaos| chaos.junk_gap_ms > 0,
            |chaos| chaos.jump_gap_ms > 0,
            |chaos| chaos.update_gap_ms > 0,
            |chaos| chaos.calls.reset > 0.0,
        ];
        for trouble in troubles {
            let met = drawn.iter().filter(|chaos| trouble(chaos)).count();
            assert!((100..250).contains(&met), "{met}");
        }
    }
}
