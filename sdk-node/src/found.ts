/**
 * What reads and writes return. Each is a view over the bytes of its reply: what nobody looks at is never made into objects.
 */

import { inspect, types } from 'node:util';
import type { InspectOptions } from 'node:util';

import { Context } from './context.js';
import { SiblingsError } from './errors.js';
import type { Resolver } from './options.js';
import { wrongType } from './options.js';
import type { Reply } from './reply.js';

/** Bytes of a sibling after its value: length, clock, hash. */
const SIBLING_REST_BYTES = 4 + 8 + 16;

/** Bits of a clock that count within a millisecond. */
const CLOCK_COUNTER_BITS = 16n;

/** Gives the names of nodes by their positions in the ring. */
export type NodeNames = (position: number) => string;

/** What an answer rested on. */
export interface Receipt {
  /** The names of the nodes whose answers counted. */
  readonly answered: readonly string[];
  /** The epoch of the ring under which they counted. */
  readonly epoch: bigint;
  /** How many answers were waited for. */
  readonly need: number;
  /** For a write: how many nodes had it on disk when it was acknowledged. */
  readonly durable: number;
  /** How many of `answered` stood in for owners that could not be reached. */
  readonly standIns: number;
  /** For a read: owners that were behind are being sent what they missed. */
  readonly repaired: boolean;
  /** How many owners the key has. */
  readonly replicas: number;
}

/** One of the concurrent versions of a key. */
export class Sibling {
  /** The value; empty when it was not asked for. */
  readonly value: Buffer;
  /** The length of the value, also when it was not asked for. */
  readonly valueBytes: number;
  /** The hybrid logical clock of its write: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16. */
  readonly clock: bigint;
  /** XXH3-128 of the value, in 32 hexadecimal digits. */
  readonly hash: string;

  /** @internal */
  constructor(reply: Reply) {
    this.value = reply.value();
    this.valueBytes = reply.u32();
    this.clock = reply.u64();
    this.hash = reply.bytes(16).toString('hex');
  }

  /** When it was written, by the clock of the node that took it. */
  get writtenAt(): Date {
    return new Date(Number(this.clock >> CLOCK_COUNTER_BITS));
  }
}

/**
 * The live values of a key.
 *
 * Small values share memory with others that came at the same time: 64 KiB, or as much as their batch takes. To keep one for long, copy it:
 * `Buffer.from(found.value)`.
 */
export class Found {
  readonly #reply: Reply;
  readonly #names: NodeNames;
  readonly #resolver: Resolver | undefined;
  #value: Buffer | undefined;
  #siblings: readonly Sibling[] | undefined;
  #context: Context | undefined;
  #receipt: Receipt | undefined;

  /** @internal */
  constructor(reply: Reply, names: NodeNames, resolver: Resolver | undefined) {
    this.#reply = reply;
    this.#names = names;
    this.#resolver = resolver;
  }

  /**
   * The value. When there are concurrent ones, what the bucket's resolver makes of them; without a resolver that throws a
   * {@link SiblingsError}.
   */
  get value(): Buffer {
    return (this.#value ??= this.#readValue());
  }

  /** Every concurrent value, at least one; what was written last comes last. */
  get values(): readonly Buffer[] {
    return this.siblings.map((sibling) => sibling.value);
  }

  /** Every concurrent version, at least one; what was written last comes last. */
  get siblings(): readonly Sibling[] {
    if (this.#siblings === undefined) {
      const reply = this.#reply.rewound();
      this.#siblings = Object.freeze(reply.list(reply.u32(), () => new Sibling(reply)));
    }
    return this.#siblings;
  }

  /** Whether there are concurrent values. */
  get isConflict(): boolean {
    return this.#reply.rewound().u32() > 1;
  }

  /** Covers everything that was seen: a put or delete under it replaces exactly these values. */
  get context(): Context {
    return (this.#context ??= readContext(this.#afterSiblings()));
  }

  /** What the answer rested on. */
  get receipt(): Receipt {
    if (this.#receipt === undefined) {
      const reply = this.#afterSiblings();
      reply.skipValue();
      this.#receipt = readReceipt(reply, this.#names);
    }
    return this.#receipt;
  }

  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { siblings, context, receipt } = this;
    return shown('Found', { siblings, context, receipt }, options);
  }

  #readValue(): Buffer {
    const reply = this.#reply.rewound();
    const count = reply.u32();
    if (count === 1) {
      return reply.value();
    }
    if (this.#resolver === undefined) {
      const message = `siblings: ${count} concurrent values; merge \`siblings\` and put with the \`context\`, or use \`update\``;
      throw new SiblingsError(message, { code: 'siblings' });
    }
    return toBuffer('the resolved value', this.#resolver(this.values));
  }

  #afterSiblings(): Reply {
    const reply = this.#reply.rewound();
    for (let left = reply.u32(); left > 0; left -= 1) {
      reply.skipValue();
      reply.skip(SIBLING_REST_BYTES);
    }
    return reply;
  }
}

/** The absence of live values. */
export class Absent {
  readonly #reply: Reply;
  readonly #names: NodeNames;

  /** @internal */
  constructor(reply: Reply, names: NodeNames) {
    this.#reply = reply;
    this.#names = names;
  }

  /** Covers the deletes that were seen, if any. A put under it replaces exactly those. */
  get context(): Context {
    return readContext(this.#reply.rewound());
  }

  /** What the answer rested on. */
  get receipt(): Receipt {
    const reply = this.#reply.rewound();
    reply.skipValue();
    return readReceipt(reply, this.#names);
  }

  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { context, receipt } = this;
    return shown('Absent', { context, receipt }, options);
  }
}

/** The answer to a put or a delete. */
export class Stored {
  readonly #reply: Reply;
  readonly #names: NodeNames;

  /** @internal */
  constructor(reply: Reply, names: NodeNames) {
    this.#reply = reply;
    this.#names = names;
  }

  /** How many live versions the key has now, this one included. */
  get siblings(): number {
    return this.#reply.rewound().u16();
  }

  /** The hybrid logical clock the write was given: milliseconds since 1970 in the upper 48 bits. */
  get clock(): bigint {
    const reply = this.#reply.rewound();
    reply.skip(2);
    return reply.u64();
  }

  /**
   * The context after this write, if the new version stands alone. `null` when siblings stand beside it: get before the next
   * put.
   */
  get context(): Context | null {
    const reply = this.#reply.rewound();
    reply.skip(2 + 8);
    return reply.u8() === 0 ? null : readContext(reply);
  }

  /** What the acknowledgement rested on. */
  get receipt(): Receipt {
    const reply = this.#reply.rewound();
    reply.skip(2 + 8 + 1);
    reply.skipValue();
    return readReceipt(reply, this.#names);
  }

  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { siblings, clock, context, receipt } = this;
    return shown('Stored', { siblings, clock, context, receipt }, options);
  }
}

/** A key that a scan came by. */
export interface Scanned {
  /** Its bucket. */
  readonly bucket: string;
  /** The key. */
  readonly key: Buffer;
  /** How many live versions it has. */
  readonly siblings: number;
  /** Bytes of its live values together. */
  readonly valueBytes: number;
  /** Its values, when they were asked for. */
  readonly found: Found | undefined;
}

/** A value as a buffer. */
export function toBuffer(name: string, value: unknown): Buffer {
  if (Buffer.isBuffer(value)) {
    return value;
  }
  if (typeof value === 'string') {
    return Buffer.from(value);
  }
  if (types.isUint8Array(value)) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  throw wrongType(name, 'a string or a Uint8Array', value);
}

/** A context is often kept for long, so it gets memory of its own. */
function readContext(reply: Reply): Context {
  return Context.sealed(Buffer.from(reply.value()));
}

function readReceipt(reply: Reply, names: NodeNames): Receipt {
  const epoch = reply.u64();
  const [need, durable, standIns, repaired, replicas] = [reply.u8(), reply.u8(), reply.u8(), reply.u8() !== 0, reply.u8()];
  const answered = reply.list(reply.u16(), () => names(reply.u16()));
  return { answered, epoch, need, durable, standIns, repaired, replicas };
}

/** What `console.log` shows of an object whose properties are read from bytes. */
function shown(name: string, properties: object, options: InspectOptions): string {
  return `${name} ${inspect(properties, options)}`;
}
