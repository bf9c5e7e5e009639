//! `cargo bench --profile host -p parse-cost`: each reader on each body, for work on one of them.
//!
//! `scripts/bench parse` is for comparisons: there all readers take turns under the same load of the machine.

use std::fmt;

use divan::Bencher;
use divan::counter::BytesCount;
use parse_cost::{Text, actson, body, ours, simd, tree};

const SIZES: [usize; 5] = [1 << 10, 16 << 10, 128 << 10, 1 << 20, 8 << 20];
const READERS: [(&str, Read); 4] = [
    ("ours", ours),
    ("serde_json value and hash", tree),
    ("actson", actson),
    ("simd-json", simd),
];

type Read = fn(&[u8]) -> u64;

/// A reader on a body.
struct Case {
    name: &'static str,
    read: Read,
    text: Text,
    bytes: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?}, {} bytes", self.name, self.text, self.bytes)
    }
}

fn main() {
    divan::main();
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, read) in READERS {
        for text in [Text::Plain, Text::Escaped] {
            cases.extend(SIZES.map(|bytes| Case {
                name,
                read,
                text,
                bytes,
            }));
        }
    }
    cases
}

#[divan::bench(args = cases())]
fn read(bencher: Bencher<'_, '_>, case: &Case) {
    let body = body(case.text, case.bytes);
    let counted = bencher.counter(BytesCount::new(body.len()));
    counted.bench_local(|| (case.read)(divan::black_box(&body)));
}
