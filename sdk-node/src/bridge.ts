/**
 * The bridge between promises and the Rust client. A call is a slot in a table here and a token there. Calls that are made in the
 * same turn are handed to the addon together, and it calls back once for as many replies as have gathered, which are then drained
 * from it in one piece. No decision is made here: which promise is settled, with what, and what keeps the process alive is all.
 */

import { availableParallelism } from 'node:os';

import type { ConnectOptions, Native } from '../native.js';

import type { NodeNames } from './found.js';
import { errorOfKind } from './kinds.js';
import { native } from './native.js';
import { Kind, NOTHING_APART, Reply } from './reply.js';
import type { Frame } from './reply.js';
import { checkedSignal } from './options.js';
import type { Resolver } from './options.js';
import { RequestWriter } from './request.js';
import type { Ask, Settings } from './request.js';

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
  #names: NodeNames | undefined;
  /** When the only call there is was handed over, and how long that took lately. */
  #askedAt = 0;
  #usualWait = WAIT_MAX_MS;
  #looking = false;

  constructor(options: ConnectOptions) {
    // The addon holds on to what it wakes; it must not hold the bridge, or a forgotten client would never be collected.
    const self = new WeakRef(this);
    this.native = new native.Native(options, () => self.deref()?.drain());
  }

  /** The names of the nodes by their positions in the ring that is followed now. A reply keeps them: in a later ring, positions mean others. */
  get nodeNames(): NodeNames {
    return (this.#names ??= namesIn(this.native.nodeNames()));
  }

  /** Begins a call whose request is bytes. Nothing of the application's may run in `write`: it could make calls itself. */
  ask<T>(
    ask: Ask,
    settings: Settings,
    read: Read<T>,
    signal?: AbortSignal,
    resolver?: Resolver,
    write?: (request: RequestWriter) => void,
  ): Promise<T> {
    return this.call(read, signal, resolver, (...call) => {
      this.request.begin(ask, settings);
      write?.(this.request);
      this.#submit(...call);
    });
  }

  /** Begins a call in a way of its own; settles when its reply has come. */
  call<T>(read: Read<T>, signal: AbortSignal | undefined, resolver: Resolver | undefined, launch: Launch): Promise<T> {
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
    const { slot, generation } = call;
    try {
      launch(slot, generation, signal !== undefined);
      // Only now: a signal may be of the application's making. And a call that could not be handed over has ended already.
      if (signal !== undefined && call.generation === generation) {
        this.#watch(signal, call);
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

  #submit(slot: number, generation: number, withdrawable: boolean): void {
    const { request } = this;
    const first = request.length === 0;
    request.complete(slot, generation, withdrawable);
    if (request.isFull) {
      this.#flush();
    } else if (first) {
      void Promise.resolve().then(this.#flush);
    }
  }

  /** Hands the requests over that were made since the last time. */
  readonly #flush = (): void => {
    const { request } = this;
    if (request.length === 0) {
      return;
    }
    try {
      this.native.submit(request.buffer, request.length);
    } catch (error) {
      this.#fail(request.calls(), error);
    } finally {
      request.clear();
    }
    this.#lookout();
  };

  /** Ends calls that the addon did not take. It may have taken some of them, and what it answers to those is not waited for. */
  #fail(calls: ReadonlyArray<readonly [slot: number, generation: number]>, reason: unknown): void {
    const message = `the requests could not be handed over: ${reason instanceof Error ? reason.message : String(reason)}`;
    for (const [slot, generation] of calls) {
      const call = this.#calls[slot];
      if (call?.read !== undefined && call.generation === generation) {
        const { reject } = call;
        this.#release(call);
        reject(errorOfKind('Internal', message, { code: 'internal', maybeApplied: true }));
      }
    }
  }

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
    let goesOn = false;
    try {
      const before = this.#slabAt;
      this.drain();
      const seen = this.#slabAt !== before;
      const pending = this.#pending;
      goesOn = !seen && pending > 0 && pending <= LOOKED_FOR_MAX && performance.now() - this.#askedAt <= LOOK_MS;
    } finally {
      // Also when something went wrong: the addon wakes nobody who looks.
      if (goesOn) {
        this.native.attend();
        setImmediate(this.#look);
      } else {
        this.#looking = false;
        this.native.rest();
      }
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
        if (kind === Kind.Topology) {
          this.#names = undefined;
        }
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

function namesIn(ring: readonly string[]): NodeNames {
  return (position) => ring[position] ?? `node ${position}`;
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
