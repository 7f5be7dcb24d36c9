/**
 * Every method against real nodes: what goes in comes out, whole and unchanged, and everything that is told about it is true.
 */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, it } from 'node:test';

import { Absent, Client, Context, Found, InvalidRequestError, QuorateError, Sibling, Stored, TooLargeError } from 'quorate';
import { LocalCluster } from 'quorate/testing';

let cluster: LocalCluster;
let db: Client;

before(async () => {
  cluster = await LocalCluster.start({ nodes: 3 });
  db = await Client.connect({ endpoints: cluster.endpoints, timeoutMs: 10_000 });
});

after(async () => {
  await db?.close();
  await cluster?.close();
});

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) {
    all.push(item);
  }
  return all;
}

it('a value is read as it was written, whatever its bytes and its length', async () => {
  for (const length of [0, 1, 100, 4095, 4096, 4097, 16_384, 16_385, 64 * 1024, 256 * 1024, 1024 * 1024]) {
    const value = randomBytes(length);
    await db.put(`length ${length}`, value);
    const found = await db.get(`length ${length}`);
    assert.ok(found?.value instanceof Buffer);
    assert.ok(found.value.equals(value), `${length} bytes`);
    assert.equal(found.siblings[0]?.valueBytes, length);
  }
});

it('many values of all lengths come at the same time', async () => {
  const values = Array.from({ length: 300 }, (_, at) => randomBytes((at * 97) % 12_000));
  await Promise.all(values.map((value, at) => db.put(`mixed ${at}`, value)));
  const found = await Promise.all(values.map((_, at) => db.get(`mixed ${at}`)));
  found.forEach((each, at) => assert.ok(each?.value.equals(values[at]!), `value ${at}`));
});

it('text is its UTF-8, as a key and as a value', async () => {
  await db.put('ключ 🗝', 'значение 🎁');
  assert.equal((await db.get(Buffer.from('ключ 🗝')))?.value.toString(), 'значение 🎁');
  assert.equal((await db.get(new Uint8Array(Buffer.from('ключ 🗝'))))?.value.toString(), 'значение 🎁');
});

it('what was passed may change as soon as the call has returned', async () => {
  const [key, value] = [Buffer.from('changing'), Buffer.from('before')];
  const stored = db.put(key, value);
  key.fill(0);
  value.fill(0);
  await stored;
  assert.equal((await db.get('changing'))?.value.toString(), 'before');
});

it('a part of a larger buffer is a value of its own', async () => {
  const whole = Buffer.from('not this but that nor this');
  await db.put(whole.subarray(13, 17), new Uint8Array(whole.buffer, whole.byteOffset + 4, 4));
  assert.equal((await db.get('that'))?.value.toString(), 'this');
});

it('absence is null, and known to lookup and exists', async () => {
  assert.equal(await db.get('absent'), null);
  assert.equal(await db.exists('absent'), false);
  const absent = await db.lookup('absent');
  assert.ok(absent instanceof Absent);
  assert.equal(absent.receipt.replicas, 3);
  await db.put('absent', 'no more', { context: absent.context });
  assert.equal(await db.exists('absent'), true);
  assert.ok((await db.lookup('absent')) instanceof Found);
});

it('a put tells its context, clock and receipt', async () => {
  const before = Date.now();
  const stored = await db.put('told', 'a', { level: 'all' });
  assert.ok(stored instanceof Stored);
  assert.equal(stored.siblings, 1);
  assert.ok(Math.abs(Number(stored.clock >> 16n) - before) < 60_000);
  const { answered, ...receipt } = stored.receipt;
  assert.deepEqual([...answered].sort(), ['n1', 'n2', 'n3']);
  assert.deepEqual(receipt, { epoch: 1n, need: 3, durable: 3, standIns: 0, repaired: false, replicas: 3 });
  assert.ok(stored.context instanceof Context);
  const found = await db.get('told');
  assert.ok(found?.context.equals(stored.context));
});

it('a sibling tells its clock, length and hash', async () => {
  const stored = await db.put('sibling', 'value');
  const [sibling, ...others] = (await db.get('sibling'))!.siblings;
  assert.ok(sibling instanceof Sibling);
  assert.equal(others.length, 0);
  assert.equal(sibling.clock, stored.clock);
  assert.equal(sibling.writtenAt.getTime(), Number(stored.clock >> 16n));
  assert.match(sibling.hash, /^[0-9a-f]{32}$/);
  await db.put('same value', 'value');
  assert.equal((await db.get('same value'))?.siblings[0]?.hash, sibling.hash);
});

it('what was found is shown whole', async () => {
  await db.put('shown', 'whole');
  const { inspect } = await import('node:util');
  assert.match(inspect(await db.get('shown'), { depth: 4 }), /Found.*siblings.*Sibling.*valueBytes: 5.*Context\(.*answered/s);
  assert.match(inspect(await db.lookup('nothing to show')), /Absent.*Context/s);
  assert.match(inspect(await db.put('shown', 'again')), /Stored.*clock.*durable/s);
});

it('deletes', async () => {
  const { context } = await db.put('deleted', 'a');
  await db.delete('deleted', { context: context! });
  assert.equal(await db.get('deleted'), null);
  await db.put('deleted', 'b');
  await db.delete('deleted');
  assert.equal(await db.get('deleted'), null);
});

it('a value with a time to live is gone after it', async () => {
  await db.put('short', 'lived', { ttlMs: 300 });
  assert.equal((await db.get('short'))?.value.toString(), 'lived');
  for (const deadline = Date.now() + 10_000; (await db.get('short')) !== null; ) {
    assert.ok(Date.now() < deadline, 'it lives for ever');
  }
});

it('levels and numbers of replicas show in the receipt', async () => {
  await db.put('levels', 'a', { level: 'all' });
  for (const [options, need] of [
    [{ level: 'one' }, 1],
    [{ level: 'quorum' }, 2],
    [{ level: 'all' }, 3],
    [{ r: 1 }, 1],
    [{ r: 3 }, 3],
  ] as const) {
    assert.equal((await db.get('levels', options))?.receipt.need, need, JSON.stringify(options));
  }
  assert.equal((await db.put('levels', 'b', { w: 3 })).receipt.need, 3);
  assert.equal((await db.bucket('leveled', { level: 'all' }).put('a', 'a')).receipt.need, 3);
  assert.equal((await db.bucket('leveled', { w: 1, r: 3 }).put('a', 'a')).receipt.need, 1);
});

it('buckets are apart', async () => {
  const [one, other] = [db.bucket('one'), db.bucket('other')];
  await Promise.all([one.put('key', '1'), other.put('key', '2'), db.put('key', '3')]);
  const values = await Promise.all([one, other, db].map((bucket) => bucket.get('key')));
  assert.deepEqual(values.map((found) => found?.value.toString()), ['1', '2', '3']);
  assert.deepEqual([one.name, other.name, db.name], ['one', 'other', 'default']);
});

it('a batch has a result for each item, in their order', async () => {
  const bucket = db.bucket('batches');
  const entries = new Map(Array.from({ length: 1000 }, (_, at) => [`key ${at}`, at % 100 === 0 ? 'x'.repeat(5000) : `value ${at}`]));
  const stored = await bucket.putMany(entries);
  assert.ok(stored.length === 1000 && stored.every((each) => each instanceof Stored));
  const found = await bucket.getMany([...entries.keys(), 'missing']);
  assert.equal(found.pop(), null);
  assert.deepEqual(found.map((each) => (each as Found).value.toString()), [...entries.values()]);
  const deleted = await bucket.deleteMany(['key 1', { key: 'key 2', context: (stored[2] as Stored).context! }, Buffer.from('key 3')]);
  assert.ok(deleted.every((each) => each instanceof Stored));
  assert.deepEqual(await bucket.getMany(['key 1', 'key 2', 'key 3']), [null, null, null]);
});

it('an item of a batch fails by itself', async () => {
  const stored = await db.putMany([
    { key: 'good', value: 'a' },
    { key: '', value: 'b' },
    { key: 'large', value: Buffer.alloc(2 ** 20 + 1) },
    { key: 'fleeting', value: 'c', ttlMs: 60_000 },
  ]);
  assert.ok(stored[0] instanceof Stored && stored[3] instanceof Stored);
  assert.ok(stored[1] instanceof InvalidRequestError && stored[2] instanceof TooLargeError);
  const found = await db.getMany(['good', 'k'.repeat(1025)]);
  assert.ok(found[0] instanceof Found && found[1] instanceof QuorateError);
});

it('an empty batch has no results', async () => {
  assert.deepEqual(await Promise.all([db.getMany([]), db.putMany([]), db.deleteMany([])]), [[], [], []]);
});

it('a scan comes by every key once, and may be left early', async () => {
  const bucket = db.bucket('scanned');
  const keys = Array.from({ length: 700 }, (_, at) => `key ${at}`);
  await bucket.putMany(keys.map((key) => [key, `value of ${key}`] as const));
  const scanned = await collect(bucket.scan());
  assert.deepEqual(scanned.map(({ key }) => key.toString()).sort(), [...keys].sort());
  assert.ok(scanned.every((each) => each.bucket === 'scanned' && each.siblings === 1 && each.found === undefined));
  for await (const { key, found, valueBytes } of bucket.scan({ values: true })) {
    assert.equal(found?.value.toString(), `value of ${key}`);
    assert.equal(found.value.length, valueBytes);
  }
  let seen = 0;
  for await (const _ of bucket.scan()) {
    seen += 1;
    if (seen === 3) break;
  }
  assert.equal(seen, 3);
  const everywhere = new Set((await collect(db.scanAll({ level: 'one' }))).map((each) => each.bucket));
  assert.ok(everywhere.has('scanned') && everywhere.has('default'));
});

it('explains where a key lives', async () => {
  const explanation = await db.bucket('carts').explain('ann');
  assert.equal(explanation.id, createHash('md5').update('carts\0ann').digest('hex'));
  assert.equal(explanation.partition, Number.parseInt(explanation.id.slice(0, 2), 16));
  assert.deepEqual(explanation.owners.map((owner) => owner.name).sort(), ['n1', 'n2', 'n3']);
  assert.equal(explanation.writeCoordinator, explanation.owners[0]?.name);
  assert.deepEqual([explanation.epoch, explanation.view], [1n, [1n, 1n]]);
});

it('knows the ring', () => {
  const { ring } = db;
  assert.deepEqual([ring.epoch, ring.generation, ring.partitions, ring.replicas], [1n, 0n, 256, 3]);
  assert.deepEqual(ring.nodes.map(({ name, zone, leaving }) => [name, zone, leaving]), [
    ['n1', 'a', false],
    ['n2', 'b', false],
    ['n3', 'c', false],
  ]);
  assert.deepEqual(ring.nodes.map((node) => node.addresses[0]), cluster.endpoints.split(','));
});

it('pings every node and counts what it does', async () => {
  const pings = await db.ping();
  assert.deepEqual([...pings.keys()].sort(), ['n1', 'n2', 'n3']);
  assert.ok([...pings.values()].every((time) => typeof time === 'number' && time > 0 && time < 10_000));
  const before = await db.stats();
  await Promise.all(Array.from({ length: 10 }, (_, at) => db.get(`counted ${at}`)));
  const after = await db.stats();
  assert.equal(after.succeeded - before.succeeded, 10);
  assert.deepEqual([after.failed, after.inFlight, after.waiting], [before.failed, 0, 0]);
  assert.deepEqual(after.nodes.map((node) => [node.name, node.connected]), [['n1', true], ['n2', true], ['n3', true]]);
});

it('settings are taken: several addresses, a name, a zone, I/O threads', async () => {
  const settings = { endpoints: new Set(cluster.endpoints.split(',')), name: 'settled', zone: 'c', ioThreads: 2, inFlight: 4, waiting: 8, level: 'one' } as const;
  const other = await Client.connect(settings);
  await other.put('settled', 'a', { level: 'all' });
  const found = await other.get('settled');
  assert.deepEqual([found?.receipt.need, found?.receipt.answered], [1, ['n3']]);
  const many = await Promise.allSettled(Array.from({ length: 50 }, (_, at) => other.get(`settled ${at}`)));
  const refused = many.filter((each) => each.status === 'rejected');
  assert.ok(refused.length > 0 && refused.every((each) => each.reason.name === 'OverloadedError' && !each.reason.maybeApplied));
  await other.close();
});
