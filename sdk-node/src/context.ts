/**
 * The causal context of a read: an opaque token that says which versions were seen. Its text form is base64url, the same in
 * every language and in the command line.
 */

import { inspect, types } from 'node:util';

import { native, orThrow } from './native.js';

/**
 * Which versions of a key a read saw. Hand it back with the put or delete that replaces them; it means nothing for any other
 * key, and a node refuses it there. Immutable.
 */
export class Context {
  /** The context of having seen nothing: a put under it adds a version beside whatever there is. */
  static readonly EMPTY: Context = new Context(Buffer.alloc(0));

  readonly #bytes: Buffer;

  private constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** A context from bytes that {@link Context.toBytes} gave. Whether they are genuine is for the node to say. */
  static fromBytes(bytes: Uint8Array): Context {
    if (!types.isUint8Array(bytes)) {
      throw new TypeError(`context: expected a Uint8Array, not ${inspect(bytes, { depth: 0 })}`);
    }
    orThrow(native.checkContext(bytes));
    return new Context(Buffer.from(bytes));
  }

  /** A context from its text form. */
  static parse(text: string): Context {
    if (typeof text !== 'string') {
      throw new TypeError(`context: expected a string, not ${inspect(text, { depth: 0 })}`);
    }
    return new Context(orThrow(native.parseContext(text)));
  }

  /** The token's bytes, to keep or to send elsewhere. A copy. */
  toBytes(): Buffer {
    return Buffer.from(this.#bytes);
  }

  /** The text form. */
  toString(): string {
    return this.#bytes.toString('base64url');
  }

  /** The text form, so that a context may stand in JSON. */
  toJSON(): string {
    return this.toString();
  }

  /** Whether both saw the same. */
  equals(other: Context): boolean {
    return this.#bytes.equals(other.#bytes);
  }

  /** Whether nothing was seen. */
  get isEmpty(): boolean {
    return this.#bytes.length === 0;
  }

  [inspect.custom](): string {
    return `Context(${this.toString()})`;
  }

  /** The bytes themselves, for the request that carries them. @internal */
  static bytesOf(context: Context): Buffer {
    return context.#bytes;
  }

  /** The context of a reply. @internal */
  static sealed(bytes: Buffer): Context {
    return new Context(bytes);
  }
}
