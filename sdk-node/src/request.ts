/**
 * Requests as bytes: what a call asks for is written into a buffer at once, so callers may change afterwards what they passed;
 * requests that are made in the same turn are handed to the addon together. `native/request.rs` reads what is written here;
 * numbers are little-endian.
 */

import { types } from 'node:util';

import { contextBytes, levelNumber, milliseconds, replicas, wrongType } from './options.js';
import type { DeleteOptions, Key, PutOptions, ReadOptions, Value, WriteOptions } from './options.js';

/** What a request asks for. */
export enum Ask {
  Get = 1,
  Exists,
  Put,
  Delete,
  GetMany,
  PutMany,
  DeleteMany,
  Explain,
  Stats,
  Ping,
  Close,
  Update,
  Scan,
}

/** What a scan may want besides the keys of a bucket. */
export enum ScanFlag {
  Values = 1,
  AllBuckets = 2,
}

/** What stands where a context's length would, if there is none. */
const NO_CONTEXT = 0xffff_ffff;

/** Enough for hundreds of small requests. */
const BUFFER_BYTES = 64 * 1024;

/** From here on requests wait for no others: the buffer would only grow. */
const FULL_BYTES = BUFFER_BYTES / 2;

/** Most bytes of UTF-8 for a UTF-16 unit. */
const UTF8_BYTES_PER_UNIT = 3;

/** Where the parts of a request's header stand. The length, the call and whether it may be withdrawn are known last. */
const LENGTH_AT = 0;
const SLOT_AT = 4;
const GENERATION_AT = 8;
const WITHDRAWABLE_AT = 12;
const ASK_AT = 13;
const LEVEL_AT = 14;
const R_AT = 15;
const W_AT = 16;
const N_AT = 17;
const FLAGS_AT = 18;
const TIMEOUT_AT = 20;
const HEADER_BYTES = 28;

/** A bucket's name and what its calls have unless they say otherwise, checked. */
export interface Defaults {
  readonly name: Buffer;
  readonly level: number;
  readonly r: number;
  readonly w: number;
  readonly timeoutMs: number;
}

/** What a call has: what its options say, and its bucket's defaults for the rest. */
export interface Settings extends Defaults {
  readonly n: number;
}

/** A put, read from what the application passed. */
export interface Put {
  readonly key: Key;
  readonly value: Value;
  readonly context: Buffer | undefined;
  readonly ttlMs: number;
}

/** A delete, read from what the application passed. */
export interface Delete {
  readonly key: Key;
  readonly context: Buffer | undefined;
}

// What follows reads what the application passed, and comes before the request is begun: an iterator or a getter may make calls
// itself, or end others, and a request that is being written must not be written into.

/** A call's settings. */
export function settingsOf(bucket: Defaults, options: (ReadOptions & WriteOptions) | undefined): Settings {
  if (options === undefined) {
    return { ...bucket, n: 0 };
  }
  if (typeof options !== 'object' || options === null) {
    throw wrongType('options', 'an object', options);
  }
  return {
    name: bucket.name,
    level: levelNumber(options.level) || bucket.level,
    r: replicas('r', options.r) || bucket.r,
    w: replicas('w', options.w) || bucket.w,
    n: replicas('n', options.n),
    timeoutMs: milliseconds('timeoutMs', options.timeoutMs) || bucket.timeoutMs,
  };
}

/** A key or a value. */
export function textOf(name: string, text: Key | Value): Key | Value {
  if (typeof text !== 'string' && !types.isUint8Array(text)) {
    throw wrongType(name, 'a string or a Uint8Array', text);
  }
  return text;
}

/** A put. */
export function putOf(key: Key, value: Value, options: Pick<PutOptions, 'context' | 'ttlMs'> | undefined, ttlMs = 0): Put {
  return {
    key: textOf('key', key),
    value: textOf('value', value),
    context: contextBytes(options?.context),
    ttlMs: milliseconds('ttlMs', options?.ttlMs) || ttlMs,
  };
}

/** A delete. */
export function deleteOf(key: Key, options: Pick<DeleteOptions, 'context'> | undefined): Delete {
  return { key: textOf('key', key), context: contextBytes(options?.context) };
}

/** The items of a batch. */
export function itemsOf<T, U>(name: string, items: Iterable<T>, read: (item: T) => U): U[] {
  // Both have an iterator, and neither is meant by it.
  if (typeof items === 'string' || types.isUint8Array(items) || typeof items?.[Symbol.iterator] !== 'function') {
    throw wrongType(name, 'an iterable', items);
  }
  return Array.from(items, (item) => read(item));
}

/** Bytes that their owner may change while the rest of a batch is made: a generator may use its buffer again. */
export function kept<T extends string | Uint8Array>(text: T): T | Buffer {
  return types.isUint8Array(text) ? Buffer.from(text) : text;
}

/** Writes requests, one after the other. */
export class RequestWriter {
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #view = viewOf(this.#buffer);
  /** Where the request begins that is being written: all before it are complete. */
  #start = 0;
  #at = 0;

  /** Holds the requests that are complete. */
  get buffer(): Buffer {
    return this.#buffer;
  }

  /** How much of the buffer they take. */
  get length(): number {
    return this.#start;
  }

  /** Whether there are enough of them. */
  get isFull(): boolean {
    return this.#start >= FULL_BYTES;
  }

  /** Begins a request, in the place of one that was not completed. */
  begin(ask: Ask, settings: Settings, flags = 0): void {
    const { name, level, r, w, n, timeoutMs } = settings;
    const start = this.#start;
    this.#at = start;
    this.#reserve(HEADER_BYTES);
    const view = this.#view;
    view.setUint8(start + ASK_AT, ask);
    view.setUint8(start + LEVEL_AT, level);
    view.setUint8(start + R_AT, r);
    view.setUint8(start + W_AT, w);
    view.setUint8(start + N_AT, n);
    view.setUint16(start + FLAGS_AT, flags, true);
    view.setFloat64(start + TIMEOUT_AT, timeoutMs, true);
    this.#at = start + HEADER_BYTES;
    this.#bytes(name);
  }

  /** Completes the request: names its call, and says whether that may be withdrawn. */
  complete(slot: number, generation: number, withdrawable: boolean): void {
    const [view, start] = [this.#view, this.#start];
    view.setUint32(start + LENGTH_AT, this.#at - start, true);
    view.setUint32(start + SLOT_AT, slot, true);
    view.setUint32(start + GENERATION_AT, generation, true);
    view.setUint8(start + WITHDRAWABLE_AT, withdrawable ? 1 : 0);
    this.#start = this.#at;
  }

  /** The request that is being written, for a call of its own; the next takes its place. */
  single(): Uint8Array {
    this.#view.setUint32(this.#start + LENGTH_AT, this.#at - this.#start, true);
    return this.#buffer.subarray(this.#start, this.#at);
  }

  /** The calls whose requests are complete, by slot and generation. */
  calls(): Array<[slot: number, generation: number]> {
    const calls: Array<[number, number]> = [];
    for (let at = 0; at < this.#start; at += this.#view.getUint32(at + LENGTH_AT, true)) {
      calls.push([this.#view.getUint32(at + SLOT_AT, true), this.#view.getUint32(at + GENERATION_AT, true)]);
    }
    return calls;
  }

  /** Forgets all requests: they were handed over. */
  clear(): void {
    this.#start = 0;
    if (this.#buffer.length > BUFFER_BYTES) {
      this.#use(Buffer.allocUnsafeSlow(BUFFER_BYTES));
    }
  }

  /** Adds a key or a value. */
  text(text: Key | Value): void {
    if (typeof text === 'string') {
      this.#reserve(4 + text.length * UTF8_BYTES_PER_UNIT);
      const bytes = this.#buffer.write(text, this.#at + 4);
      this.#view.setUint32(this.#at, bytes, true);
      this.#at += 4 + bytes;
    } else {
      this.#bytes(text);
    }
  }

  /** Adds the items of a batch. */
  list<T>(items: readonly T[], add: (item: T) => void): void {
    this.#u32(items.length);
    items.forEach(add);
  }

  /** Adds a put. */
  put({ key, value, context, ttlMs }: Put): void {
    this.text(key);
    this.text(value);
    this.#context(context);
    this.#reserve(8);
    this.#view.setFloat64(this.#at, ttlMs, true);
    this.#at += 8;
  }

  /** Adds a delete. */
  delete({ key, context }: Delete): void {
    this.text(key);
    this.#context(context);
  }

  #context(context: Buffer | undefined): void {
    if (context === undefined) {
      this.#u32(NO_CONTEXT);
    } else {
      this.#bytes(context);
    }
  }

  #bytes(bytes: Uint8Array): void {
    this.#u32(bytes.length);
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #u32(number: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.#at, number, true);
    this.#at += 4;
  }

  #reserve(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#buffer.length));
      this.#buffer.copy(grown, 0, 0, this.#at);
      this.#use(grown);
    }
  }

  #use(buffer: Buffer<ArrayBuffer>): void {
    this.#buffer = buffer;
    this.#view = viewOf(buffer);
  }
}

function viewOf(buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}
