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
import { Ask, deleteOf, itemsOf, kept, putOf, ScanFlag, settingsOf, textOf } from './request.js';
import type { Defaults, Delete, Put, RequestWriter } from './request.js';
import { inTime } from './update.js';
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
    return this.#ask(Ask.Get, options, readFound, () => textOf('key', key), writeText);
  }

  /** Reads a key; when it has no values, the answer still has the context to put under. */
  lookup(key: Key, options?: ReadOptions): Promise<Found | Absent> {
    return this.#ask(Ask.Get, options, readLookup, () => textOf('key', key), writeText);
  }

  /** Whether a key has values; moves none. */
  exists(key: Key, options?: ReadOptions): Promise<boolean> {
    return this.#ask(Ask.Exists, options, readExists, () => textOf('key', key), writeText);
  }

  /**
   * Writes a value. With the context of a read it replaces exactly what was read; with none whatever its coordinator holds at
   * that moment; under `Context.EMPTY` it is added beside whatever there is.
   */
  put(key: Key, value: Value, options?: PutOptions): Promise<Stored> {
    return this.#ask(Ask.Put, options, readStored, () => putOf(key, value, options), writePut);
  }

  /** Deletes a key. With the context of a read exactly what was read, without one what a read at its level sees. */
  delete(key: Key, options?: DeleteOptions): Promise<Stored> {
    return this.#ask(Ask.Delete, options, readStored, () => deleteOf(key, options), writeDelete);
  }

  /** Reads many keys, with a result for each in their order: what was found, `null`, or the error of this key. */
  getMany(keys: Iterable<Key>, options?: ReadOptions): Promise<Array<Found | null | QuorateError>> {
    const read = (): Key[] => itemsOf('keys', keys, (key) => kept(textOf('key', key)));
    return this.#ask(Ask.GetMany, options, readFoundMany, read, (request, keys) => {
      request.list(keys, (key) => request.text(key));
    });
  }

  /** Writes many values, with a result for each in their order: a `Map`, pairs of key and value, or entries. */
  putMany(
    entries: Iterable<readonly [Key, Value]> | Iterable<PutEntry>,
    options?: PutManyOptions,
  ): Promise<Array<Stored | QuorateError>> {
    const read = (): Put[] => {
      const ttlMs = milliseconds('ttlMs', options?.ttlMs);
      return itemsOf<readonly [Key, Value] | PutEntry, Put>('entries', entries, (entry) => {
        if (typeof entry !== 'object' || entry === null) {
          throw wrongType('entry', 'a pair of key and value, or an object with both', entry);
        }
        const { key, value, ...rest } = Array.isArray(entry) ? { key: entry[0], value: entry[1] } : (entry as PutEntry);
        const put = putOf(key, value, rest, 'ttlMs' in rest ? 0 : ttlMs);
        return { ...put, key: kept(put.key), value: kept(put.value) };
      });
    };
    return this.#ask(Ask.PutMany, options, readStoredMany, read, (request, puts) => {
      request.list(puts, (put) => request.put(put));
    });
  }

  /** Deletes many keys, with a result for each in their order. */
  deleteMany(keys: Iterable<Key | DeleteEntry>, options?: WriteOptions): Promise<Array<Stored | QuorateError>> {
    const read = (): Delete[] =>
      itemsOf('keys', keys, (entry) => {
        const isKey = typeof entry === 'string' || types.isUint8Array(entry);
        const { key, context } = deleteOf(isKey ? entry : entry?.key, isKey ? undefined : entry);
        return { key: kept(key), context };
      });
    return this.#ask(Ask.DeleteMany, options, readStoredMany, read, (request, deletes) => {
      request.list(deletes, (each) => request.delete(each));
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
    const [settings, signal, text] = [settingsOf(defaults, options), options?.signal, textOf('key', key)];
    request.begin(Ask.Update, settings);
    request.text(text);
    const update = native.update(request.single());
    for (;;) {
      const values = await bridge.call(readValues, signal, undefined, (...call) => native.updateRead(...call, update));
      const merged = toBuffer('what merge returns', await inTime(merge(values), update, signal));
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
    return this.#ask(Ask.Explain, options, readExplanation, () => textOf('key', key), writeText);
  }

  /** @internal */
  protected scanFor(options: ScanOptions | undefined, flags: number): AsyncGenerator<Scanned, void, void> {
    const { native, request } = this.bridge;
    const [settings, signal, values] = [settingsOf(this.defaults, options), options?.signal, options?.values === true];
    request.begin(Ask.Scan, settings, flags | (values ? ScanFlag.Values : 0));
    return this.#pages(native.scan(request.single()), signal);
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

  /** Everything of the application's is read before the request is begun: what it runs may make calls of its own. */
  #ask<T, W>(
    ask: Ask,
    options: CallOptions | undefined,
    read: Read<T>,
    wanted: () => W,
    write: (request: RequestWriter, wanted: W) => void,
  ): Promise<T> {
    try {
      const { bridge } = this;
      const [settings, signal, what] = [settingsOf(this.defaults, options), options?.signal, wanted()];
      return bridge.ask(ask, settings, read, signal, this.#resolver, (request) => write(request, what));
    } catch (error) {
      return Promise.reject(error);
    }
  }
}

function writeText(request: RequestWriter, text: Key | Value): void {
  request.text(text);
}

function writePut(request: RequestWriter, put: Put): void {
  request.put(put);
}

function writeDelete(request: RequestWriter, what: Delete): void {
  request.delete(what);
}

function readFound(reply: Reply, kind: Kind, bridge: Bridge, resolver: Resolver | undefined): Found | null {
  return kind === Kind.Found ? new Found(reply, bridge.nodeNames, resolver) : null;
}

function readLookup(reply: Reply, kind: Kind, bridge: Bridge, resolver: Resolver | undefined): Found | Absent {
  return readFound(reply, kind, bridge, resolver) ?? new Absent(reply, bridge.nodeNames);
}

function readExists(reply: Reply): boolean {
  return reply.u8() !== 0;
}

function readStored(reply: Reply, _kind: Kind, bridge: Bridge): Stored {
  return new Stored(reply, bridge.nodeNames);
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
    const found = reply.u8() === 0 ? undefined : new Found(reply.part()[1], bridge.nodeNames, resolver);
    return { bucket, key, siblings, valueBytes, found };
  });
}
