/**
 * Events: a client tells when nodes go and come back, and when it follows another ring.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Client } from 'quorate';
import type { LogRecord, NodeEvent, TopologyEvent } from 'quorate';
import { LocalCluster } from 'quorate/testing';

import { World } from './world.js';

/** How long a node may take to be missed, or to be found again. */
const EVENT_MS = 30_000;

let cluster: LocalCluster;
let db: Client;
/** A client that waits for events does not keep the process alive, and neither does a cluster. */
const alive = setInterval(() => {}, EVENT_MS);

before(async () => {
  cluster = await LocalCluster.start({ nodes: 3 });
  db = await Client.connect(cluster.endpoints);
});

after(async () => {
  clearInterval(alive);
  await db?.close();
  await cluster?.close();
});

it('a node that is killed is told as down, and as up when it is back, and nothing fails meanwhile', async () => {
  const seen: string[] = [];
  const said: LogRecord[] = [];
  db.on('log', (record) => said.push(record));
  const listener = (node: NodeEvent): unknown => seen.push(node.name);
  db.on('nodeDown', listener);
  await Promise.all(Array.from({ length: 100 }, (_, at) => db.put(`key ${at}`, 'a')));

  const down = once(db as never, 'nodeDown', { signal: AbortSignal.timeout(EVENT_MS) });
  await cluster.kill(1);
  await Promise.all(Array.from({ length: 100 }, (_, at) => db.get(`key ${at}`)));
  const [{ name, node }] = (await down) as [NodeEvent];
  assert.equal(name, 'n2');
  assert.match(node, /^[0-9a-f]+/);
  for (const deadline = Date.now() + EVENT_MS; said.length === 0; await sleep(10)) {
    assert.ok(Date.now() < deadline, 'nothing was said about it');
  }
  const [record] = said;
  assert.match(record!.message, /connection/);
  assert.deepEqual([record!.level, record!.target.split('::')[0]], ['debug', 'quorate']);
  assert.ok(Math.abs(record!.at.getTime() - Date.now()) < 60_000);

  const up = once(db as never, 'nodeUp', { signal: AbortSignal.timeout(EVENT_MS) });
  await cluster.restart(1);
  assert.equal(((await up) as [NodeEvent])[0].name, 'n2');
  assert.deepEqual(seen, ['n2']);
  db.off('nodeDown', listener);
});

it('another ring is told with its epoch', async () => {
  const stage = await World.stage(3);
  try {
    await using staged = await Client.connect(stage.endpoints);
    assert.equal(staged.ring.epoch, 1n);
    const told = once(staged as never, 'topology', { signal: AbortSignal.timeout(EVENT_MS) });
    await stage.ask({ do: 'publish', epoch: 2, rotate: 1 });
    // A node's answer says that there is a newer ring.
    await staged.get('key');
    const [{ epoch, generation }] = (await told) as [TopologyEvent];
    assert.deepEqual([epoch, generation], [2n, staged.ring.generation]);
    assert.equal(staged.ring.epoch, 2n);
  } finally {
    await stage.close();
  }
});
