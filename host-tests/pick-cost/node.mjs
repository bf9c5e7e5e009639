// Measures picks in wasm32: `node node.mjs <pick_cost.wasm>` prints one JSON row for each kind of pool and prompt.
import { readFileSync } from "node:fs";

const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const picks = 2001;
const filling = { blocks: 200, prompts: 18750 };
const mebibytes = (memory) => Math.round((memory.buffer.byteLength / 2 ** 20) * 10) / 10;
const microseconds = (nanoseconds) => Math.round(Number(nanoseconds) / 100) / 10;

// Nanoseconds of so many picks, sorted.
const times = ({ prepare, pick }, goesOn, blocks, picks) => {
  const times = [];
  for (let n = 0; n < picks; n++) {
    prepare(goesOn, BigInt(blocks));
    const start = process.hrtime.bigint();
    pick();
    times.push(process.hrtime.bigint() - start);
  }
  return times.sort((a, b) => (a < b ? -1 : 1));
};

for (const [starts, name] of ["own", "one of 64", "the same"].entries()) {
  const { exports } = new WebAssembly.Instance(module);
  exports.start(starts);
  const slowest = times(exports, 0, filling.blocks, filling.prompts).at(-1);
  for (const goesOn of [1, 0]) {
    for (const blocks of [1, 190, 1000]) {
      const sorted = times(exports, goesOn, blocks, picks);
      console.log(JSON.stringify({
        part: "pick", runs: "wasm", starts: name, goes_on: goesOn === 1, blocks,
        p50_us: microseconds(sorted[picks >> 1]), p99_us: microseconds(sorted[Math.floor(picks * 0.99)]),
        slowest_while_filling_us: microseconds(slowest), memory_mib: mebibytes(exports.memory),
      }));
    }
  }
}
