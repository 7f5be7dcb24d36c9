/**
 * The client: connects to a cluster, is its default bucket, makes others, and tells what happens to the cluster.
 */

import { EventEmitter } from 'node:events';

import { Bridge } from './bridge.js';
import { Bucket } from './bucket.js';
import type { Scanned } from './found.js';
import { listen, unlisten } from './log.js';
import type { LogRecord } from './log.js';
import { milliseconds, wrongType } from './options.js';
import type { BucketOptions, CallOptions, ClientOptions, Level, ScanOptions } from './options.js';
import { Kind } from './reply.js';
import { Ask, ScanFlag, settingsOf } from './request.js';
import { readNode, readPings, readStats, readTopology } from './view.js';
import type { NodeEvent, Pings, Ring, Stats, TopologyEvent } from './view.js';

/** The bucket of keys that are given no other. */
const DEFAULT_BUCKET = 'default';

/** Most that a count in the settings can be. */
const COUNT_MAX = 0xffff_ffff;

/** What a client emits. */
export interface ClientEvents {
  /** Another ring is followed. */
  topology: [TopologyEvent];
  /** There is a connection to a node to which there was none. */
  nodeUp: [NodeEvent];
  /** A node can't be reached any more, or has stopped answering. It is tried again in the background. */
  nodeDown: [NodeEvent];
  /** Something worth noting happened in any client of the process. */
  log: [LogRecord];
}

/**
 * A client of one cluster. Its methods are those of the bucket `default`; others are made by {@link Client.bucket}.
 *
 * It finds the cluster from any address, learns which node owns what, and sends each call straight to an owner; while a call to
 * a node is under way, calls for that node gather and leave together. An idle client does not keep the process alive; a call
 * under way does.
 */
export class Client extends Bucket {
  readonly #events = new EventEmitter();
  readonly #level: Level | undefined;
  #closed: Promise<void> | undefined;

  private constructor(bridge: Bridge, level: Level | undefined) {
    super(bridge, DEFAULT_BUCKET, { level });
    this.#level = level;
    const events = this.#events;
    bridge.onEvent = (kind, reply) => {
      if (kind === Kind.Topology) {
        events.emit('topology', readTopology(reply));
      } else {
        events.emit(kind === Kind.NodeUp ? 'nodeUp' : 'nodeDown', readNode(reply));
      }
    };
  }

  /** Connects to the cluster that one of the addresses belongs to: `host:port`, several separated by commas; or with settings. */
  static async connect(settings: string | ClientOptions): Promise<Client> {
    const options = typeof settings === 'string' ? { endpoints: settings } : settings;
    if (typeof options !== 'object' || options === null) {
      throw wrongType('connect', "an address like '127.0.0.1:7601', or settings", options);
    }
    const bridge = new Bridge({
      endpoints: addresses(options.endpoints),
      timeoutMs: milliseconds('timeoutMs', options.timeoutMs),
      attemptTimeoutMs: milliseconds('attemptTimeoutMs', options.attemptTimeoutMs),
      connectTimeoutMs: milliseconds('connectTimeoutMs', options.connectTimeoutMs),
      attempts: count('attempts', options.attempts),
      inFlight: count('inFlight', options.inFlight),
      waiting: count('waiting', options.waiting),
      ioThreads: count('ioThreads', options.ioThreads),
      zone: text('zone', options.zone),
      name: text('name', options.name),
    });
    const client = new Client(bridge, options.level);
    try {
      await bridge.call(() => {}, options.signal, undefined, (slot, generation) => bridge.native.connect(slot, generation));
    } catch (error) {
      bridge.native.abandon();
      throw error;
    }
    return client;
  }

  /** A bucket by name. Its calls may have defaults of their own. */
  bucket(name: string, options: BucketOptions = {}): Bucket {
    return new Bucket(this.bridge, name, { ...options, level: options.level ?? this.#level });
  }

  /** The keys of every bucket, in no particular order. */
  scanAll(options?: ScanOptions): AsyncGenerator<Scanned, void, void> {
    return this.scanFor(options, ScanFlag.AllBuckets);
  }

  /** The map of the cluster that is followed now. */
  get ring(): Ring {
    return this.bridge.native.ring();
  }

  /** What this client has done and how it sees the nodes. */
  async stats(options?: CallOptions): Promise<Stats> {
    return this.bridge.ask(Ask.Stats, settingsOf(this.defaults, options), readStats, options?.signal);
  }

  /** How long each node takes to answer. */
  async ping(options?: CallOptions): Promise<Pings> {
    return this.bridge.ask(Ask.Ping, settingsOf(this.defaults, options), readPings, options?.signal);
  }

  /**
   * Takes no more calls, waits until those that were taken have ended (none outlives its timeout), and closes the connections.
   * More than once is as good as once.
   */
  close(): Promise<void> {
    if (this.#closed === undefined) {
      const closed = this.bridge.ask(Ask.Close, settingsOf(this.defaults, undefined), () => {});
      this.#closed = closed.finally(() => unlisten(this.#events));
    }
    return this.#closed;
  }

  /** Closes it at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Calls the listener whenever that happens. A listener does not keep the process alive. */
  on<E extends keyof ClientEvents>(event: E, listener: (...details: ClientEvents[E]) => void): this {
    this.#events.on(event, listener as (...details: unknown[]) => void);
    this.#listened(event);
    return this;
  }

  /** Calls the listener when that happens for the first time from now on. */
  once<E extends keyof ClientEvents>(event: E, listener: (...details: ClientEvents[E]) => void): this {
    this.#events.once(event, listener as (...details: unknown[]) => void);
    this.#listened(event);
    return this;
  }

  /** Does not call the listener any more. */
  off<E extends keyof ClientEvents>(event: E, listener: (...details: ClientEvents[E]) => void): this {
    this.#events.off(event, listener as (...details: unknown[]) => void);
    if (event === 'log' && this.#events.listenerCount('log') === 0) {
      unlisten(this.#events);
    }
    return this;
  }

  /** As {@link Client.off}, under the name by which `events.once(client, …)` calls it. */
  removeListener<E extends keyof ClientEvents>(event: E, listener: (...details: ClientEvents[E]) => void): this {
    return this.off(event, listener);
  }

  /** How many listeners there are. */
  listenerCount(event: keyof ClientEvents): number {
    return this.#events.listenerCount(event);
  }

  #listened(event: keyof ClientEvents): void {
    if (event === 'log' && this.#closed === undefined) {
      listen(this.#events);
    }
  }
}

function addresses(endpoints: string | Iterable<string>): string {
  if (typeof endpoints === 'string') {
    return endpoints;
  }
  if (typeof endpoints?.[Symbol.iterator] !== 'function') {
    throw wrongType('endpoints', "an address like '127.0.0.1:7601', or several", endpoints);
  }
  return [...endpoints].map((endpoint) => text('endpoint', endpoint)).join(',');
}

/** A number of things; 0 for what the Rust client chooses. */
function count(name: string, count: number | undefined): number {
  if (count === undefined) {
    return 0;
  }
  if (!Number.isInteger(count) || count < 1 || count > COUNT_MAX) {
    throw wrongType(name, 'a whole number above 0', count);
  }
  return count;
}

/** Text; empty for what the Rust client chooses. */
function text(name: string, text: string | undefined): string {
  if (text !== undefined && typeof text !== 'string') {
    throw wrongType(name, 'a string', text);
  }
  return text ?? '';
}
