/**
 * What goes wrong: wrong types are TypeErrors that say what was expected, everything else is an error of the client that says
 * what happened, whether anything may have been applied, and what to do.
 */

import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { after, before, it } from 'node:test';

import * as quorate from 'quorate';
import { Client, ClientClosedError, ConnectionError, InvalidRequestError, QuorateError, TooLargeError, UnavailableError } from 'quorate';
import { LocalCluster } from 'quorate/testing';

let cluster: LocalCluster;
let db: Client;

before(async () => {
  cluster = await LocalCluster.start({ nodes: 3 });
  db = await Client.connect(cluster.endpoints);
});

after(async () => {
  await db?.close();
  await cluster?.close();
});

/** Whatever a caller without TypeScript might pass. */
const wrong = (value: unknown): never => value as never;

it('a wrong type rejects with a TypeError that names what was expected', async () => {
  const cases: Array<[() => Promise<unknown>, RegExp]> = [
    [() => db.get(wrong(5)), /^key: expected a string or a Uint8Array, not 5$/],
    [() => db.get(wrong(undefined)), /^key: expected a string or a Uint8Array, not undefined$/],
    [() => db.get(wrong(new Uint16Array(2))), /^key: expected a string or a Uint8Array, not Uint16Array/],
    [() => db.put('key', wrong({ json: true })), /^value: expected a string or a Uint8Array, not/],
    [() => db.put('key', wrong(null)), /^value: expected a string or a Uint8Array, not null$/],
    [() => db.get('key', wrong('quorum')), /^options: expected an object, not 'quorum'$/],
    [() => db.get('key', { level: wrong('most') }), /^level: expected one of 'one', 'available', 'quorum', 'all', not 'most'$/],
    [() => db.get('key', { r: 1.5 }), /^r: expected a whole number from 1 to 255, not 1.5$/],
    [() => db.put('key', 'a', { w: -1 }), /^w: expected a whole number/],
    [() => db.put('key', 'a', { ttlMs: wrong('1s') }), /^ttlMs: expected a number of milliseconds above 0, not '1s'$/],
    [() => db.get('key', { timeoutMs: NaN }), /^timeoutMs: expected a number of milliseconds above 0, not NaN$/],
    [() => db.put('key', 'a', { context: wrong('AQEA') }), /^context: expected a Context, not 'AQEA'$/],
    [() => db.get('key', { signal: wrong({}) }), /^signal: expected an AbortSignal, not {}$/],
    [() => db.getMany(wrong('key')), /^keys: expected an iterable, not 'key'$/],
    [() => db.getMany(wrong(5)), /^keys: expected an iterable, not 5$/],
    [() => db.putMany(wrong([5])), /^entry: expected a pair of key and value, or an object with both, not 5$/],
    [() => db.putMany([wrong(['only a key'])]), /^value: expected a string or a Uint8Array, not undefined$/],
    [() => db.deleteMany([wrong(null)]), /^key: expected a string or a Uint8Array, not undefined$/],
    [() => db.update('key', wrong('merged')), /^merge: expected a function, not 'merged'$/],
    [() => Client.connect(wrong(7601)), /^connect: expected an address like '127.0.0.1:7601', or settings, not 7601$/],
    [() => Client.connect({ endpoints: wrong(7601) }), /^endpoints: expected an address/],
    [() => Client.connect({ endpoints: [wrong(1)] }), /^endpoint: expected a string, not 1$/],
    [() => Client.connect({ endpoints: 'a:1', ioThreads: 0 }), /^ioThreads: expected a whole number above 0, not 0$/],
    [() => Client.connect({ endpoints: 'a:1', name: wrong(5) }), /^name: expected a string, not 5$/],
  ];
  for (const [call, message] of cases) {
    await assert.rejects(call(), { name: 'TypeError', message });
  }
  assert.throws(() => db.bucket(wrong(5)), { name: 'TypeError', message: /^bucket: expected a name, not 5$/ });
  assert.throws(() => db.bucket('b', { resolver: wrong('last') }), { name: 'TypeError', message: /^resolver: expected a function/ });
  assert.throws(() => db.scan({ level: wrong(1) }), { name: 'TypeError', message: /^level/ });
  assert.equal(await db.get('key'), null);
});

it('limits are refused with nothing sent', async () => {
  for (const [call, type, code] of [
    [db.get(''), InvalidRequestError, 'invalid_request'],
    [db.put('key', Buffer.alloc(2 ** 20 + 1)), TooLargeError, 'too_large'],
    [db.bucket('no such name').get('key'), InvalidRequestError, 'invalid_request'],
    [db.bucket('').get('key'), InvalidRequestError, 'invalid_request'],
  ] as const) {
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof type && error instanceof QuorateError && error instanceof Error);
      assert.deepEqual([error.code, error.retryable, error.maybeApplied, error.attempts], [code, false, false, 0]);
      assert.match(error.message, /nothing was sent/);
      assert.equal(error.name, type.name);
      return true;
    });
  }
});

it('every class is exported under the name it shows', () => {
  const classes = Object.entries(quorate).filter(([name]) => name.endsWith('Error'));
  assert.equal(classes.length, 15);
  for (const [name, type] of classes) {
    const error = new (type as typeof QuorateError)('text', { code: 'code' });
    assert.ok(error instanceof QuorateError);
    assert.deepEqual([error.name, error.message, error.code, error.need], [name, 'text', 'code', undefined]);
  }
});

it('nobody at the address is a ConnectionError, within the time to connect', async () => {
  const began = Date.now();
  await assert.rejects(Client.connect({ endpoints: '127.0.0.1:1', connectTimeoutMs: 500 }), (error) => {
    assert.ok(error instanceof ConnectionError && error.retryable && !error.maybeApplied);
    assert.match(error.message, /127\.0\.0\.1:1/);
    return true;
  });
  await assert.rejects(Client.connect(''), InvalidRequestError);
  await assert.rejects(Client.connect('no port'), QuorateError);
  assert.ok(Date.now() - began < 10_000);
});

it('somebody who never answers is a QuorateError within the times that were given', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise((done) => silent.once('listening', done));
  const began = Date.now();
  const endpoints = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
  await assert.rejects(Client.connect({ endpoints, connectTimeoutMs: 300, timeoutMs: 300 }), QuorateError);
  assert.ok(Date.now() - began < 5_000);
  silent.close();
});

it('a quorum that cannot be had says how many were needed and how many there were', async () => {
  const lone = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: 3_000 });
  await lone.put('key', 'a');
  await cluster.kill(1);
  await cluster.kill(2);
  await assert.rejects(lone.get('key', { level: 'all' }), (error) => {
    assert.ok(error instanceof QuorateError);
    assert.ok(error.retryable, String(error));
    if (error instanceof UnavailableError) {
      assert.ok(error.need === 3 && error.got !== undefined && error.got < 3);
    }
    assert.ok(error.attempts > 0 && error.elapsedMs > 0);
    return true;
  });
  await cluster.restart(1);
  await cluster.restart(2);
  await lone.close();
});

it('every call after close is refused, and close again is not', async () => {
  const closed = await Client.connect(cluster.endpoints);
  const bucket = closed.bucket('closed');
  await closed.close();
  for (const call of [
    () => closed.get('a'),
    () => bucket.put('a', 'b'),
    () => closed.getMany(['a']),
    () => closed.update('a', () => 'b'),
    () => closed.scan().next(),
    () => closed.explain('a'),
    () => closed.stats(),
    () => closed.ping(),
  ]) {
    await assert.rejects(call(), (error) => {
      assert.ok(error instanceof ClientClosedError, String(error));
      assert.deepEqual([error.code, error.maybeApplied], ['client_closed', false]);
      return true;
    });
  }
  assert.equal(closed.ring.nodes.length, 3);
  await closed.close();
});
