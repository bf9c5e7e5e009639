// Measures the reader in wasm32: `node node.mjs <parse_cost.wasm>` prints one JSON row for each body.
import { readFileSync } from "node:fs";

const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]));
const { prepare, run_ours, run_tree } = instance.exports;
const batchBytes = 400_000;
const rounds = 31;

const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
const nanoseconds = (run, times) => {
  const start = performance.now();
  run(times);
  return ((performance.now() - start) * 1e6) / times;
};

for (const escaped of [0, 1]) {
  for (const size of [1 << 10, 16 << 10, 128 << 10, 1 << 20, 8 << 20]) {
    const bytes = prepare(escaped, size);
    const times = Math.max(1, Math.floor(batchBytes / bytes));
    // V8 compiles better what it has run for a while, as in a gateway.
    nanoseconds(run_ours, times * 20), nanoseconds(run_tree, times * 20);
    const ours = [], tree = [];
    for (let round = 0; round < rounds; round++) {
      ours.push(nanoseconds(run_ours, times));
      tree.push(nanoseconds(run_tree, times));
    }
    const [o, t] = [median(ours), median(tree)];
    console.log(JSON.stringify({
      text: escaped ? "escaped" : "plain", body_bytes: bytes, ours_ns: Math.round(o),
      serde_json_value_and_hash_ns: Math.round(t), ratio: Math.round((t / o) * 100) / 100,
      gb_per_s: Math.round((bytes / o) * 100) / 100,
    }));
  }
}
