//! Measures natively; prints one JSON row for each kind of pool and prompt.

use std::time::Instant;

use pick_cost::{FILLING_BLOCKS, FILLING_PROMPTS, LargePool, Starts};
use serde_json::json;

const PICKS: u64 = 2001;

fn main() {
    for (name, starts) in Starts::ALL {
        let mut pool = LargePool::new(starts);
        let filling = times(&mut pool, false, FILLING_BLOCKS, FILLING_PROMPTS);
        let slowest = filling.last().copied().unwrap_or_default();
        for goes_on in [true, false] {
            for blocks in [1, 190, 1000] {
                let times = times(&mut pool, goes_on, blocks, PICKS);
                let row = json!({
                    "part": "pick", "runs": "native", "starts": name, "goes_on": goes_on, "blocks": blocks,
                    "p50_us": microseconds(times[times.len() / 2]),
                    "p99_us": microseconds(times[times.len() * 99 / 100]),
                    "slowest_while_filling_us": microseconds(slowest),
                });
                println!("{row}");
            }
        }
    }
}

/// Nanoseconds of so many picks, sorted.
fn times(pool: &mut LargePool, goes_on: bool, blocks: u64, picks: u64) -> Vec<u128> {
    let mut times: Vec<u128> = (0..picks)
        .map(|_| nanoseconds(pool, goes_on, blocks))
        .collect();
    times.sort_unstable();
    times
}

fn nanoseconds(pool: &mut LargePool, goes_on: bool, blocks: u64) -> u128 {
    pool.answer_oldest();
    let prompt = if goes_on {
        pool.next_turn(blocks)
    } else {
        pool.first_turn(blocks)
    };
    let start = Instant::now();
    pool.pick(&prompt);
    start.elapsed().as_nanos()
}

fn microseconds(nanoseconds: u128) -> f64 {
    (nanoseconds as f64 / 100.0).round() / 10.0
}
