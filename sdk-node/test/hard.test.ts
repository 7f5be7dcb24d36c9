/**
 * The client at its limits, against real nodes: large values, ten thousand calls at once, nodes that stand still, aborting by the thousand,
 * workers that are ended in the middle, and what a hostile or careless program does to it. Every call ends by its deadline with the right
 * error, and nothing is left behind.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { getEventListeners, once } from 'node:events';
import { readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import { Client, ClientClosedError, Context, Found, QuorateError, SiblingsError, TooLargeError } from 'quorate';
import { LocalCluster } from 'quorate/testing';

/** Calls at the same time: ten times as many as a client has under way unless told otherwise, so that most of them wait. */
const CALLS = 10_000;

/** How late a call may end: timers of a machine whose two cores do other things too, and ten thousand results that are made into objects. */
const LATE_MS = 1_000;

/** A timeout that is not what a test is about. */
const LONG_MS = 30_000;

/** How calls may end to which nobody answers. */
const ENDS = ['TimeoutError', 'UnavailableError', 'QuorumTimeoutError', 'ConnectionError'];

/** Longer than anything here takes. */
const PATIENCE_MS = 30_000;

let cluster: LocalCluster;

before(async () => {
  cluster = await LocalCluster.start({ nodes: 3 });
});

after(() => cluster.close());

/** Bytes that no other length and no shift of themselves could be taken for. */
function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0, state = length | 1; at < length; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const range = <T>(count: number, make: (at: number) => T): T[] => Array.from({ length: count }, (_, at) => make(at));

/** This process's threads or descriptors. */
const own = (what: 'task' | 'fd'): number => readdirSync(`/proc/self/${what}`).length;

async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; !(await is()); await sleep(20)) {
    assert.ok(Date.now() < deadline, `${what}: not within ${PATIENCE_MS} ms`);
  }
}

async function untilIdle(db: Client): Promise<void> {
  await until('nothing is under way', async () => {
    const { inFlight, waiting } = await db.stats();
    return Number(inFlight) + Number(waiting) === 0;
  });
}

/** Runs something while no node answers, and waits until all serve each other again. */
async function frozen<T>(run: () => Promise<T>): Promise<T> {
  await cluster.pause(0, 1, 2);
  try {
    return await run();
  } finally {
    await cluster.resume(0, 1, 2);
    await using db = await Client.connect(cluster.endpoints);
    await until('the nodes serve again', () =>
      db.put('recovered', 'value', { level: 'all' }).then(
        () => true,
        () => false,
      ),
    );
  }
}

/** How a call ended, and after how long. */
async function ending(call: Promise<unknown>): Promise<{ error: unknown; ms: number }> {
  const began = performance.now();
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return { error, ms: performance.now() - began };
}

describe('large values', () => {
  for (const length of [0, 1, 16_384, 16_385, 256 << 10, 1 << 20]) {
    it(`of ${length} bytes come back as they were`, async () => {
      await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
      const value = noise(length);
      await db.put(`size ${length}`, value, { level: 'all' });
      for (const level of ['one', 'quorum', 'all'] as const) {
        const found = await db.get(`size ${length}`, { level });
        assert.equal(digest(found!.value), digest(value));
      }
      await Promise.all(range(16, (at) => db.put(`size ${length} ${at}`, value)));
      const all = await Promise.all(range(16, (at) => db.get(`size ${length} ${at}`)));
      assert.ok(all.every((found) => found?.value.equals(value)));
      // What was handed out stays what it is, whatever comes through the shared buffers later.
      await Promise.all(range(100, (at) => db.get(`size ${length} ${at % 16}`)));
      assert.ok(all.every((found) => found?.value.equals(value)));
    });
  }

  it('above the limit are refused before they are sent', async () => {
    await using db = await Client.connect(cluster.endpoints);
    const { error } = await ending(db.put('too large', Buffer.alloc((1 << 20) + 1)));
    assert.ok(error instanceof TooLargeError && !error.maybeApplied && !error.retryable);
  });
});

describe('ten thousand calls at once', () => {
  it('are all answered', async () => {
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
    await Promise.all(range(CALLS, (at) => db.put(`many ${at}`, String(at))));
    const found = await Promise.all(range(CALLS, (at) => db.get(`many ${at}`, { level: 'quorum' })));
    assert.ok(found.every((each, at) => each?.value.toString() === String(at)));
    await untilIdle(db);
  });

  it('to nodes that stand still end by their deadline', async () => {
    const timeoutMs = 1_000;
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs });
    await db.put('frozen', 'value', { level: 'all' });
    const ended = await frozen(() =>
      Promise.all(range(CALLS, (at) => ending(at % 2 ? db.put(`frozen ${at}`, 'value') : db.get('frozen', { level: 'quorum' })))),
    );
    const latest = Math.max(...ended.map(({ ms }) => ms));
    console.log(`the latest of ${CALLS} calls of ${timeoutMs} ms ended after ${latest.toFixed(0)} ms`);
    assert.ok(latest <= timeoutMs + LATE_MS, `${latest} ms`);
    ended.forEach(({ error }, at) => {
      assert.ok(error instanceof QuorateError && ENDS.includes(error.name), String(error));
      assert.ok(at % 2 || !error.maybeApplied);
    });
    assert.ok(ended.some(({ error }) => (error as QuorateError).maybeApplied));
    await untilIdle(db);
  });

  it('of other kinds too', async () => {
    const timeoutMs = 700;
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs });
    await db.put('frozen', 'value', { level: 'all' });
    const scan = async (): Promise<void> => {
      for await (const key of db.scan()) {
        assert.ok(key);
      }
    };
    const ended = await frozen(async () => {
      const many = db.getMany(range(1000, (at) => `frozen ${at}`));
      const single = await Promise.all([
        ending(db.update('frozen', (values) => Buffer.concat(values))),
        ending(scan()),
        ending(db.exists('frozen', { level: 'quorum' })),
      ]);
      assert.ok((await many).every((each) => each instanceof QuorateError && ENDS.includes(each.name)));
      return single;
    });
    for (const { error, ms } of ended) {
      assert.ok(error instanceof QuorateError && ENDS.includes(error.name), String(error));
      assert.ok(ms <= timeoutMs + LATE_MS, `${ms} ms`);
    }
  });
});

describe('aborting', () => {
  it('by the thousand leaves nothing', async () => {
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
    for (let round = 0; round < 20; round += 1) {
      const controllers = range(1000, () => new AbortController());
      const calls = controllers.map(({ signal }, at) => ending(db.put(`storm ${at % 50}`, String(at), { signal })));
      await sleep(round / 2);
      controllers.filter((_, at) => at % 10).forEach((controller, at) => controller.abort(at % 3 ? undefined : new Error('mine')));
      for (const { error } of await Promise.all(calls)) {
        assert.ok(error === undefined || (error as Error).name === 'AbortError' || (error as Error).message === 'mine', String(error));
      }
    }
    await untilIdle(db);
    const { failed } = await db.stats();
    assert.equal(Number(failed), 0);
    assert.ok((await db.put('storm', 'is over')).siblings >= 1);
  });

  it('with one signal for thousands of calls leaves no listener', async () => {
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
    const warnings: Error[] = [];
    const warn = (warning: Error): unknown => warnings.push(warning);
    process.on('warning', warn);
    const controller = new AbortController();
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(range(2000, (at) => db.get(`storm ${at % 50}`, { signal: controller.signal })));
    }
    const calls = range(2000, (at) => ending(db.get(`storm ${at % 50}`, { signal: controller.signal })));
    controller.abort();
    const ended = await Promise.all(calls);
    assert.ok(ended.every(({ error }) => error === undefined || (error as Error).name === 'AbortError'));
    const { error } = await ending(db.get('storm', { signal: controller.signal }));
    assert.equal((error as Error).name, 'AbortError');
    await sleep(10);
    process.off('warning', warn);
    assert.deepEqual(warnings, []);
    assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
    await untilIdle(db);
  });
});

describe('ending in the middle', () => {
  it('closes while no node answers, by the deadline of the calls', async () => {
    const db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: 800 });
    await db.put('close', 'value');
    await frozen(async () => {
      const calls = range(1000, (at) => ending(db.put(`close ${at}`, 'value')));
      const { error, ms } = await ending(db.close());
      assert.equal(error, undefined);
      assert.ok(ms <= 800 + LATE_MS, `${ms} ms`);
      for (const { error } of await Promise.all(calls)) {
        assert.ok(error instanceof QuorateError && [...ENDS, 'ClientClosedError'].includes(error.name), String(error));
      }
    });
    await assert.rejects(db.get('close'), ClientClosedError);
  });

  it('terminates workers while no node answers', async () => {
    const before = own('task');
    const script = `
      const { workerData, parentPort } = require('node:worker_threads');
      const { Client } = require(workerData.quorate);
      (async () => {
        const db = await Client.connect({ endpoints: workerData.endpoints, timeoutMs: 60_000, attemptTimeoutMs: 60_000 });
        parentPort.postMessage('connected');
        await new Promise((resolve) => parentPort.once('message', resolve));
        for (let at = 0; at < 500; at += 1) db.put('worker' + at, Buffer.alloc(at)).catch(() => {});
        parentPort.postMessage('busy');
      })();`;
    const workerData = { quorate: require.resolve('quorate'), endpoints: cluster.endpoints };
    const workers = range(4, () => new Worker(script, { eval: true, workerData }));
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    await frozen(async () => {
      const busy = workers.map((worker) => once(worker, 'message'));
      workers.forEach((worker) => worker.postMessage('go'));
      await Promise.all(busy);
      const began = performance.now();
      await Promise.all(workers.map((worker) => worker.terminate()));
      assert.ok(performance.now() - began < 10_000, 'they waited for their calls');
    });
    await until('their threads have ended', () => own('task') <= before);
  });

  it('gives back threads and descriptors of clients by the hundred', async () => {
    await (await Client.connect(cluster.endpoints)).close();
    const [threads, descriptors] = [own('task'), own('fd')];
    const rounds = Math.round(100 * Number(process.env['QUORATE_PROOF'] ?? 1));
    for (let round = 0; round < rounds; round += 1) {
      const db = await Client.connect(cluster.endpoints);
      const call = ending(db.put('client', 'value'));
      await (round % 2 ? call : undefined);
      await db.close();
      await call;
    }
    await until('the threads have ended', () => own('task') <= threads);
    await until('the descriptors are closed', () => own('fd') <= descriptors);
  });
});

describe('a careless program', () => {
  it('asks for a hundred thousand keys and has them in order', async () => {
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
    const keys = range(100_000, (at) => `batch ${at}`);
    const stored = await db.putMany(keys.map((key) => [key, key] as const), { level: 'quorum' });
    assert.ok(stored.length === keys.length && stored.every((each) => !(each instanceof Error)));
    const found = await db.getMany(keys, { level: 'quorum' });
    assert.ok(found.every((each, at) => each instanceof Found && each.value.toString() === keys[at]));
  });

  it('changes its buffers after the call', async () => {
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
    for (const length of [100, 16_385, 1 << 20]) {
      const [key, value] = [Buffer.from(`changing ${length}`), noise(length)];
      const call = db.put(key, value);
      key.fill(0);
      value.fill(0);
      await call;
      assert.equal(digest((await db.get(`changing ${length}`))!.value), digest(noise(length)));
    }
  });

  it('throws in a merge, uses the client in it, or gives no value', async () => {
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
    await db.put('merged', 'before', { level: 'all' });
    const mine = new Error('mine');
    const endless = (): Buffer => endless();
    await assert.rejects(db.update('merged', () => { throw mine; }), (error) => error === mine);
    await assert.rejects(db.update('merged', () => Promise.reject(mine)), (error) => error === mine);
    await assert.rejects(db.update('merged', endless), RangeError);
    for (const nothing of [undefined, null, 7, {}, ['bytes']]) {
      await assert.rejects(db.update('merged', () => nothing as unknown as Buffer), (error) => error instanceof TypeError || error instanceof QuorateError);
    }
    assert.equal((await db.get('merged', { level: 'quorum' }))!.value.toString(), 'before');
    await db.update('merged', async (values) => {
      await db.update('inner', () => 'inner');
      return `${values.length}`;
    });
    assert.equal((await db.get('merged', { level: 'quorum' }))!.value.toString(), '1');
  });

  it('has a resolver that throws', async () => {
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
    const endless = (): Buffer => endless();
    const bucket = db.bucket('hard', { resolver: endless });
    await bucket.put('key', 'one', { context: Context.EMPTY });
    await bucket.put('key', 'two', { context: Context.EMPTY });
    const found = await bucket.get('key');
    assert.equal(found!.siblings.length, 2);
    assert.throws(() => found!.value, RangeError);
    const plain = await db.bucket('hard').get('key');
    assert.throws(() => plain!.value, SiblingsError);
  });

  it('gives iterables that fail, and options that mean nothing', async () => {
    await using db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: LONG_MS });
    const mine = new Error('mine');
    function* failing(): Generator<[string, string]> {
      yield ['failing', 'value'];
      throw mine;
    }
    const { error } = await ending(Promise.resolve().then(() => db.putMany(failing())));
    assert.equal(error, mine);
    assert.deepEqual([await db.getMany([]), await db.putMany([]), await db.deleteMany([])], [[], [], []]);
    const { operationsSent } = await db.stats();
    const senseless = [{ timeoutMs: -1 }, { timeoutMs: NaN }, { timeoutMs: '1' }, { level: 'most' }, { level: 1 }, { r: -1 }, { r: 300 }, { n: 2.5 }, { signal: {} }];
    for (const options of senseless) {
      const { error } = await ending(Promise.resolve().then(() => db.get('key', options as object)));
      assert.ok(error instanceof Error, `${JSON.stringify(options)} was taken`);
    }
    for (const key of [undefined, null, 7, {}, Symbol('key')]) {
      const { error } = await ending(Promise.resolve().then(() => db.get(key as unknown as string)));
      assert.ok(error instanceof Error, `${String(key)} was taken`);
    }
    assert.equal((await db.stats()).operationsSent, operationsSent);
  });
});
