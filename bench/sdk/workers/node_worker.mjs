// One Node client under load, in a process of its own. It obeys lines of JSON on standard input and answers each with one line.
//
// The loop is the same for every client: only the two functions that are called, and how long an answer is, differ. This file compares
// nothing and starts nothing; that is the room of `bench/sdk/comparison`.

import { createInterface } from 'node:readline';

// Latencies are counted in buckets whose width is a 128th of their value or less, so a percentile is right within 0.8 %.
const BUCKET_BITS = 7;

// Loading leaves this many writes under way, as the Python worker does.
const LOAD_IN_FLIGHT = 64;

const NANOSECONDS_MAX = 2 ** 32 - 1;

function bucket(nanoseconds) {
  const bounded = Math.min(nanoseconds, NANOSECONDS_MAX);
  const shift = Math.max(0, 32 - Math.clz32(bounded) - BUCKET_BITS - 1);
  return (shift << BUCKET_BITS) + (bounded >>> shift);
}

// A small generator with a seed, so that every client gets the same keys in the same order (Mulberry's constants).
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function shuffledKeys(count, seed) {
  const random = generator(seed);
  const keys = Array.from({ length: count }, (_, number) => `key-${String(number).padStart(7, '0')}`);
  for (let last = keys.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [keys[last], keys[other]] = [keys[other], keys[last]];
  }
  return keys;
}

async function gets({ get, length }, value, keys, at, until, latencies) {
  for (;;) {
    const began = performance.now();
    if (began >= until) return;
    const key = keys[at];
    at = at + 1 === keys.length ? 0 : at + 1;
    const answer = await get(key);
    if (length(answer) !== value.length) throw new Error(`${key}: the answer is ${answer}, which is not what was written`);
    latencies.push(performance.now() - began);
  }
}

async function puts({ put }, value, keys, at, until, latencies) {
  for (;;) {
    const began = performance.now();
    if (began >= until) return;
    const key = keys[at];
    at = at + 1 === keys.length ? 0 : at + 1;
    await put(key, value);
    latencies.push(performance.now() - began);
  }
}

async function load({ put }, value, keys) {
  const rest = keys.values();
  const task = async () => {
    for (const key of rest) await put(key, value);
  };
  await Promise.all(Array.from({ length: LOAD_IN_FLIGHT }, task));
}

async function run(client, { operation, in_flight: inFlight, seconds }, value, keys) {
  const loop = operation === 'get' ? gets : puts;
  const latencies = [];
  const processor = process.cpuUsage();
  const began = performance.now();
  const until = began + seconds * 1000;
  const tasks = Array.from({ length: inFlight }, (_, task) =>
    loop(client, value, keys, Math.floor((keys.length * task) / inFlight), until, latencies),
  );
  await Promise.all(tasks);
  const elapsed = performance.now() - began;
  const used = process.cpuUsage(processor);
  const buckets = new Map();
  for (const latency of latencies) {
    const at = bucket(Math.round(latency * 1e6));
    buckets.set(at, (buckets.get(at) ?? 0) + 1);
  }
  return {
    operations: latencies.length,
    elapsed_ns: Math.round(elapsed * 1e6),
    processor_ns: (used.user + used.system) * 1000,
    buckets: [...buckets],
  };
}

// The clients. Every get answers with a Buffer.

async function quorateClient(endpoint) {
  const { Client } = await import('quorate');
  const client = await Client.connect(endpoint);
  return {
    get: (key) => client.get(key),
    put: (key, value) => client.put(key, value),
    length: (found) => found.value.length,
    close: () => client.close(),
  };
}

async function ioredisClient(endpoint, enableAutoPipelining) {
  const { Redis } = await import('ioredis');
  const [host, port] = endpoint.split(':');
  const client = new Redis({ host, port: Number(port), enableAutoPipelining });
  await client.ping();
  return {
    get: (key) => client.getBuffer(key),
    put: (key, value) => client.set(key, value),
    length: (buffer) => buffer.length,
    close: () => client.quit(),
  };
}

async function nodeRedisClient(endpoint) {
  const { createClient, RESP_TYPES } = await import('redis');
  const plain = await createClient({ url: `redis://${endpoint}` }).connect();
  const client = plain.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  return {
    get: (key) => client.get(key),
    put: (key, value) => client.set(key, value),
    length: (buffer) => buffer.length,
    close: () => plain.close(),
  };
}

// No client: a promise for each operation, kept already. What the loop itself costs.
function nothing() {
  const store = new Map();
  return {
    get: (key) => Promise.resolve(store.get(key)),
    put: (key, value) => Promise.resolve(store.set(key, value)),
    length: (buffer) => buffer.length,
    close: () => Promise.resolve(),
  };
}

const CLIENTS = {
  nothing: () => Promise.resolve(nothing()),
  quorate: (endpoint) => quorateClient(endpoint),
  ioredis: (endpoint) => ioredisClient(endpoint, false),
  'ioredis-pipelining': (endpoint) => ioredisClient(endpoint, true),
  'node-redis': (endpoint) => nodeRedisClient(endpoint),
};

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const answer = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const opening = JSON.parse((await lines.next()).value);
const client = await CLIENTS[opening.client](opening.endpoint);
const keys = shuffledKeys(opening.keys, opening.seed);
const random = generator(opening.seed);
const value = Buffer.from(Array.from({ length: opening.value_bytes }, () => Math.floor(random() * 256)));
answer({ ready: true });
for (let line = await lines.next(); !line.done; line = await lines.next()) {
  const command = JSON.parse(line.value);
  if (command.do === 'load') {
    await load(client, value, keys);
    answer({});
  } else {
    answer(await run(client, command, value, keys));
  }
}
await client.close();
