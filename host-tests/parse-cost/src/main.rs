//! Measures natively; prints one JSON row for each body.

use std::hint::black_box;
use std::time::Instant;

use parse_cost::{Text, actson, body, ours, simd, tree};

const SIZES: [usize; 5] = [1 << 10, 16 << 10, 128 << 10, 1 << 20, 8 << 20];
/// Long enough for the clock, short enough to put all readers under the same load of the machine.
const BATCH_BYTES: usize = 400_000;
const ROUNDS: usize = 41;

fn main() {
    for text in [Text::Plain, Text::Escaped] {
        for bytes in SIZES {
            println!("{}", row(text, bytes));
        }
    }
}

/// Medians over rounds in which every reader had its turn.
fn row(text: Text, bytes: usize) -> serde_json::Value {
    let body = body(text, bytes);
    let readers: [fn(&[u8]) -> u64; 4] = [ours, tree, actson, simd];
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (read, times) in readers.iter().zip(&mut times) {
            times.push(nanoseconds(*read, &body));
        }
    }
    let [ours, tree, actson, simd] = times.map(median);
    serde_json::json!({
        "text": format!("{text:?}").to_lowercase(), "body_bytes": body.len(), "ours_ns": ours.round(),
        "serde_json_value_and_hash_ns": tree.round(), "ratio": round(tree / ours),
        "gb_per_s": round(body.len() as f64 / ours), "actson_ns": actson.round(), "simd_json_ns": simd.round(),
    })
}

fn nanoseconds(read: fn(&[u8]) -> u64, body: &[u8]) -> f64 {
    let times = (BATCH_BYTES / body.len()).max(1);
    let start = Instant::now();
    (0..times).for_each(|_| {
        black_box(read(black_box(body)));
    });
    start.elapsed().as_secs_f64() * 1e9 / times as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
