/**
 * The bridge between promises and the Rust client. A call is a slot in a table here and a token there. Calls that are made in the
 * same turn are handed to the addon together, and it calls back once for as many replies as have gathered, which are then drained
 * from it in one piece. No decision is made here: which promise is settled, with what, and what keeps the process alive is all.
 */

import { availableParallelism } from 'node:os';

import type { ConnectOptions, Native } from '../native.js';

import { native } from './native.js';
import { Kind, NOTHING_APART, Reply } from './reply.js';
import type { Frame } from './reply.js';
import { checkedSignal } from './options.js';
import type { Resolver } from './options.js';
import { RequestWriter } from './request.js';

/** Makes the result of a call from its reply. */
export type Read<T> = (reply: Reply, kind: Kind, bridge: Bridge, resolver: Resolver | undefined) => T;

/** Begins a call that has no request in bytes. */
export type Launch = (slot: number, generation: number, withdrawable: boolean) => void;

/** Is told what happened to the cluster. */
export type EventListener = (kind: Kind, reply: Reply) => void;

/** The slot under which events come. */
const EVENTS_SLOT = 0xffff_ffff;

/** Replies share memory in pieces of this size: large enough for hundreds of small ones, small enough to be kept for one. */
const SLAB_BYTES = 64 * 1024;

/** Below this a new slab is begun rather than filled up: most single replies need no more. */
const SLAB_REST_BYTES = 2 * 1024;

/** Bytes before a reply: its length, slot, generation, how many values came apart, kind. */
const REPLY_HEADER_BYTES = 17;

/** The longest interval there is: the timer only says by being referenced that the process has something to wait for. */
const INTERVAL_MAX_MS = 2 ** 31 - 1;

/** How long the event loop looks for the answer of a single call, turn by turn, before it sleeps: a few times what a node nearby takes. */
const LOOK_MS = 0.2;

/** With more calls than this, replies come in batches, and being woken is paid once for many. */
const LOOKED_FOR_MAX = 4;

/** What a longer wait is taken for, so that it is forgotten after a few calls. */
const WAIT_MAX_MS = 1;

/** The part of the last wait in the usual one. */
const WAIT_PART = 0.25;

/** With one processor, nobody else works while the loop looks. */
const LOOKING_PAYS = availableParallelism() > 1;

/** The bridges with calls under way. Being in here also keeps them from being collected. */
const busy = new Set<Bridge>();

/** Keeps the process alive while it is referenced. */
const alive = setInterval(() => {}, INTERVAL_MAX_MS).unref();

/** Stands for the promise of a call that has none any more, and would keep its result. */
function settled(): void {}

/** A call that waits for its reply; used again for later ones, which its generation tells apart. */
class Call {
  generation = 0;
  read: Read<unknown> | undefined;
  resolve: (value: never) => void = settled;
  reject: (reason: unknown) => void = settled;
  resolver: Resolver | undefined;
  signal: AbortSignal | undefined;

  constructor(readonly slot: number) {}
}

/** The calls that one signal would end. One listener serves them all: thousands may share a signal. */
interface Abortable {
  readonly calls: Set<Call>;
  readonly listener: () => void;
}

/** One client's bridge. */
export class Bridge {
  readonly native: Native;
  readonly request = new RequestWriter();
  onEvent: EventListener = () => {};
  readonly #calls: Call[] = [];
  readonly #free: Call[] = [];
  readonly #abortable = new Map<AbortSignal, Abortable>();
  #slab: Frame = slab(SLAB_BYTES);
  #slabAt = 0;
  #names: readonly string[] = [];
  /** When the only call there is was handed over, and how long that took lately. */
  #askedAt = 0;
  #usualWait = WAIT_MAX_MS;
  #looking = false;

  constructor(options: ConnectOptions) {
    // The addon holds on to what it wakes; it must not hold the bridge, or a forgotten client would never be collected.
    const self = new WeakRef(this);
    this.native = new native.Native(options, () => self.deref()?.drain());
  }

  /** The name of a node by its position in the ring. */
  readonly nodeName = (position: number): string => {
    if (position >= this.#names.length) {
      this.#names = this.native.nodeNames();
    }
    return this.#names[position] ?? `node ${position}`;
  };

  /** Begins a call, with what {@link Bridge.request} holds or in a way of its own; settles when its reply has come. */
  call<T>(read: Read<T>, signal?: AbortSignal, resolver?: Resolver, launch?: Launch): Promise<T> {
    if (signal !== undefined) {
      checkedSignal(signal).throwIfAborted();
    }
    const call = this.#free.pop() ?? this.#grow();
    call.read = read;
    call.resolver = resolver;
    const promise = new Promise<T>((resolve, reject) => {
      call.resolve = resolve;
      call.reject = reject;
    });
    if (this.#free.length + 1 === this.#calls.length) {
      wait(this);
    }
    if (signal !== undefined) {
      this.#watch(signal, call);
    }
    try {
      if (launch === undefined) {
        this.#submit(call, signal !== undefined);
      } else {
        launch(call.slot, call.generation, signal !== undefined);
      }
    } catch (error) {
      this.#release(call);
      throw error;
    }
    return promise;
  }

  /** Takes in every reply that has come. */
  drain(): void {
    for (let more = true; more; ) {
      const [frame, from] = [this.#slab, this.#slabAt];
      const written = this.native.drain(frame.bytes, from);
      more = written < 0;
      this.#slabAt += more ? -written - 1 : written;
      if (more || frame.bytes.length - this.#slabAt < SLAB_REST_BYTES) {
        this.#slab = slab(more ? Math.max(SLAB_BYTES, this.native.roomNeeded()) : SLAB_BYTES);
        this.#slabAt = 0;
      }
      this.#deliver(frame, from, more ? from - written - 1 : from + written);
    }
  }

  #submit(call: Call, withdrawable: boolean): void {
    const { request } = this;
    const first = request.length === 0;
    request.complete(call.slot, call.generation, withdrawable);
    if (request.isFull) {
      this.#flush();
    } else if (first) {
      void Promise.resolve().then(this.#flush);
    }
  }

  /** Hands the requests over that were made since the last time. */
  readonly #flush = (): void => {
    const { request } = this;
    if (request.length > 0) {
      this.native.submit(request.buffer, request.length);
      request.clear();
      this.#lookout();
    }
  };

  /** Being woken costs more than the whole of a call that is answered at once. So for one call the loop stays awake, and takes turns. */
  #lookout(): void {
    if (this.#pending !== 1) {
      return;
    }
    this.#askedAt = performance.now();
    if (LOOKING_PAYS && !this.#looking && this.#usualWait < LOOK_MS) {
      this.#looking = true;
      this.native.attend();
      setImmediate(this.#look);
    }
  }

  readonly #look = (): void => {
    const before = this.#slabAt;
    this.drain();
    const seen = this.#slabAt !== before;
    const pending = this.#pending;
    if (seen || pending === 0 || pending > LOOKED_FOR_MAX || performance.now() - this.#askedAt > LOOK_MS) {
      this.#looking = false;
      this.native.rest();
    } else {
      this.native.attend();
      setImmediate(this.#look);
    }
  };

  get #pending(): number {
    return this.#calls.length - this.#free.length;
  }

  #deliver(frame: Frame, from: number, end: number): void {
    const view = frame.view;
    for (let at = from; at < end; at += view.getUint32(at, true)) {
      const slot = view.getUint32(at + 4, true);
      const generation = view.getUint32(at + 8, true);
      const apart = view.getUint32(at + 12, true);
      const kind: Kind = view.getUint8(at + 16);
      const values = apart === 0 ? NOTHING_APART : this.native.takeApart(apart);
      const reply = new Reply(frame, at + REPLY_HEADER_BYTES, values);
      if (slot === EVENTS_SLOT) {
        // Later, so that a listener that throws does not stand in the way of the other replies.
        queueMicrotask(() => this.onEvent(kind, reply));
        continue;
      }
      const call = this.#calls[slot];
      // The reply of a call that was withdrawn may have been on its way.
      if (call?.read !== undefined && call.generation === generation) {
        this.#settle(call, kind, reply);
      }
    }
  }

  #settle(call: Call, kind: Kind, reply: Reply): void {
    const { read, resolve, reject, resolver } = call;
    this.#release(call);
    if (this.#askedAt > 0) {
      const wait = Math.min(performance.now() - this.#askedAt, WAIT_MAX_MS);
      this.#usualWait += (wait - this.#usualWait) * WAIT_PART;
      this.#askedAt = 0;
    }
    try {
      if (kind === Kind.Failed) {
        reject(reply.error());
      } else {
        resolve(read!(reply, kind, this, resolver) as never);
      }
    } catch (error) {
      reject(error);
    }
  }

  #grow(): Call {
    const call = new Call(this.#calls.length);
    this.#calls.push(call);
    return call;
  }

  #release(call: Call): void {
    if (call.signal !== undefined) {
      this.#unwatch(call.signal, call);
    }
    call.generation = (call.generation + 1) >>> 0;
    call.read = undefined;
    call.resolver = undefined;
    call.resolve = settled;
    call.reject = settled;
    this.#free.push(call);
    if (this.#free.length === this.#calls.length) {
      rest(this);
    }
  }

  #watch(signal: AbortSignal, call: Call): void {
    let abortable = this.#abortable.get(signal);
    if (abortable === undefined) {
      const calls = new Set<Call>();
      abortable = { calls, listener: () => this.#abort(signal, calls) };
      this.#abortable.set(signal, abortable);
      signal.addEventListener('abort', abortable.listener, { once: true });
    }
    abortable.calls.add(call);
    call.signal = signal;
  }

  #unwatch(signal: AbortSignal, call: Call): void {
    call.signal = undefined;
    const abortable = this.#abortable.get(signal);
    if (abortable?.calls.delete(call) && abortable.calls.size === 0) {
      this.#abortable.delete(signal);
      signal.removeEventListener('abort', abortable.listener);
    }
  }

  #abort(signal: AbortSignal, calls: ReadonlySet<Call>): void {
    this.#flush();
    for (const call of [...calls]) {
      const { slot, generation, reject } = call;
      this.#release(call);
      this.native.withdraw(slot, generation);
      reject(signal.reason);
    }
  }
}

function wait(bridge: Bridge): void {
  if (busy.size === 0) {
    alive.ref();
  }
  busy.add(bridge);
}

function rest(bridge: Bridge): void {
  busy.delete(bridge);
  if (busy.size === 0) {
    alive.unref();
  }
}

function slab(length: number): Frame {
  const bytes = Buffer.allocUnsafeSlow(length);
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, length) };
}
