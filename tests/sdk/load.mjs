// What a client is asked to do while somebody else watches, in Node: the same tasks, words and answers as `quorate-load` in Rust
// (`tests/cluster/src/load.rs`) and `load.py` in Python. Rows of `tests/proof` start it, and judge. Not a measurement of speed.
//
//     load.mjs kinds|strict|memory --endpoints ADDRESS,... --operations COUNT
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { Client, Context, QuorateError } from "../../sdk-node/dist/index.mjs";

// Hands that work at the same time.
const HANDS = 64;
// Operations of one round of "kinds", and keys of its batches.
const ROUND = 23;
const BATCH = 3;
// Keys of one hand of "strict", and how often it may send an operation.
const STRICT_KEYS = 20;
const ATTEMPTS = 2;
// "memory": one call in so many comes before the first look; keys, the size of values, and gets for every put.
const WARM = 5;
const MEMORY_KEYS = 1000;
const VALUE = Buffer.alloc(100, 7);
const GETS_PER_PUT = 10;

const inHands = (work) => Promise.all(Array.from({ length: HANDS }, (_, hand) => work(hand)));
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

async function kinds(db, operations) {
  const rounds = Math.max(1, Math.ceil(operations / (HANDS * ROUND)));
  const wrong = await inHands(async (hand) => {
    let wrong = 0;
    for (let number = 0; number < rounds; number += 1) wrong += await oneRound(db, `${hand}/${number}`);
    return wrong;
  });
  let scanned = 0;
  for await (const _ of db.scan()) scanned += 1;
  // Of every round, the updated key and the first key of the batch are left.
  const left = scanned === HANDS * rounds * 2 ? 0 : 1;
  return { operations: HANDS * rounds * ROUND, wrong: sum(wrong) + left, scanned };
}

/** Writes, reads, replaces, merges and deletes; how many answers were not what they had to be. */
async function oneRound(db, name) {
  const [key, other, merged] = [`key ${name}`, `other ${name}`, `merged ${name}`];
  const right = [!(await db.exists(key, { level: "quorum" }))];
  right.push((await db.put(key, "first", { level: "quorum" })).siblings === 1);
  const first = await db.lookup(key);
  right.push(first.value.toString() === "first");
  await db.put(key, "second", { context: first.context, level: "all" });
  right.push((await db.get(key, { level: "one" })).value.toString() === "second");
  right.push((await db.put(key, "beside", { context: Context.EMPTY })).siblings === 2);
  await db.update(key, (values) => Buffer.concat(values));
  right.push((await db.get(key)).siblings.length === 1);
  await db.put(other, "other", { level: "one" });
  await db.delete(other, { level: "quorum" });
  right.push((await db.get(other, { level: "quorum" })) === null);
  await db.delete(key, { level: "quorum" });
  await db.update(merged, (values) => `${values.length} values`);
  const keys = Array.from({ length: BATCH }, (_, at) => `batch ${at} ${name}`);
  right.push(...(await db.putMany(keys.map((key) => [key, "many"]), { level: "quorum" })).map((stored) => stored.siblings === 1));
  right.push(...(await db.getMany(keys)).map((found) => found.value.toString() === "many"));
  right.push(...(await db.deleteMany(keys.slice(1))).map((deleted) => !(deleted instanceof Error)));
  return right.filter((is) => !is).length;
}

async function strict(db) {
  let stop = false;
  process.stdin.on("end", () => (stop = true)).resume();
  const errors = {};
  const seen = await inHands(async (hand) => {
    let [operations, wrong] = [0, 0];
    const contexts = Array(STRICT_KEYS).fill(Context.EMPTY);
    while (!stop) {
      const [at, value] = [(operations / 2) % STRICT_KEYS, `${hand}/${operations}`];
      const key = `strict ${process.pid} ${hand} ${at}`;
      operations += 2;
      try {
        await db.put(key, value, { context: contexts[at], level: "quorum" });
        const found = await db.get(key, { level: "quorum" });
        if (found === null || found.siblings.length !== 1 || found.value.toString() !== value) wrong += 1;
        else contexts[at] = found.context;
      } catch (error) {
        if (!(error instanceof QuorateError)) throw error;
        errors[error.message] = (errors[error.message] ?? 0) + 1;
      }
    }
    return [operations, wrong];
  });
  const { retries } = await db.stats();
  return { operations: sum(seen.map(([count]) => count)), wrong: sum(seen.map(([, wrong]) => wrong)), errors, retries: Number(retries) };
}

async function memory(db, calls) {
  const entries = Array.from({ length: MEMORY_KEYS }, (_, at) => [`memory ${at}`, VALUE]);
  for (const stored of await db.putMany(entries, { level: "one" })) if (stored instanceof Error) throw stored;
  const some = (count) =>
    inHands(async (hand) => {
      for (let number = 0; number < Math.floor(count / HANDS); number += 1) {
        const key = `memory ${(number * HANDS + hand) % MEMORY_KEYS}`;
        if (number % GETS_PER_PUT === 0) await db.put(key, VALUE, { level: "one" });
        else await db.get(key, { level: "one" });
      }
    });
  await some(Math.floor(calls / WARM));
  const before = residentBytes();
  const started = performance.now();
  await some(calls - Math.floor(calls / WARM));
  const seconds = (performance.now() - started) / 1000;
  return { operations: calls, before_bytes: before, after_bytes: residentBytes(), seconds };
}

/** What this process has resident; what only waits for the collector is not counted. */
function residentBytes() {
  globalThis.gc?.();
  const line = readFileSync("/proc/self/status", "utf8").split("\n").find((line) => line.startsWith("VmRSS:"));
  return Number(line.split(/\s+/)[1]) * 1024;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { endpoints: { type: "string" }, operations: { type: "string", default: "1000" } },
});
const [task] = positionals;
const settings = { endpoints: values.endpoints, ...(task === "strict" ? { attempts: ATTEMPTS } : {}) };
const db = await Client.connect(settings);
const operations = Number(values.operations);
const answer = await (task === "kinds" ? kinds(db, operations) : task === "strict" ? strict(db) : memory(db, operations));
await db.close();
process.stdin.destroy();
console.log(JSON.stringify(answer));
