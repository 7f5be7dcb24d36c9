/**
 * The world of a scenario: a process that sets nodes up and harms them as it is told, in lines of JSON.
 */

import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

import { binary } from 'quorate/testing';

import type { Fields } from './pattern.js';

export const REPOSITORY = join(__dirname, '..', '..');

/** Real nodes (`quorate testkit`), or fake ones that do as their script says (`quorate-stage`). */
export class World {
  endpoints = '';
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #answers: AsyncIterator<string>;
  #asked = 0;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(command: string, parameters: string[]) {
    this.#process = spawn(command, parameters, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  static testkit(nodes: number): Promise<World> {
    return World.#start(binary(), ['testkit', '--nodes', String(nodes)]);
  }

  static stage(nodes: number): Promise<World> {
    return World.#start(process.env.QUORATE_STAGE ?? join(dirname(binary()), 'quorate-stage'), [String(nodes)]);
  }

  static async #start(command: string, parameters: string[]): Promise<World> {
    const world = new World(command, parameters);
    const { endpoints } = await world.#read();
    world.endpoints = Array.isArray(endpoints) ? endpoints.join(',') : String(endpoints);
    return world;
  }

  /** Gives a command and waits for its answer. */
  ask(command: Fields): Promise<Fields> {
    const ask = async (): Promise<Fields> => {
      this.#asked += 1;
      this.#process.stdin.write(`${JSON.stringify({ ...command, id: this.#asked })}\n`);
      const { id, ...answer } = await this.#read();
      if (id !== this.#asked) throw new Error(`${id} answers another command than ${this.#asked}`);
      return answer;
    };
    const answered = this.#turn.then(ask);
    this.#turn = answered.catch(() => {});
    return answered;
  }

  async close(): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.stdin.end();
    await ended;
  }

  async #read(): Promise<Fields> {
    const line = await this.#answers.next();
    if (line.done) throw new Error('the world ended without an answer');
    return JSON.parse(line.value) as Fields;
  }
}
