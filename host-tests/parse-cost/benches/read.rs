//! `cargo bench --profile host -p parse-cost`: each reader on each body, for work on one of them.
//!
//! `scripts/bench parse` is for comparisons: there all readers take turns under the same load of the machine.

use divan::Bencher;
use divan::counter::BytesCount;
use parse_cost::{Text, actson, body, ours, simd, tree};

const SIZES: [usize; 5] = [1 << 10, 16 << 10, 128 << 10, 1 << 20, 8 << 20];

fn main() {
    divan::main();
}

fn measure(bencher: Bencher<'_, '_>, text: Text, bytes: usize, read: fn(&[u8]) -> u64) {
    let body = body(text, bytes);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench_local(|| read(divan::black_box(&body)));
}

#[divan::bench(args = SIZES)]
fn ours_plain(bencher: Bencher<'_, '_>, bytes: usize) {
    measure(bencher, Text::Plain, bytes, ours);
}

#[divan::bench(args = SIZES)]
fn ours_escaped(bencher: Bencher<'_, '_>, bytes: usize) {
    measure(bencher, Text::Escaped, bytes, ours);
}

#[divan::bench(args = SIZES)]
fn serde_json_value_and_hash_plain(bencher: Bencher<'_, '_>, bytes: usize) {
    measure(bencher, Text::Plain, bytes, tree);
}

#[divan::bench(args = SIZES)]
fn serde_json_value_and_hash_escaped(bencher: Bencher<'_, '_>, bytes: usize) {
    measure(bencher, Text::Escaped, bytes, tree);
}

#[divan::bench(args = SIZES)]
fn actson_plain(bencher: Bencher<'_, '_>, bytes: usize) {
    measure(bencher, Text::Plain, bytes, actson);
}

#[divan::bench(args = SIZES)]
fn simd_json_plain(bencher: Bencher<'_, '_>, bytes: usize) {
    measure(bencher, Text::Plain, bytes, simd);
}
