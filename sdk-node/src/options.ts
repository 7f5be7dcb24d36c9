/**
 * What callers may pass: keys, values, levels, times, and the options of each method; and the checks of their types. Ranges
 * and limits are the Rust client's to check, which says what is wrong with them.
 */

import { inspect } from 'node:util';

import { Context } from './context.js';

/** A key: text is its UTF-8 bytes. */
export type Key = string | Uint8Array;

/** A value to store: text is its UTF-8 bytes. What is read is always a `Buffer`. */
export type Value = string | Uint8Array;

/** How many replicas an operation rests on. */
export type Level = 'one' | 'available' | 'quorum' | 'all';

/** Makes one value of concurrent ones, of which the last was written last. Must give the same for the same values. */
export type Resolver = (values: readonly Buffer[]) => Value;

/** What every method takes. */
export interface CallOptions {
  /** How many replicas the operation rests on; the bucket's if it is left out. */
  readonly level?: Level | undefined;
  /** How many owners of the key are used; all of them if it is left out. */
  readonly n?: number | undefined;
  /** Time for the call, retries included, in milliseconds. No call outlives it. */
  readonly timeoutMs?: number | undefined;
  /** Ends the call early: it rejects with the signal's reason. A write that was sent may still be carried out. */
  readonly signal?: AbortSignal | undefined;
}

/** What reads take. */
export interface ReadOptions extends CallOptions {
  /** How many replicas a read waits for, whatever the level says. */
  readonly r?: number | undefined;
}

/** What writes take. */
export interface WriteOptions extends CallOptions {
  /** How many replicas make a write durable before it is acknowledged, whatever the level says. */
  readonly w?: number | undefined;
}

/** What a delete takes. */
export interface DeleteOptions extends WriteOptions {
  /** What the delete replaces: exactly what the read with this context saw. */
  readonly context?: Context | undefined;
}

/** What a put takes. */
export interface PutOptions extends WriteOptions {
  /** What the put replaces: exactly what the read with this context saw; nothing if it is {@link Context.EMPTY}. */
  readonly context?: Context | undefined;
  /** Readers no longer see the value after so many milliseconds. */
  readonly ttlMs?: number | undefined;
}

/** What a batch of puts takes. */
export interface PutManyOptions extends WriteOptions {
  /** Readers no longer see the values after so many milliseconds, unless an entry says otherwise. */
  readonly ttlMs?: number | undefined;
}

/** One put of a batch, where a pair of key and value does not do. */
export interface PutEntry {
  readonly key: Key;
  readonly value: Value;
  /** What the put replaces: exactly what the read with this context saw; nothing if it is {@link Context.EMPTY}. */
  readonly context?: Context | undefined;
  /** Readers no longer see the value after so many milliseconds. */
  readonly ttlMs?: number | undefined;
}

/** One delete of a batch, where a key does not do. */
export interface DeleteEntry {
  readonly key: Key;
  /** What the delete replaces: exactly what the read with this context saw. */
  readonly context?: Context | undefined;
}

/** What an update takes. */
export interface UpdateOptions extends ReadOptions, WriteOptions {}

/** What a scan takes. Its time is that of each question to a node, not of the whole scan. */
export interface ScanOptions extends ReadOptions {
  /** Also read the values. */
  readonly values?: boolean | undefined;
}

/** What a bucket's calls have unless they say otherwise. */
export interface BucketOptions {
  /** How many replicas operations rest on. */
  readonly level?: Level | undefined;
  /** How many replicas reads wait for, whatever the level says. */
  readonly r?: number | undefined;
  /** How many replicas make a write durable before it is acknowledged, whatever the level says. */
  readonly w?: number | undefined;
  /** Time for each call, retries included, in milliseconds. */
  readonly timeoutMs?: number | undefined;
  /** What `found.value` makes of concurrent values; without one it throws. */
  readonly resolver?: Resolver | undefined;
}

/** The settings of a client. */
export interface ClientOptions {
  /** Where the cluster is: `host:port`, any node will do; several, as a list or with commas, help while nodes are down. */
  readonly endpoints: string | Iterable<string>;
  /** How many replicas operations rest on, unless a bucket or a call says otherwise. */
  readonly level?: Level | undefined;
  /** Time for a call, retries included; 2,000 ms unless set. */
  readonly timeoutMs?: number | undefined;
  /** Time for one attempt; 500 ms unless set. */
  readonly attemptTimeoutMs?: number | undefined;
  /** Time to connect to a node; 1,000 ms unless set. */
  readonly connectTimeoutMs?: number | undefined;
  /** How often an operation is sent at most; 3 unless set. */
  readonly attempts?: number | undefined;
  /** Operations under way at the same time; 1,024 unless set. More wait their turn. */
  readonly inFlight?: number | undefined;
  /** Operations under way or waiting; 65,536 unless set. Further ones are refused. */
  readonly waiting?: number | undefined;
  /** I/O threads; 1 unless set. */
  readonly ioThreads?: number | undefined;
  /** The zone this client runs in: reads prefer nodes of the same one. */
  readonly zone?: string | undefined;
  /** What the nodes call this client in their logs. */
  readonly name?: string | undefined;
  /** Gives up connecting. */
  readonly signal?: AbortSignal | undefined;
}

/** The levels in the order in which requests number them, from 1. */
const LEVELS: readonly Level[] = ['one', 'available', 'quorum', 'all'];

/** Most replicas that can be asked for: what a byte holds. */
const REPLICAS_MAX = 255;

/** The number of a level in a request; 0 for none. */
export function levelNumber(level: Level | undefined): number {
  if (level === undefined) {
    return 0;
  }
  const at = LEVELS.indexOf(level);
  if (at < 0) {
    throw wrongType('level', `one of ${LEVELS.map((name) => `'${name}'`).join(', ')}`, level);
  }
  return at + 1;
}

/** A number of replicas; 0 for none. */
export function replicas(name: string, count: number | undefined): number {
  if (count === undefined) {
    return 0;
  }
  if (!Number.isInteger(count) || count < 1 || count > REPLICAS_MAX) {
    throw wrongType(name, `a whole number from 1 to ${REPLICAS_MAX}`, count);
  }
  return count;
}

/** A time in milliseconds; 0 for none. */
export function milliseconds(name: string, time: number | undefined): number {
  if (time === undefined) {
    return 0;
  }
  if (typeof time !== 'number' || !(time > 0) || time === Infinity) {
    throw wrongType(name, 'a number of milliseconds above 0', time);
  }
  return time;
}

/** The bytes of a context; undefined for none. */
export function contextBytes(context: Context | undefined): Buffer | undefined {
  if (context === undefined) {
    return undefined;
  }
  if (!(context instanceof Context)) {
    throw wrongType('context', 'a Context', context);
  }
  return Context.bytesOf(context);
}

/** A signal. One of another realm, as test runners make them, is one too. */
export function checkedSignal(signal: AbortSignal): AbortSignal {
  if (typeof signal?.throwIfAborted !== 'function' || typeof signal.addEventListener !== 'function') {
    throw wrongType('signal', 'an AbortSignal', signal);
  }
  return signal;
}

/** The error for a value of a type that is not taken. */
export function wrongType(name: string, expected: string, value: unknown): TypeError {
  return new TypeError(`${name}: expected ${expected}, not ${inspect(value, { depth: 0, breakLength: Infinity, maxStringLength: 40 })}`);
}
