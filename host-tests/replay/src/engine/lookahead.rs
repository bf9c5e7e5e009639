//! When a request's first token would come: the rank's own scheduler, run ahead on a copy.

use super::{Group, Sequence, Served};

/// Runs a copy of a rank until the first token of `sequence`, which reaches its queue at `joins_ms`; `pending` are
/// requests on their way to it, with their times, by time. Nothing comes after.
#[must_use]
pub fn first_token_ms(
    mut group: Group,
    pending: impl Iterator<Item = (f64, Sequence)>,
    joins_ms: f64,
    sequence: Sequence,
) -> f64 {
    let number = sequence.number;
    let mut joining: Vec<(f64, Sequence)> = pending.collect();
    let place = joining.partition_point(|(time_ms, _)| *time_ms <= joins_ms);
    joining.insert(place, (joins_ms, sequence));
    let mut joining = joining.into_iter().peekable();
    let mut served = Vec::new();
    loop {
        let end_ms = group.ends_ms().unwrap_or(f64::INFINITY);
        let next = joining.next_if(|(time_ms, _)| *time_ms <= end_ms);
        if let Some((time_ms, sequence)) = next {
            group.add(0, sequence, time_ms);
            continue;
        }
        if end_ms.is_infinite() {
            return f64::INFINITY;
        }
        served.clear();
        group.end_steps(&mut served);
        let first = Served::FirstToken { number };
        if served.contains(&first) {
            return end_ms;
        }
    }
}
