/**
 * What the application's code may do while the client reads what it was given, and what becomes of the client when the addon fails:
 * no request is written into another, and no call is left without an end.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { after, before, it } from 'node:test';

import { Client, Found, InternalError, Stored, TimeoutError } from 'quorate';
import { LocalCluster } from 'quorate/testing';

const KEYS = Array.from({ length: 50 }, (_, at) => `key ${at}`);

let cluster: LocalCluster;
let db: Client;

before(async () => {
  cluster = await LocalCluster.start({ nodes: 3 });
  db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: 30_000 });
  await Promise.all(KEYS.map((key) => db.put(key, key, { level: 'all' })));
});

after(async () => {
  await db?.close();
  await cluster?.close();
});

const values = (found: ReadonlyArray<unknown>): string[] => found.map((each) => (each instanceof Found ? each.value.toString() : String(each)));

it('an iterator may make calls on the same client while a batch is made of it', async () => {
  const inner: Array<Promise<Found | null>> = [];
  function* keys(): Generator<string> {
    for (const key of KEYS) {
      inner.push(db.get(key));
      yield key;
    }
  }
  const outer = db.getMany(keys());
  assert.deepEqual(values(await outer), KEYS);
  assert.deepEqual(values(await Promise.all(inner)), KEYS);
});

it('an iterator may abort calls of the same client while a batch is made of it', async () => {
  const abort = new AbortController();
  const aborted = db.get('key 0', { signal: abort.signal });
  function* keys(): Generator<string> {
    yield 'key 1';
    abort.abort('enough');
    yield 'key 2';
  }
  const outer = db.getMany(keys());
  await assert.rejects(aborted, (reason) => reason === 'enough');
  assert.deepEqual(values(await outer), ['key 1', 'key 2']);
});

it('getters of options and entries may make calls, and end others', async () => {
  const inner: Array<Promise<Found | null>> = [];
  const abort = new AbortController();
  const aborted = db.get('key 0', { signal: abort.signal }).catch((reason: unknown) => reason);
  const call = (): undefined => {
    inner.push(db.get('key 7'));
    abort.abort('enough');
    return undefined;
  };
  const options = { get level() { return call(); }, get ttlMs() { return call(); }, get context() { return call(); }, get timeoutMs() { return call(); }, get signal() { return call(); } };
  const entry = { get key() { call(); return 'entry'; }, get value() { call(); return 'of getters'; }, get context() { return call(); }, get ttlMs() { return call(); } };
  assert.ok((await db.put('one', 'put', options)) instanceof Stored);
  assert.ok((await db.putMany([entry], options))[0] instanceof Stored);
  assert.ok((await db.update('updated', () => 'merged', options)) instanceof Stored);
  assert.equal((await db.get('one', options))?.value.toString(), 'put');
  assert.equal((await db.get('entry', { level: 'quorum' }))?.value.toString(), 'of getters');
  assert.ok((await db.deleteMany([entry], options))[0] instanceof Stored);
  assert.ok(inner.length > 20);
  assert.deepEqual(new Set(values(await Promise.all(inner))), new Set(['key 7']));
  assert.equal(await aborted, 'enough');
});

it('a generator may use its buffer again', async () => {
  const buffer = Buffer.alloc(5);
  function* keys(): Generator<Buffer> {
    for (const key of KEYS.slice(0, 10)) {
      buffer.write(key);
      yield buffer;
    }
  }
  assert.deepEqual(values(await db.getMany(keys())), KEYS.slice(0, 10));
});

/** The addon's side of a client, to let it fail. */
const nativeOf = (client: Client): Record<string, unknown> => (client as unknown as { bridge: { native: Record<string, unknown> } }).bridge.native;

it('calls that the addon does not take end as an InternalError, and the next ones are taken', async () => {
  const native = nativeOf(db);
  native.submit = () => {
    throw new Error('refused');
  };
  const { signal } = new AbortController();
  const calls = [db.get('key 1'), db.put('key 1', 'refused', { signal }), db.getMany(KEYS)];
  const ended = await Promise.allSettled(calls);
  delete native.submit;
  for (const each of ended) {
    assert.ok(each.status === 'rejected' && each.reason instanceof InternalError && /refused/.test(each.reason.message), String(each.status));
  }
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  assert.equal((await db.get('key 1', { level: 'quorum' }))?.value.toString(), 'key 1');
});

it('a client is woken again after the addon failed while it looked for an answer', () => {
  const script = `
    const { Client } = require(${JSON.stringify(require.resolve('quorate'))});
    let failed = 0;
    // A clock that stands still: every answer seems to come at once, so the client looks for the next one.
    performance.now = () => 1;
    process.on('uncaughtException', (error) => { if (error.message !== 'mine') throw error; failed += 1; });
    Client.connect({ endpoints: ${JSON.stringify(cluster.endpoints)}, timeoutMs: 20_000 }).then(async (db) => {
      const { bridge } = db;
      for (let at = 0; at < 20; at += 1) {
        await db.get('key 1');
        const drain = bridge.native.drain;
        bridge.native.drain = (...room) => {
          const error = new Error('mine');
          if (!/#look/.test(error.stack)) return drain.apply(bridge.native, room);
          delete bridge.native.drain;
          throw error;
        };
        await db.get('key 1').catch(() => {});
      }
      await db.close();
      console.log(failed > 0 ? 'woken' : 'never failed');
      process.exit(0);
    });`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], { timeout: 30_000, encoding: 'utf8' });
  assert.equal(stdout.trim(), 'woken', stderr);
});

it('a merge that never ends ends with its update: as its deadline or its signal says', async () => {
  const never = (): Promise<string> => new Promise(() => {});
  const began = performance.now();
  await assert.rejects(db.update('key 1', never, { timeoutMs: 300 }), (error) => {
    assert.ok(error instanceof TimeoutError && error.code === 'timeout' && !error.maybeApplied && error.elapsedMs >= 300, String(error));
    return true;
  });
  const took = performance.now() - began;
  assert.ok(took >= 290 && took < 10_000, `${took} ms`);
  const abort = new AbortController();
  setTimeout(() => abort.abort('enough'), 50);
  await assert.rejects(db.update('key 1', never, { signal: abort.signal }), (reason) => reason === 'enough');
  assert.equal(getEventListeners(abort.signal, 'abort').length, 0);
  assert.equal((await db.get('key 1', { level: 'quorum' }))?.value.toString(), 'key 1');
});
