/**
 * Real nodes for these tests: processes of the `quorate` binary on free loopback ports.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, openSync, closeSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const START_MS = 30_000;
const ROOT = join(__dirname, '..', '..');

export class Cluster {
  readonly #folder = mkdtempSync(join(tmpdir(), 'quorate-test-'));
  readonly #ports: number[];
  readonly #processes: Array<ChildProcess | undefined> = [];

  private constructor(ports: number[]) {
    this.#ports = ports;
  }

  static async start({ nodes }: { nodes: number }): Promise<Cluster> {
    const cluster = new Cluster(await freePorts(nodes));
    try {
      for (let at = 0; at < nodes; at += 1) {
        cluster.#spawn(at);
      }
      for (let at = 0; at < nodes; at += 1) {
        await cluster.#ready(at);
      }
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  get endpoints(): string {
    return this.#ports.map((port) => `127.0.0.1:${port}`).join(',');
  }

  async kill(at: number): Promise<void> {
    const running = this.#processes[at];
    this.#processes[at] = undefined;
    if (running !== undefined && running.exitCode === null) {
      running.kill('SIGKILL');
      await once(running, 'exit');
    }
  }

  async pause(at: number): Promise<void> {
    const { pid } = this.#processes[at]!;
    this.#processes[at]?.kill('SIGSTOP');
    // The signal is sent, not yet obeyed by every thread.
    while (!readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') T ')) {
      await sleep(1);
    }
  }

  resume(at: number): void {
    this.#processes[at]?.kill('SIGCONT');
  }

  async restart(at: number): Promise<void> {
    await this.kill(at);
    this.#spawn(at);
    await this.#ready(at);
  }

  async close(): Promise<void> {
    for (let at = 0; at < this.#ports.length; at += 1) {
      await this.kill(at);
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #spawn(at: number): void {
    const name = `n${at + 1}`;
    const members = this.#ports.map(
      (port, member) => `[[cluster.members]]\nname = "n${member + 1}"\naddress = "127.0.0.1:${port}"\nzone = "z${member}"\n`,
    );
    const path = join(this.#folder, `${name}.toml`);
    writeFileSync(
      path,
      `name = "${name}"\nlisten = "127.0.0.1:${this.#ports[at]}"\ndata = "${join(this.#folder, name)}"\n` +
        `[cluster]\nname = "node"\nsecret = "only for tests, long enough"\nreplicas = 3\n${members.join('')}`,
    );
    const log = openSync(join(this.#folder, `${name}.log`), 'a');
    this.#processes[at] = spawn(binary(), ['serve', '--config', path], { stdio: ['ignore', log, log] });
    closeSync(log);
  }

  async #ready(at: number): Promise<void> {
    for (const deadline = Date.now() + START_MS; ; await sleep(20)) {
      const socket = connect(this.#ports[at]!, '127.0.0.1');
      const ready = await once(socket, 'connect').then(
        () => true,
        () => false,
      );
      socket.destroy();
      if (ready) {
        return;
      }
      const log = readFileSync(join(this.#folder, `n${at + 1}.log`), 'utf8');
      assert.ok(this.#processes[at]?.exitCode === null && Date.now() < deadline, `node n${at + 1} does not serve:\n${log}`);
    }
  }
}

function binary(): string {
  const built = ['debug', 'release'].map((profile) => join(ROOT, 'target', profile, 'quorate')).filter((path) => existsSync(path));
  const newest = built.sort((one, other) => statSync(other).mtimeMs - statSync(one).mtimeMs)[0];
  const path = process.env['QUORATE_BINARY'] ?? newest;
  assert.ok(path, 'no quorate binary: cargo build -p quorate-server, or set QUORATE_BINARY');
  return path;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
