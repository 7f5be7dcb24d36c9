/**
 * What a client does to its process: keeps it alive exactly while a call is under way, works in worker threads, and lets them,
 * the process and forgotten clients end at any moment.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import { Client } from 'quorate';
import { LocalCluster } from 'quorate/testing';

/** What a child process may take at most: starting one under load is slow. */
const CHILD_MS = 30_000;

let cluster: LocalCluster;

before(async () => {
  cluster = await LocalCluster.start({ nodes: 3 });
});

after(() => cluster.close());

/** Runs a script in a process of its own, as `node` in a user's shell would. */
async function run(script: string, nodeOptions: string[] = []): Promise<{ code: number | null; signal: string | null; output: string }> {
  const head = `const { Client } = require(${JSON.stringify(require.resolve('quorate'))}); const endpoints = ${JSON.stringify(cluster.endpoints)};`;
  const child = spawn(process.execPath, [...nodeOptions, '-e', `${head}\n${script}`], { timeout: CHILD_MS });
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  child.stderr.on('data', (data) => (output += data));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, output: output.trim() };
}

/** The client's threads in this process. */
function ioThreads(): number {
  return readdirSync('/proc/self/task').filter((task) => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, 'utf8').startsWith('quorate');
    } catch {
      return false;
    }
  }).length;
}

async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + CHILD_MS; !(await is()); await sleep(20)) {
    assert.ok(Date.now() < deadline, `${what}: not within ${CHILD_MS} ms`);
  }
}

describe('a process', () => {
  it('ends while an idle client is open', async () => {
    const { code, output } = await run(`Client.connect(endpoints).then(async (db) => {
      await db.put('idle', 'yes');
      console.log(String((await db.get('idle')).value));
    });`);
    assert.deepEqual({ code, output }, { code: 0, output: 'yes' });
  });

  it('waits for a call that nothing else waits for', async () => {
    const { code, output } = await run(`Client.connect(endpoints).then((db) => {
      db.put('pending', 'a').then((stored) => console.log(stored.siblings));
    });`);
    assert.deepEqual({ code, output }, { code: 0, output: '1' });
  });

  it('waits for a connection that is being made', async () => {
    const { code, output } = await run(`Client.connect('127.0.0.1:1').catch((error) => console.log(error.name));`);
    assert.deepEqual({ code, output }, { code: 0, output: 'ConnectionError' });
  });

  it('waits for calls after a collection of garbage has found nothing that refers to their client', async () => {
    const { code, output } = await run(
      `(async () => {
        const made = (async () => { const db = await Client.connect(endpoints); return db.put('collected', 'a'); })();
        for (let round = 0; round < 5; round += 1) { gc(); await new Promise(setImmediate); }
        console.log((await made).siblings);
      })();`,
      ['--expose-gc'],
    );
    assert.deepEqual({ code, output }, { code: 0, output: '1' });
  });

  it('may exit with calls in flight', async () => {
    const { code, signal, output } = await run(`Client.connect(endpoints).then((db) => {
      for (let at = 0; at < 1000; at += 1) db.put('exit' + at, 'x').catch(() => {});
      setTimeout(() => process.exit(7), 2);
    });`);
    assert.deepEqual({ code, signal, output }, { code: 7, signal: null, output: '' });
  });

  it('ends the threads of a client that was forgotten', async () => {
    const { code, output } = await run(
      `const { readdirSync, readFileSync } = require('node:fs');
      const threads = () => readdirSync('/proc/self/task').filter((task) => readFileSync('/proc/self/task/' + task + '/comm', 'utf8').startsWith('quorate')).length;
      (async () => {
        await (async () => { for (let round = 0; round < 3; round += 1) await (await Client.connect(endpoints)).get('a'); })();
        console.log(threads());
        for (let round = 0; round < 200 && threads() > 0; round += 1) { gc(); await new Promise((done) => setTimeout(done, 20)); }
        console.log(threads());
      })();`,
      ['--expose-gc'],
    );
    assert.deepEqual({ code, output: output.split('\n') }, { code: 0, output: ['3', '0'] });
  });
});

describe('worker threads', () => {
  const script = `
    const { workerData, parentPort } = require('node:worker_threads');
    const { Client } = require(workerData.quorate);
    (async () => {
      const db = await Client.connect(workerData.endpoints);
      parentPort.postMessage('connected');
      if (workerData.rounds === Infinity) {
        for (let at = 0; ; at += 1) {
          await Promise.all(Array.from({ length: 50 }, (_, i) => db.put('worker' + i, 'x'.repeat(100))));
          if (at === 0) parentPort.postMessage('busy');
        }
      }
      for (let at = 0; at < workerData.rounds; at += 1) await db.put(workerData.name + at, String(at));
      const values = await db.getMany(Array.from({ length: workerData.rounds }, (_, at) => workerData.name + at));
      parentPort.postMessage(values.reduce((sum, found) => sum + Number(found.value), 0));
    })();`;

  function start(name: string, rounds: number): Worker {
    const workerData = { quorate: require.resolve('quorate'), endpoints: cluster.endpoints, name, rounds };
    return new Worker(script, { eval: true, workerData });
  }

  it('each have a client of their own at the same time', async () => {
    const sums = ['a', 'b', 'c'].map(async (name) => {
      const worker = start(name, 20);
      const messages: unknown[] = [];
      worker.on('message', (message) => messages.push(message));
      const [code] = (await once(worker, 'exit')) as [number];
      return { code, messages };
    });
    const expected = { code: 0, messages: ['connected', 190] };
    assert.deepEqual(await Promise.all(sums), [expected, expected, expected]);
  });

  it('may be terminated with calls in flight, and their clients end with them', async () => {
    assert.equal(ioThreads(), 0);
    for (let round = 0; round < 5; round += 1) {
      const worker = start('t', Infinity);
      await new Promise<void>((resolve, reject) => {
        worker.on('message', (message) => message === 'busy' && resolve());
        worker.on('error', reject);
      });
      await worker.terminate();
    }
    await until('the threads of their clients have ended', () => ioThreads() === 0);
    const db = await Client.connect(cluster.endpoints);
    assert.equal((await db.get('worker1'))?.value.length, 100);
    await db.close();
  });
});

describe('closing', () => {
  it('lets calls in flight end first', async () => {
    const db = await Client.connect(cluster.endpoints);
    const calls = Array.from({ length: 200 }, (_, at) => db.put(`close${at}`, 'x'));
    await db.close();
    const settled = await Promise.race([Promise.all(calls), sleep(0).then(() => undefined)]);
    assert.equal(settled?.length, 200);
    assert.equal(ioThreads(), 0);
  });

  it('may be done twice, and at the end of a block', async () => {
    let kept: Client;
    {
      await using db = await Client.connect(cluster.endpoints);
      kept = db;
      await Promise.all([db.close(), db.close()]);
    }
    await assert.rejects(kept.get('a'), { name: 'ClientClosedError', code: 'client_closed', maybeApplied: false });
  });
});
