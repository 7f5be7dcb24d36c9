/**
 * A cluster of real nodes for the tests of an application, which can be killed, frozen, separated and healed.
 *
 * The nodes are processes of the server itself, run by its command `quorate testkit`; nothing of them is imitated here. Three of
 * them start in less than half a second:
 *
 * ```ts
 * await using cluster = await LocalCluster.start({ nodes: 3 });   // or: try { … } finally { await cluster.close(); }
 * await using db = await cluster.client();
 * await db.put('key', 'value', { level: 'quorum' });
 * await cluster.kill(0);
 * ```
 *
 * However the test ends, even by SIGKILL, the nodes end with it and their data is removed. A cluster that is not closed does not
 * keep the process alive.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';

import { LocalClusterError, binary } from './binary.js';
import { Client } from './client.js';
import type { ClientOptions } from './options.js';

export { LocalClusterError, binary };

/** How long one command may take: above the server's own bound for a node that starts on a busy disk. */
const COMMAND_TIMEOUT_MS = 120_000;

/** How long the end may take: nodes with a directory of their own drain, which is bounded below this. */
const CLOSE_TIMEOUT_MS = 30_000;

/** How a cluster shall be. */
export interface LocalClusterOptions {
  /** How many nodes; 3. */
  readonly nodes?: number | undefined;
  /** N: how many owners a key has; 3. */
  readonly replicas?: number | undefined;
  /** Settings of every node by their keys in the configuration file: `{ 'deadlines.default_ms': 500 }`. */
  readonly settings?: Readonly<Record<string, string | number | boolean>> | undefined;
  /** Where the data stands and stays, for the next cluster of that directory; a temporary folder otherwise. */
  readonly directory?: string | undefined;
  /** The server's binary, otherwise found by {@link binary}. */
  readonly executable?: string | undefined;
}

/** One node and its process. */
export interface NodeStatus {
  /** Its name, by which receipts and errors speak of it. */
  readonly name: string;
  /** Where clients and the other nodes reach it. */
  readonly address: string;
  /** The id of its process; null while it has none. */
  readonly process: number | null;
  /** What the process does. */
  readonly state: 'running' | 'paused' | 'ended';
  /** How it ended, if it has. */
  readonly ended: string | null;
  /** Its data directory. */
  readonly data: string;
  /** The file it logs to. */
  readonly log: string;
}

/** All nodes, and who can reach whom. */
export interface ClusterStatus {
  /** The nodes by their numbers. */
  readonly nodes: readonly NodeStatus[];
  /** The groups of a partition; null while everybody reaches everybody. */
  readonly groups: readonly (readonly number[])[] | null;
  /** The group in which the clients are; null without a partition. */
  readonly clients: number | null;
}

/** A line that the command answers. */
interface Answer {
  readonly id?: number | null;
  readonly ok?: boolean;
  readonly ready?: boolean;
  readonly error?: string;
  readonly nodes?: readonly NodeStatus[];
  readonly groups?: readonly (readonly number[])[];
  readonly clients?: number;
  readonly log?: string;
}

/** Who waits for an answer. */
interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

/** What the first line is known by: the command's own answers have numbers from 1. */
const READY = 0;

/** A cluster on this machine, which ends with `close`, `await using`, or this process. Nodes are numbered from 0. */
export class LocalCluster {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<number, Waiting>();
  #nodes: readonly NodeStatus[] = [];
  #number = READY;
  #unread = '';
  #ended: LocalClusterError | undefined;

  private constructor(executable: string, parameters: string[]) {
    // A group of its own: Ctrl-C is for the test, which may want to use the cluster while it cleans up.
    this.#process = spawn(executable, parameters, { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    this.#process.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text));
    this.#process.stdin.on('error', () => {}); // It has ended then, which is told below.
    this.#process.once('error', (error) => this.#end(`${executable} can't be started: ${error.message}`));
    this.#process.once('close', (code, signal) => {
      this.#end(`quorate testkit has ended (${signal ?? code}); what it wrote to standard error says why`);
    });
  }

  /** Starts the nodes and waits until all serve. */
  static async start(options: LocalClusterOptions = {}): Promise<LocalCluster> {
    const parameters = ['testkit', '--nodes', String(options.nodes ?? 3)];
    if (options.replicas !== undefined) {
      parameters.push('--replicas', String(options.replicas));
    }
    if (options.directory !== undefined) {
      parameters.push('--dir', options.directory);
    }
    for (const [key, value] of Object.entries(options.settings ?? {})) {
      parameters.push('--set', `${key}=${value}`);
    }
    const cluster = new LocalCluster(options.executable ?? binary(), parameters);
    try {
      const ready = await cluster.#answer(READY);
      if (ready.ready !== true) {
        throw new LocalClusterError(ready.error ?? JSON.stringify(ready));
      }
      cluster.#nodes = ready.nodes ?? [];
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  /** The addresses of all nodes, as `Client.connect` and `QUORATE_ENDPOINTS` take them. */
  get endpoints(): string {
    return this.addresses.join(',');
  }

  /** The address of each node. */
  get addresses(): readonly string[] {
    return this.#nodes.map((node) => node.address);
  }

  /** The name of each node, by which receipts and errors speak of it. */
  get names(): readonly string[] {
    return this.#nodes.map((node) => node.name);
  }

  /** A client of this cluster. */
  client(options: Omit<ClientOptions, 'endpoints'> = {}): Promise<Client> {
    return Client.connect({ ...options, endpoints: this.endpoints });
  }

  /** Ends nodes as a power switch would: no drain, no flush. */
  async kill(...nodes: readonly number[]): Promise<void> {
    await this.#command('kill', { nodes });
  }

  /** Ends nodes in order: they finish what they have begun. */
  async stop(...nodes: readonly number[]): Promise<void> {
    await this.#command('stop', { nodes });
  }

  /** Starts nodes again on the data they have and waits until they serve; those that still run are stopped first. */
  async restart(...nodes: readonly number[]): Promise<void> {
    await this.#command('restart', { nodes });
  }

  /** Stops the clocks of nodes: they neither answer nor hang up. */
  async pause(...nodes: readonly number[]): Promise<void> {
    await this.#command('pause', { nodes });
  }

  /** Lets paused nodes go on. */
  async resume(...nodes: readonly number[]): Promise<void> {
    await this.#command('resume', { nodes });
  }

  /** Starts another node and has it join the ring, and waits until it holds its part of the data. Its number. */
  async addNode(): Promise<number> {
    return this.#change('add', {});
  }

  /** Has a node hand over what it holds and leave the ring, and ends it. It keeps its number. */
  async removeNode(node: number): Promise<void> {
    await this.#command('remove', { node });
  }

  /** Kills a node, removes its data, and has a new node take its place, as after the loss of a machine. The number of the new one. */
  async replaceNode(node: number): Promise<number> {
    return this.#change('replace', { node });
  }

  /**
   * Lets only those of the same group reach each other, until `heal` or another partition. `clients` is the group in which all
   * clients are, the first if it is left out; a node in no group is alone. Connections stay open and carry nothing, as in a
   * network that loses everything.
   */
  async partition(groups: readonly (readonly number[])[], { clients = 0 }: { clients?: number } = {}): Promise<void> {
    await this.#command('partition', { groups, clients });
  }

  /** Lets everybody reach everybody again; what was under way arrives late. */
  async heal(): Promise<void> {
    await this.#command('heal', {});
  }

  /** What a node has logged; of a long log the last MiB. */
  async log(node: number): Promise<string> {
    return (await this.#command('log', { node })).log ?? '';
  }

  /** How the nodes are, and who can reach whom. */
  async status(): Promise<ClusterStatus> {
    const { nodes = [], groups = null, clients = null } = await this.#command('status', {});
    return { nodes, groups, clients };
  }

  /** Ends the nodes and removes their data, unless they have a directory of their own. May be called again. */
  async close(): Promise<void> {
    this.#process.stdin.end();
    if (this.#ended !== undefined) {
      return;
    }
    this.#keepAlive(true);
    const late = setTimeout(() => this.#process.kill('SIGKILL'), CLOSE_TIMEOUT_MS);
    await once(this.#process, 'close').finally(() => clearTimeout(late));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** A command after which there is one more node. */
  async #change(verb: string, fields: object): Promise<number> {
    const { nodes = [] } = await this.#command(verb, fields);
    this.#nodes = nodes;
    return nodes.length - 1;
  }

  async #command(verb: string, fields: object): Promise<Answer> {
    if (this.#ended !== undefined || this.#process.stdin.writableEnded) {
      throw this.#ended ?? new LocalClusterError('the cluster is closed');
    }
    this.#number += 1;
    const id = this.#number;
    const answer = this.#answer(id);
    this.#process.stdin.write(`${JSON.stringify({ id, do: verb, ...fields })}\n`);
    const { ok, error } = await answer;
    if (ok !== true) {
      throw new LocalClusterError(error ?? JSON.stringify(await answer));
    }
    return answer;
  }

  /** Waits for the answer of a number. */
  async #answer(number: number): Promise<Answer> {
    if (this.#ended !== undefined) {
      throw this.#ended;
    }
    const { promise, resolve, reject } = withResolvers<Answer>();
    const error = new LocalClusterError(`quorate testkit did not answer within ${COMMAND_TIMEOUT_MS / 1000} s`);
    const late = setTimeout(() => reject(error), COMMAND_TIMEOUT_MS);
    this.#waiting.set(number, { resolve, reject });
    this.#keepAlive(true);
    try {
      return await promise;
    } finally {
      clearTimeout(late);
      this.#waiting.delete(number);
      this.#keepAlive(this.#waiting.size > 0);
    }
  }

  #read(text: string): void {
    const lines = (this.#unread + text).split('\n');
    this.#unread = lines.pop() ?? '';
    for (const line of lines) {
      const answer = JSON.parse(line) as Answer;
      this.#waiting.get(answer.ready === undefined ? (answer.id ?? -1) : READY)?.resolve(answer);
    }
  }

  #end(why: string): void {
    this.#ended ??= new LocalClusterError(why);
    for (const waiting of this.#waiting.values()) {
      waiting.reject(this.#ended);
    }
  }

  /** Whether the event loop waits for this cluster. */
  #keepAlive(is: boolean): void {
    const change = is ? 'ref' : 'unref';
    this.#process[change]();
    // Pipes of a child process are sockets, which their types do not say.
    (this.#process.stdin as unknown as Socket)[change]();
    (this.#process.stdout as unknown as Socket)[change]();
  }
}

/** `Promise.withResolvers`, which Node 20 does not have. */
function withResolvers<T>(): { promise: Promise<T>; resolve(value: T): void; reject(error: Error): void } {
  let settle: { resolve(value: T): void; reject(error: Error): void } | undefined;
  const promise = new Promise<T>((resolve, reject) => {
    settle = { resolve, reject };
  });
  return { promise, resolve: (value) => settle?.resolve(value), reject: (error) => settle?.reject(error) };
}
