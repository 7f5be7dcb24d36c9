/**
 * Concurrent versions: they are kept, seen, resolved by the caller and merged by updates; contexts travel.
 */

import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';

import { Client, Context, InvalidRequestError, SiblingsError, TooLargeError, resolvers } from 'quorate';
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

/** Writes values beside each other. */
async function beside(key: string, ...values: string[]): Promise<void> {
  for (const value of values) {
    await db.put(key, value, { context: Context.EMPTY });
  }
}

it('values beside each other are all found, and one value is refused', async () => {
  await beside('conflict', 'one', 'two', 'x'.repeat(5000));
  const found = await db.get('conflict');
  assert.ok(found?.isConflict);
  assert.deepEqual(found.values.map(String).sort(), ['one', 'two', 'x'.repeat(5000)]);
  assert.throws(() => found.value, (error) => {
    assert.ok(error instanceof SiblingsError);
    assert.deepEqual([error.code, error.retryable, error.maybeApplied], ['siblings', false, false]);
    return true;
  });
  const stored = await db.put('conflict', 'merged', { context: found.context });
  assert.equal(stored.siblings, 1);
  assert.equal((await db.get('conflict'))?.value.toString(), 'merged');
});

it('a put under an old context stands beside what it did not see', async () => {
  const { context } = await db.put('stale', 'first');
  await db.put('stale', 'second', { context: context! });
  const stored = await db.put('stale', 'third', { context: context! });
  assert.equal(stored.siblings, 2);
  assert.equal(stored.context, null);
  assert.deepEqual((await db.get('stale'))?.values.map(String).sort(), ['second', 'third']);
});

it('a resolver makes one value of several when they are looked at', async () => {
  await beside('resolved', 'milk', 'bread\nmilk');
  const lists = db.bucket('default', { resolver: resolvers.unionOfLines });
  const found = await lists.get('resolved');
  assert.equal(found?.value.toString(), 'bread\nmilk');
  assert.equal(found.isConflict, true);
  const [many] = await lists.getMany(['resolved']);
  assert.ok(many && 'value' in many && many.value.toString() === 'bread\nmilk');
  const caches = db.bucket('default', { resolver: resolvers.lastWritten });
  assert.equal((await caches.get('resolved'))?.value.toString(), 'bread\nmilk');
  assert.deepEqual((await caches.get('resolved'))?.values.map(String), ['milk', 'bread\nmilk']);
  for await (const scanned of lists.scan({ values: true })) {
    assert.doesNotThrow(() => scanned.found?.value);
  }
  await assert.rejects(async () => (await db.bucket('default', { resolver: () => 5 as never }).get('resolved'))?.value, TypeError);
});

it('resolvers unite sets', () => {
  const buffers = (...texts: string[]): Buffer[] => texts.map((text) => Buffer.from(text));
  assert.equal(resolvers.unionOfLines(buffers('b\na', '', 'c\na\n')).toString(), 'a\nb\nc');
  assert.deepEqual(resolvers.unionOfLines([Buffer.from([0xff, 0x0a, 0x80])]), Buffer.from([0x80, 0x0a, 0xff]));
  assert.equal(resolvers.unionOfJsonSets(buffers('["milk"]', '["bread","milk",1]')).toString(), '["bread","milk",1]');
});

it('an update merges what there is: nothing, one, several', async () => {
  const merge = (values: readonly Buffer[]): string => [...values.map(String), 'more'].sort().join(' ');
  await db.update('updated', merge);
  assert.equal((await db.get('updated'))?.value.toString(), 'more');
  await beside('updated', 'beside');
  const stored = await db.update('updated', async (values) => merge(values));
  assert.equal(stored.siblings, 1);
  assert.equal((await db.get('updated'))?.value.toString(), 'beside more more');
});

it('no update is lost, however many there are at the same time', async () => {
  const add = (name: string) => (values: readonly Buffer[]) => resolvers.unionOfLines([...values, Buffer.from(name)]);
  const names = Array.from({ length: 8 }, (_, at) => `member ${at}`);
  await Promise.all(names.map((name) => db.update('set', add(name), { timeoutMs: 20_000 })));
  await db.update('set', (values) => resolvers.unionOfLines(values));
  assert.equal((await db.get('set'))?.value.toString(), names.join('\n'));
});

it('an update fails with what merge throws, and writes nothing', async () => {
  await db.put('thrown', 'kept');
  await assert.rejects(db.update('thrown', () => { throw new RangeError('mine'); }), { name: 'RangeError', message: 'mine' });
  await assert.rejects(db.update('thrown', () => 7 as never), { name: 'TypeError', message: /what merge returns/ });
  assert.equal((await db.get('thrown'))?.value.toString(), 'kept');
});

it('a context keeps its meaning through bytes and text', async () => {
  const { context } = await db.put('travelling', 'a');
  assert.ok(context);
  const [bytes, text] = [Context.fromBytes(context.toBytes()), Context.parse(String(context))];
  assert.ok(bytes.equals(context) && text.equals(context) && !context.equals(Context.EMPTY));
  assert.match(String(context), /^[A-Za-z0-9_-]+$/);
  assert.equal(JSON.stringify({ context }), `{"context":"${context}"}`);
  assert.equal((await db.put('travelling', 'b', { context: text })).siblings, 1);
  assert.deepEqual([String(Context.EMPTY), Context.EMPTY.isEmpty, Context.parse('').equals(Context.EMPTY)], ['', true, true]);
  context.toBytes().fill(0);
  assert.ok(bytes.equals(context));
});

it('what is no context is refused, here or by the nodes', async () => {
  assert.throws(() => Context.parse('not base64url!'), InvalidRequestError);
  assert.throws(() => Context.fromBytes(Buffer.alloc(20_000)), TooLargeError);
  assert.throws(() => Context.parse(5 as never), TypeError);
  assert.throws(() => Context.fromBytes('AQ' as never), TypeError);
  const { context } = await db.put('owner of a context', 'a');
  await assert.rejects(db.put('another key', 'a', { context: context! }), InvalidRequestError);
  await assert.rejects(db.put('another key', 'a', { context: Context.fromBytes(Buffer.from('forged')) }), InvalidRequestError);
  await assert.rejects(db.put('another key', 'a', { context: context!.toBytes() as never }), { name: 'TypeError', message: /context: expected a Context/ });
  await assert.rejects(db.delete('another key', { context: Context.EMPTY }), InvalidRequestError);
});
