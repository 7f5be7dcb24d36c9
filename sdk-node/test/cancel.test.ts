/**
 * Signals: whatever takes one ends with its reason as soon as it is given, and nothing of it stays behind.
 */

import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { after, before, it } from 'node:test';

import { Client, TimeoutError } from 'quorate';
import { LocalCluster } from 'quorate/testing';

let cluster: LocalCluster;
let db: Client;

before(async () => {
  cluster = await LocalCluster.start({ nodes: 3 });
  db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: 5_000, attemptTimeoutMs: 5_000 });
  await db.put('key', 'value');
});

after(async () => {
  await db?.close();
  await cluster?.close();
});

/** Does something while no node answers. */
async function whilePaused<T>(work: () => Promise<T>): Promise<T> {
  for (const at of [0, 1, 2]) await cluster.pause(at);
  try {
    return await work();
  } finally {
    for (const at of [0, 1, 2]) await cluster.resume(at);
  }
}

it('a signal that was given already ends the call before it begins', async () => {
  const reason = new Error('mine');
  const calls = await db.stats();
  await assert.rejects(db.get('key', { signal: AbortSignal.abort(reason) }), (error) => error === reason);
  await assert.rejects(db.put('key', 'never', { signal: AbortSignal.abort() }), { name: 'AbortError' });
  await assert.rejects(db.update('key', () => 'never', { signal: AbortSignal.abort(reason) }), (error) => error === reason);
  await assert.rejects(db.scan({ signal: AbortSignal.abort(reason) }).next(), (error) => error === reason);
  await assert.rejects(Client.connect({ endpoints: cluster.endpoints, signal: AbortSignal.abort(reason) }), (error) => error === reason);
  assert.equal((await db.get('key'))?.value.toString(), 'value');
  assert.equal((await db.stats()).failed, calls.failed);
});

it('a signal ends calls of every kind in the middle, with its reason', async () => {
  await whilePaused(async () => {
    const abort = new AbortController();
    const { signal } = abort;
    const calls = [
      db.get('key', { signal }),
      db.put('other', 'a', { signal }),
      db.getMany(['key', 'other'], { signal }),
      db.update('key', () => 'never', { signal }),
      db.scan({ signal }).next(),
      db.ping({ signal }),
      Client.connect({ endpoints: cluster.endpoints, signal }),
    ];
    const began = Date.now();
    setTimeout(() => abort.abort('enough'), 50);
    const ended = await Promise.allSettled(calls);
    assert.ok(Date.now() - began < 2_000);
    assert.deepEqual(ended.map((each) => each.status === 'rejected' && each.reason), Array(calls.length).fill('enough'));
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  });
  assert.equal((await db.get('key'))?.value.toString(), 'value');
});

it('what was withdrawn does not come back as the answer of another call', async () => {
  for (let round = 0; round < 50; round += 1) {
    const abort = new AbortController();
    const withdrawn = Array.from({ length: 20 }, () => db.get('key', { signal: abort.signal }).catch(() => 'withdrawn'));
    if (round % 2 === 0) await new Promise(setImmediate);
    abort.abort();
    const others = await Promise.all(Array.from({ length: 20 }, (_, at) => db.get(`nothing ${at}`)));
    assert.ok(others.every((found) => found === null));
    await Promise.all(withdrawn);
  }
});

it('a signal that is never given leaves no listener behind, and a thousand calls may share one', async () => {
  const { signal } = new AbortController();
  const warnings: Error[] = [];
  process.on('warning', (warning) => warnings.push(warning));
  const calls = Array.from({ length: 1000 }, () => db.get('key', { signal }));
  assert.equal(getEventListeners(signal, 'abort').length, 1);
  await Promise.all(calls);
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  await new Promise(setImmediate);
  assert.deepEqual(warnings, []);
});

it('AbortSignal.timeout ends a call as itself, timeoutMs as a TimeoutError of the client', async () => {
  await whilePaused(async () => {
    await assert.rejects(db.get('key', { signal: AbortSignal.timeout(50) }), (error) => error instanceof DOMException && error.name === 'TimeoutError');
    const began = Date.now();
    await assert.rejects(db.put('key', 'late', { timeoutMs: 200 }), (error) => {
      assert.ok(error instanceof TimeoutError);
      assert.equal(error.code, 'timeout');
      assert.equal(error.maybeApplied, true);
      assert.equal(error.attempts, 1);
      assert.match(String(error.node), /^n[123]$/);
      assert.ok(error.elapsedMs >= 190 && error.elapsedMs < 5_000);
      return true;
    });
    assert.ok(Date.now() - began < 3_000);
  });
});

it('a loop over a scan ends with the reason of its signal', async () => {
  const bucket = db.bucket('scanned');
  await bucket.putMany(Array.from({ length: 600 }, (_, at) => [`key ${at}`, 'x'] as const));
  const abort = new AbortController();
  const given = once(abort.signal, 'abort');
  let seen = 0;
  await assert.rejects(async () => {
    for await (const _ of bucket.scan({ signal: abort.signal })) {
      seen += 1;
      abort.abort(new Error('seen enough'));
    }
  }, { message: 'seen enough' });
  await given;
  assert.ok(seen > 0 && seen < 600);
});
