/**
 * Replies as bytes: a cursor over what `native/reply.rs` wrote. Numbers are little-endian. Values that are too large to be
 * written among the rest come beside it, in buffers of their own.
 */

import { errorOfKind } from './kinds.js';
import type { QuorateError } from './errors.js';

/** What a reply is. */
export enum Kind {
  Failed = 0,
  Done,
  Found,
  Absent,
  Exists,
  Stored,
  Many,
  Values,
  Again,
  Page,
  Explanation,
  Stats,
  Pings,
  Topology,
  NodeUp,
  NodeDown,
}

/** What stands for a node that nobody knows, or for text that is missing. */
const NONE = 0xffff_ffff;

/** What stands instead of a value's bytes when they came in a buffer of their own. */
const APART = 0xffff_ffff;

/** What nearly all replies have apart. */
export const NOTHING_APART: readonly Buffer[] = [];

/** The bytes of the replies that came at the same time. */
export interface Frame {
  readonly bytes: Buffer;
  readonly view: DataView;
}

/** A cursor over one reply, from its beginning to its end. */
export class Reply {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #start: number;
  readonly #apart: readonly Buffer[];
  #at: number;
  #apartAt = 0;

  constructor(frame: Frame, start: number, apart: readonly Buffer[]) {
    this.#bytes = frame.bytes;
    this.#view = frame.view;
    this.#start = start;
    this.#at = start;
    this.#apart = apart;
  }

  /** The same cursor, back at the beginning. */
  rewound(): this {
    this.#at = this.#start;
    this.#apartAt = 0;
    return this;
  }

  /** A cursor over a part of this one, which is passed over: its kind, and it. */
  part(): [Kind, Reply] {
    const [length, apart] = [this.u32(), this.u32()];
    const kind: Kind = this.u8();
    const values = apart === 0 ? NOTHING_APART : this.#apart.slice(this.#apartAt, this.#apartAt + apart);
    const part = new Reply({ bytes: this.#bytes, view: this.#view }, this.#at, values);
    this.#at += length;
    this.#apartAt += apart;
    return [kind, part];
  }

  u8(): number {
    return this.#view.getUint8(this.#at++);
  }

  u16(): number {
    const number = this.#view.getUint16(this.#at, true);
    this.#at += 2;
    return number;
  }

  u32(): number {
    const number = this.#view.getUint32(this.#at, true);
    this.#at += 4;
    return number;
  }

  u64(): bigint {
    const number = this.#view.getBigUint64(this.#at, true);
    this.#at += 8;
    return number;
  }

  f64(): number {
    const number = this.#view.getFloat64(this.#at, true);
    this.#at += 8;
    return number;
  }

  /** So many bytes, in memory that all replies share which came at the same time. */
  bytes(length: number): Buffer {
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return bytes;
  }

  /** A value with its length before it, or the next of those that came apart. */
  value(): Buffer {
    const length = this.u32();
    return length === APART ? this.#apart[this.#apartAt++]! : this.bytes(length);
  }

  /** Passes over what {@link Reply.value} would read. */
  skipValue(): void {
    const length = this.u32();
    if (length === APART) {
      this.#apartAt += 1;
    } else {
      this.#at += length;
    }
  }

  /** Passes over so many bytes. */
  skip(bytes: number): void {
    this.#at += bytes;
  }

  /** Text that may be missing. */
  text(): string | undefined {
    const length = this.u32();
    if (length === NONE) {
      return undefined;
    }
    const text = this.#bytes.toString('utf8', this.#at, this.#at + length);
    this.#at += length;
    return text;
  }

  /** So many items. */
  list<T>(count: number, read: () => T): T[] {
    const items = new Array<T>(count);
    for (let at = 0; at < count; at += 1) {
      items[at] = read();
    }
    return items;
  }

  /** An error, which stands there whole. */
  error(): QuorateError {
    const [kind, code, message] = [this.text() ?? '', this.text() ?? '', this.text() ?? ''];
    const flags = { retryable: this.u8() !== 0, maybeApplied: this.u8() !== 0 };
    const story = { attempts: this.u32(), elapsedMs: this.f64(), node: this.text() };
    const [need, got] = [this.u8(), this.u8()];
    const counts = need > 0 ? { need, got } : {};
    return errorOfKind(kind, message, { code, ...flags, ...story, ...counts });
  }
}
