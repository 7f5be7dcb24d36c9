/**
 * The scenarios that every client must pass (`tests/scenarios/` of the repository), as the Node client plays them: an interpreter
 * of their small language. Rust's and Python's stand in their tests; all read the same file and must come to the same results.
 *
 * A step that is not understood fails: a scenario with a slip of the pen shall not pass.
 */

import { setTimeout as sleep } from 'node:timers/promises';

import { Client, Context, QuorateError } from 'quorate';
import type { ClientOptions, Scanned } from 'quorate';

import * as pattern from './pattern.js';
import type { Fields, Json } from './pattern.js';
import type { World } from './world.js';

/** How long a step with `until` is repeated, and the pause between. */
const UNTIL_MS = 10_000;
const UNTIL_PAUSE_MS = 20;

const STEP_FIELDS = ['do', 'client', 'bucket', 'times', 'until', 'within_ms', 'expect', 'save', 'why'];

/** The fields of each call's step besides those of all. */
const CALLS: Record<string, string[]> = {
  get: ['key', 'single'],
  lookup: ['key'],
  exists: ['key'],
  explain: ['key'],
  put: ['key', 'value', 'context', 'ttl_ms'],
  delete: ['key', 'context'],
  update: ['key', 'add'],
  get_many: ['keys'],
  put_many: ['entries'],
  delete_many: ['keys'],
  scan: ['values'],
  scan_all: ['values'],
  connect: ['settings'],
  ring: [],
  stats: [],
  ping: [],
  close: [],
};

/** Options of a call and settings of a client, as a scenario and as this client name them. */
const OPTIONS: Record<string, string> = { level: 'level', r: 'r', w: 'w', n: 'n', timeout_ms: 'timeoutMs', ttl_ms: 'ttlMs', values: 'values' };
const CALL_FIELDS = ['level', 'r', 'w', 'n', 'timeout_ms'];
const SETTINGS: Record<string, keyof ClientOptions> = {
  endpoints: 'endpoints',
  timeout_ms: 'timeoutMs',
  attempt_timeout_ms: 'attemptTimeoutMs',
  connect_timeout_ms: 'connectTimeoutMs',
  attempts: 'attempts',
  in_flight: 'inFlight',
  waiting: 'waiting',
  zone: 'zone',
};

export interface Step {
  readonly [field: string]: Json;
}

export interface Play {
  readonly steps: Step[];
  readonly connect?: Fields;
}

/** A step went otherwise than expected, or can't be understood. */
export class Slip extends Error {}

/** A scenario that is played. */
export class Scenario {
  readonly #clients = new Map<string, Client>();
  readonly #contexts = new Map([['EMPTY', Context.EMPTY]]);

  constructor(
    readonly scenario: Play,
    readonly bucket: string,
    readonly world: World,
  ) {}

  /** Plays it; what its last step came to. */
  async play(): Promise<Fields> {
    try {
      return await this.#play(this.scenario.steps);
    } finally {
      await Promise.all([...this.#clients.values()].map((client) => client.close()));
    }
  }

  async #play(steps: Step[]): Promise<Fields> {
    let last: Fields = { is: 'nothing' };
    for (const [at, step] of steps.entries()) {
      for (let turn = 0; turn < Number(step.times ?? 1); turn += 1) {
        try {
          last = await this.#step(this.#filled(step, turn) as Step);
        } catch (error) {
          throw error instanceof Slip ? new Slip(`step ${at + 1} (${step.do}): ${error.message}`) : error;
        }
      }
    }
    return last;
  }

  /** Plays a step until it is as expected: once, unless it says `until`. */
  async #step(step: Step): Promise<Fields> {
    const end = performance.now() + UNTIL_MS;
    for (;;) {
      const began = performance.now();
      const result = await this.#once(step);
      const tookMs = performance.now() - began;
      const slip = pattern.mismatch(step.expect ?? { is: { $not: 'error' } }, result, 'result');
      if (slip === undefined) {
        if (tookMs > Number(step.within_ms ?? Infinity)) throw new Slip(`within_ms: ${tookMs.toFixed()} ms`);
        return result;
      }
      if (step.until !== true || performance.now() > end) {
        throw new Slip(result.is === 'error' ? `${slip}, in ${JSON.stringify(result)}` : slip);
      }
      await sleep(UNTIL_PAUSE_MS);
    }
  }

  /** Does what a step says; an error of the client is a result like another. */
  async #once(step: Step): Promise<Fields> {
    const name = String(step.do);
    switch (name) {
      case 'world': {
        check(step, ['ask']);
        const answer = await this.world.ask(step.ask as Fields);
        return { ...answer, is: 'error' in answer ? 'error' : 'answer' };
      }
      case 'sleep':
        check(step, ['ms']);
        await sleep(Number(step.ms));
        return { is: 'slept' };
      case 'together':
        check(step, ['branches']);
        return { is: 'together', items: await Promise.all((step.branches as Step[][]).map((branch) => this.#play(branch))) };
      case 'context':
        check(step, ['text', 'bytes', 'of']);
        return this.#called(step, async () => this.#context(step));
    }
    const own = CALLS[name];
    if (own === undefined) throw new Slip(`no step is called ${name}`);
    check(step, [...own, ...CALL_FIELDS]);
    return this.#called(step, () => this.#call(name, step));
  }

  /** What a call came to, in the form that scenarios speak of; what is in that form already stays as it is. */
  async #called(step: Step, call: () => Promise<unknown>): Promise<Fields> {
    try {
      const result = await call();
      if (step.save !== undefined) {
        const context = result instanceof Context ? result : (result as { context?: Context }).context;
        if (context === undefined) throw new Slip('there is no context to save');
        this.#contexts.set(String(step.save), context);
      }
      if (step.single === true) return pattern.shown((result as { value: Buffer }).value);
      return pattern.isFields(result as Json) && 'is' in (result as Fields) ? (result as Fields) : pattern.shown(result);
    } catch (error) {
      if (error instanceof QuorateError) return pattern.shown(error);
      throw error;
    }
  }

  async #call(name: string, step: Step): Promise<unknown> {
    const client = await this.#client(step);
    const bucket = client.bucket(String(step.bucket ?? this.bucket));
    const named = Object.entries(OPTIONS).filter(([field]) => field in step);
    const options: Record<string, unknown> = Object.fromEntries(named.map(([field, option]) => [option, step[field]]));
    if (step.context !== undefined) options.context = this.#saved(String(step.context));
    const keys = (): Array<string | Buffer> => (step.keys as Json[]).map(pattern.data);
    const calls: Record<string, () => Promise<unknown>> = {
      get: () => bucket.get(pattern.data(step.key), options),
      lookup: () => bucket.lookup(pattern.data(step.key), options),
      exists: () => bucket.exists(pattern.data(step.key), options),
      explain: async () => pattern.explanation(await bucket.explain(pattern.data(step.key), options)),
      put: () => bucket.put(pattern.data(step.key), pattern.data(step.value), options),
      delete: () => bucket.delete(pattern.data(step.key), options),
      update: () => bucket.update(pattern.data(step.key), (values) => pattern.union(values, String(step.add)), options),
      get_many: () => bucket.getMany(keys(), options),
      put_many: () => bucket.putMany((step.entries as Json[][]).map((entry) => [pattern.data(entry[0]), pattern.data(entry[1])]), options),
      delete_many: () => bucket.deleteMany(keys(), options),
      scan: async () => pattern.scan(await collected(bucket.scan(options))),
      scan_all: async () => pattern.scan(await collected(client.scanAll(options))),
      connect: async () => ({ is: 'connected' }),
      ring: async () => pattern.ring(client.ring),
      stats: async () => pattern.stats(await client.stats(options)),
      ping: async () => pattern.pings(await client.ping(options)),
      close: async () => client.close().then(() => ({ is: 'closed' })),
    };
    return calls[name]?.();
  }

  /** The client that a step names; connected when it is named for the first time. */
  async #client(step: Step): Promise<Client> {
    const name = String(step.client ?? 'a');
    const known = this.#clients.get(name);
    if (known !== undefined) return known;
    const options: Record<string, Json> = { endpoints: this.world.endpoints };
    for (const [field, value] of Object.entries((step.settings as Fields | undefined) ?? this.scenario.connect ?? {})) {
      const setting = SETTINGS[field];
      if (setting === undefined) throw new Slip(`no setting is called ${field}`);
      options[setting] = value;
    }
    const client = await Client.connect(options as unknown as ClientOptions);
    this.#clients.set(name, client);
    return client;
  }

  #context(step: Step): Context {
    if (step.bytes !== undefined) return Context.fromBytes(Buffer.from(pattern.data(step.bytes)));
    return Context.parse(step.of === undefined ? String(step.text) : this.#saved(String(step.of)).toString());
  }

  #saved(name: string): Context {
    const context = this.#contexts.get(name);
    if (context === undefined) throw new Slip(`no context was saved as ${name}`);
    return context;
  }

  /** A step with the number of its turn in place of `{n}` and the scenario's bucket in place of `{bucket}`. */
  #filled(value: Json, turn: number): Json {
    if (typeof value === 'string') return value.replaceAll('{n}', String(turn)).replaceAll('{bucket}', this.bucket);
    if (Array.isArray(value)) return value.map((one) => this.#filled(one, turn));
    if (!pattern.isFields(value)) return value;
    const filled = ([name, one]: [string, Json]): [string, Json] => [name, name === 'branches' ? one : this.#filled(one, turn)];
    return Object.fromEntries(Object.entries(value).map(filled));
  }
}

async function collected(scan: AsyncIterable<Scanned>): Promise<Scanned[]> {
  const keys: Scanned[] = [];
  for await (const key of scan) keys.push(key);
  return keys;
}

function check(step: Step, own: string[]): void {
  const unknown = Object.keys(step).find((field) => !STEP_FIELDS.includes(field) && !own.includes(field));
  if (unknown !== undefined) throw new Slip(`the step has no field ${unknown}`);
}
