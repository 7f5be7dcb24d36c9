/**
 * `quorate/testing` as an application's test uses it: a real cluster is killed, restarted, frozen, separated and healed, and the
 * client sees what it would see in production.
 */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Client, QuorateError } from 'quorate';
import type { Level } from 'quorate';
import { LocalCluster, LocalClusterError, binary } from 'quorate/testing';

/** How long an operation on the wrong side of a partition tries: long enough for a first attempt to fail. */
const TIMEOUT_MS = 800;

/** How long something may take that comes by and by, on a machine that may be busy. */
const PATIENCE_MS = 30_000;

async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  const began = performance.now();
  while (!(await isSo())) {
    assert.ok(performance.now() - began < PATIENCE_MS, `waited in vain until ${what}`);
    await sleep(50);
  }
}

/** Puts until it succeeds: what has come back is noticed by and by. */
async function putUntilItSucceeds(db: Client, level: Level): Promise<void> {
  await until(`a put at ${level} succeeds`, () => db.put('key', 'value', { level }).then(() => true, () => false));
}

function isMissing(error: unknown): boolean {
  return error instanceof QuorateError && ['timeout', 'unavailable', 'quorum_timeout'].includes(error.code);
}

it('a killed node is missed at all and not at quorum, and comes back', async () => {
  const cluster = await LocalCluster.start({ nodes: 3 });
  try {
    const db = await cluster.client({ timeoutMs: TIMEOUT_MS });
    await putUntilItSucceeds(db, 'all');
    await cluster.kill(1);
    const killed = (await cluster.status()).nodes[1];
    assert.equal(killed?.state, 'ended');
    assert.match(killed.ended ?? '', /SIGKILL/);
    await db.put('key', 'value', { level: 'quorum' });
    await assert.rejects(db.put('key', 'value', { level: 'all' }), isMissing);
    await cluster.restart(1);
    await putUntilItSucceeds(db, 'all');
    assert.ok((await cluster.log(1)).split('serving').length > 2);
    await db.close();
  } finally {
    await cluster.close();
  }
});

it('two frozen nodes of three take the quorum away until they go on', async () => {
  const cluster = await LocalCluster.start();
  try {
    const db = await cluster.client({ timeoutMs: TIMEOUT_MS });
    await putUntilItSucceeds(db, 'quorum');
    await cluster.pause(0, 2);
    await assert.rejects(db.put('key', 'value', { level: 'quorum' }), isMissing);
    await cluster.resume(0, 2);
    await putUntilItSucceeds(db, 'quorum');
    await db.close();
  } finally {
    await cluster.close();
  }
});

it('the smaller side of a partition refuses at quorum, and the larger goes on', async () => {
  const cluster = await LocalCluster.start();
  try {
    const db = await cluster.client({ timeoutMs: TIMEOUT_MS });
    await putUntilItSucceeds(db, 'quorum');
    await cluster.partition([[0], [1, 2]]);
    await assert.rejects(db.put('key', 'value', { level: 'quorum' }), isMissing);
    await cluster.partition([[0], [1, 2]], { clients: 1 });
    const { groups, clients } = await cluster.status();
    assert.deepEqual({ groups, clients }, { groups: [[0], [1, 2]], clients: 1 });
    await putUntilItSucceeds(db, 'quorum');
    await cluster.heal();
    assert.equal((await cluster.status()).groups, null);
    await putUntilItSucceeds(db, 'all');
    await db.close();
  } finally {
    await cluster.close();
  }
});

it('nodes join, leave and are replaced while no call fails', async () => {
  const cluster = await LocalCluster.start({ nodes: 3 });
  try {
    const db = await cluster.client({ level: 'quorum' });
    for (let number = 0; number < 20; number++) await db.put(`key ${number}`, 'before');
    let [ended, written] = [false, 0];
    const write = async (): Promise<void> => {
      while (!ended) {
        await db.put(`during ${written}`, 'value');
        written++;
      }
    };
    const writing = write();
    try {
      assert.equal(await cluster.addNode(), 3);
      await cluster.removeNode(0);
      assert.equal(await cluster.replaceNode(1), 4);
    } finally {
      ended = true;
      await writing;
    }
    const states = (await cluster.status()).nodes.map((node) => node.state);
    assert.deepEqual(states, ['ended', 'ended', 'running', 'running', 'running']);
    const value = async (key: string): Promise<string> => String((await db.get(key, { level: 'all' }))?.value);
    for (let number = 0; number < 20; number++) assert.equal(await value(`key ${number}`), 'before');
    for (let number = 0; number < written; number++) assert.equal(await value(`during ${number}`), 'value');
    await until('the client follows the ring', () => db.ring.epoch === 4n);
    // The cluster goes on like any other.
    await cluster.kill(3);
    await putUntilItSucceeds(db, 'quorum');
    await cluster.restart(3);
    await putUntilItSucceeds(db, 'all');
    await assert.rejects(cluster.removeNode(9), { message: /no node 9/ });
    await db.close();
  } finally {
    await cluster.close();
  }
});

it('what is asked in vain is an error that says why', async () => {
  const cluster = await LocalCluster.start({ nodes: 1, settings: { 'deadlines.default_ms': 500 } });
  try {
    await assert.rejects(cluster.kill(1), { name: 'LocalClusterError', message: /no node 1/ });
    await assert.rejects(cluster.partition([[0], [0]]), { message: /more than once/ });
    await cluster.stop(0);
    await assert.rejects(cluster.pause(0), { message: /does not run/ });
  } finally {
    await cluster.close();
  }
  await assert.rejects(cluster.heal(), LocalClusterError);
  await assert.rejects(LocalCluster.start({ settings: { 'no.such.setting': 1 } }), { message: /no\.such\.setting/ });
  await assert.rejects(LocalCluster.start({ executable: '/nowhere/quorate' }), { message: /\/nowhere\/quorate/ });
});

it('a cluster that is not closed keeps no process alive and leaves nothing behind', async () => {
  const program = `
    import('quorate/testing').then(async ({ LocalCluster }) => {
      const cluster = await LocalCluster.start({ nodes: 2 });
      console.log(JSON.stringify(await cluster.status()));
    })`;
  const environment = { ...process.env, QUORATE_BINARY: binary() };
  const written = execFileSync(process.execPath, ['-e', program], { cwd: __dirname, env: environment, timeout: PATIENCE_MS });
  const { nodes } = JSON.parse(String(written)) as { nodes: Array<{ process: number; data: string }> };
  assert.equal(nodes.length, 2);
  for (const { process, data } of nodes) {
    await until('nothing is left', () => !existsSync(`/proc/${process}`) && !existsSync(dirname(data)));
  }
});

it('the example of the page works as it stands there', () => {
  const page = readFileSync(join(__dirname, '..', '..', 'docs', 'testing.md'), 'utf8');
  const folder = mkdtempSync(join(__dirname, 'page-'));
  try {
    const file = join(folder, 'page.test.mjs');
    writeFileSync(file, page.split('```js\n')[1]?.split('```')[0] ?? '');
    const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
    const options = { env: { ...environment, QUORATE_BINARY: binary() }, timeout: 4 * PATIENCE_MS, encoding: 'utf8' } as const;
    const ended = spawnSync(process.execPath, ['--test', '--test-reporter=tap', file], options);
    assert.equal(ended.status, 0, ended.stdout + ended.stderr);
    assert.match(ended.stdout, /^# pass 2$/m);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
