/**
 * A bucket: a name under which keys live, with defaults for the calls made through it. Each method writes a request and says
 * how its reply is read; what happens in between is the Rust client's.
 */

import { inspect, types } from 'node:util';

import type { Bridge, Read } from './bridge.js';
import type { QuorateError } from './errors.js';
import { Absent, Found, Stored, toBuffer } from './found.js';
import type { Scanned } from './found.js';
import { levelNumber, milliseconds, replicas, wrongType } from './options.js';
import type {
  BucketOptions,
  CallOptions,
  DeleteEntry,
  DeleteOptions,
  Key,
  PutEntry,
  PutManyOptions,
  PutOptions,
  ReadOptions,
  Resolver,
  ScanOptions,
  UpdateOptions,
  Value,
  WriteOptions,
} from './options.js';
import { Kind } from './reply.js';
import type { Reply } from './reply.js';
import { Ask, ScanFlag } from './request.js';
import type { Defaults, RequestWriter } from './request.js';
import { readExplanation } from './view.js';
import type { Explanation } from './view.js';

/** Makes the value to write of those that were read: none when the key is absent, several when writes were concurrent. */
export type Merge = (values: readonly Buffer[]) => Value | Promise<Value>;

/** A bucket. Made by `client.bucket(name)`; cheap. */
export class Bucket {
  /** @internal */
  protected readonly bridge: Bridge;
  /** @internal */
  protected readonly defaults: Defaults;
  readonly #name: string;
  readonly #resolver: Resolver | undefined;

  /** @internal */
  constructor(bridge: Bridge, name: string, options: BucketOptions) {
    if (typeof name !== 'string') {
      throw wrongType('bucket', 'a name', name);
    }
    if (options.resolver !== undefined && typeof options.resolver !== 'function') {
      throw wrongType('resolver', 'a function', options.resolver);
    }
    this.bridge = bridge;
    this.#name = name;
    this.#resolver = options.resolver;
    this.defaults = {
      name: Buffer.from(name),
      level: levelNumber(options.level),
      r: replicas('r', options.r),
      w: replicas('w', options.w),
      timeoutMs: milliseconds('timeoutMs', options.timeoutMs),
    };
  }

  /** Its name. */
  get name(): string {
    return this.#name;
  }

  [inspect.custom](): string {
    return `${this.constructor.name}(${inspect(this.#name)})`;
  }

  /** Reads a key: `null` when it has no values. */
  get(key: Key, options?: ReadOptions): Promise<Found | null> {
    return this.#ask(Ask.Get, options, readFound, (request) => request.key(key));
  }

  /** Reads a key; when it has no values, the answer still has the context to put under. */
  lookup(key: Key, options?: ReadOptions): Promise<Found | Absent> {
    return this.#ask(Ask.Get, options, readLookup, (request) => request.key(key));
  }

  /** Whether a key has values; moves none. */
  exists(key: Key, options?: ReadOptions): Promise<boolean> {
    return this.#ask(Ask.Exists, options, readExists, (request) => request.key(key));
  }

  /**
   * Writes a value. With the context of a read it replaces exactly what was read; with none whatever its coordinator holds at
   * that moment; under `Context.EMPTY` it is added beside whatever there is.
   */
  put(key: Key, value: Value, options?: PutOptions): Promise<Stored> {
    return this.#ask(Ask.Put, options, readStored, (request) => request.put(key, value, options));
  }

  /** Deletes a key. With the context of a read exactly what was read, without one what a read at its level sees. */
  delete(key: Key, options?: DeleteOptions): Promise<Stored> {
    return this.#ask(Ask.Delete, options, readStored, (request) => request.delete(key, options));
  }

  /** Reads many keys, with a result for each in their order: what was found, `null`, or the error of this key. */
  getMany(keys: Iterable<Key>, options?: ReadOptions): Promise<Array<Found | null | QuorateError>> {
    return this.#ask(Ask.GetMany, options, readFoundMany, (request) => {
      request.list('keys', keys, (key) => request.key(key));
    });
  }

  /** Writes many values, with a result for each in their order: a `Map`, pairs of key and value, or entries. */
  putMany(
    entries: Iterable<readonly [Key, Value]> | Iterable<PutEntry>,
    options?: PutManyOptions,
  ): Promise<Array<Stored | QuorateError>> {
    const ttlMs = options?.ttlMs;
    return this.#ask(Ask.PutMany, options, readStoredMany, (request) => {
      request.list<readonly [Key, Value] | PutEntry>('entries', entries, (entry) => {
        if (typeof entry !== 'object' || entry === null) {
          throw wrongType('entry', 'a pair of key and value, or an object with both', entry);
        }
        const { key, value, ...rest } = Array.isArray(entry) ? { key: entry[0], value: entry[1] } : (entry as PutEntry);
        request.put(key, value, 'ttlMs' in rest ? rest : { ...rest, ttlMs });
      });
    });
  }

  /** Deletes many keys, with a result for each in their order. */
  deleteMany(keys: Iterable<Key | DeleteEntry>, options?: WriteOptions): Promise<Array<Stored | QuorateError>> {
    return this.#ask(Ask.DeleteMany, options, readStoredMany, (request) => {
      request.list('keys', keys, (entry) => {
        const isKey = typeof entry === 'string' || types.isUint8Array(entry);
        request.delete(isKey ? entry : entry?.key, isKey ? undefined : entry);
      });
    });
  }

  /**
   * Reads a key, merges its values, and writes the result in their place. When another writer was quicker, its value stands
   * beside the merged one: then both are read and merged again, a few times. So `merge` may be called more than once and must
   * give the same for the same values.
   */
  async update(key: Key, merge: Merge, options?: UpdateOptions): Promise<Stored> {
    if (typeof merge !== 'function') {
      throw wrongType('merge', 'a function', merge);
    }
    const { bridge, defaults } = this;
    const { native, request } = bridge;
    const signal = options?.signal;
    request.begin(Ask.Update, defaults, options);
    request.key(key);
    const update = native.update(request.single());
    for (;;) {
      const values = await bridge.call(readValues, signal, undefined, (...call) => native.updateRead(...call, update));
      const merged = toBuffer('what merge returns', await merge(values));
      const write = (slot: number, generation: number, withdrawable: boolean): void => {
        native.updateWrite(slot, generation, withdrawable, update, merged);
      };
      const stored = await bridge.call(readUpdated, signal, undefined, write);
      if (stored !== undefined) {
        return stored;
      }
    }
  }

  /** The keys of this bucket, in no particular order: `for await (const { key } of bucket.scan())`. */
  scan(options?: ScanOptions): AsyncGenerator<Scanned, void, void> {
    return this.scanFor(options, 0);
  }

  /** Where a key lives, and who would coordinate it now. */
  explain(key: Key, options?: CallOptions): Promise<Explanation> {
    return this.#ask(Ask.Explain, options, readExplanation, (request) => request.key(key));
  }

  /** @internal */
  protected scanFor(options: ScanOptions | undefined, flags: number): AsyncGenerator<Scanned, void, void> {
    const { native, request } = this.bridge;
    request.begin(Ask.Scan, this.defaults, options, flags | (options?.values === true ? ScanFlag.Values : 0));
    return this.#pages(native.scan(request.single()), options?.signal);
  }

  async *#pages(scan: ReturnType<Bridge['native']['scan']>, signal: AbortSignal | undefined): AsyncGenerator<Scanned, void, void> {
    const { bridge } = this;
    for (;;) {
      const page = await bridge.call(readPage, signal, this.#resolver, (...call) => bridge.native.scanPage(...call, scan));
      if (page.length === 0) {
        return;
      }
      yield* page;
    }
  }

  #ask<T>(ask: Ask, options: CallOptions | undefined, read: Read<T>, write: (request: RequestWriter) => void): Promise<T> {
    try {
      const { bridge } = this;
      bridge.request.begin(ask, this.defaults, options);
      write(bridge.request);
      return bridge.call(read, options?.signal, this.#resolver);
    } catch (error) {
      return Promise.reject(error);
    }
  }
}

function readFound(reply: Reply, kind: Kind, bridge: Bridge, resolver: Resolver | undefined): Found | null {
  return kind === Kind.Found ? new Found(reply, bridge.nodeName, resolver) : null;
}

function readLookup(reply: Reply, kind: Kind, bridge: Bridge, resolver: Resolver | undefined): Found | Absent {
  return readFound(reply, kind, bridge, resolver) ?? new Absent(reply, bridge.nodeName);
}

function readExists(reply: Reply): boolean {
  return reply.u8() !== 0;
}

function readStored(reply: Reply, _kind: Kind, bridge: Bridge): Stored {
  return new Stored(reply, bridge.nodeName);
}

function readUpdated(reply: Reply, kind: Kind, bridge: Bridge): Stored | undefined {
  return kind === Kind.Again ? undefined : readStored(reply, kind, bridge);
}

function readValues(reply: Reply): Buffer[] {
  return reply.list(reply.u32(), () => reply.value());
}

/** Reads the items of a batch, each of which may have failed by itself. */
function many<T>(read: Read<T>): Read<Array<T | QuorateError>> {
  return (reply, _kind, bridge, resolver) =>
    reply.list(reply.u32(), () => {
      const [kind, part] = reply.part();
      return kind === Kind.Failed ? part.error() : read(part, kind, bridge, resolver);
    });
}

const readFoundMany = many(readFound);
const readStoredMany = many(readStored);

function readPage(reply: Reply, _kind: Kind, bridge: Bridge, resolver: Resolver | undefined): Scanned[] {
  return reply.list(reply.u32(), () => {
    const bucket = reply.text() ?? '';
    // A scan may bring many keys, and they are often kept.
    const key = Buffer.from(reply.value());
    const [siblings, valueBytes] = [reply.u32(), reply.f64()];
    const found = reply.u8() === 0 ? undefined : new Found(reply.part()[1], bridge.nodeName, resolver);
    return { bucket, key, siblings, valueBytes, found };
  });
}
