/**
 * What the Rust client has to say beside its answers. There is one log for all clients of a process: whoever listens on any of
 * them hears it.
 */

import type { EventEmitter } from 'node:events';

import type { NativeLog } from '../native.js';

import { native } from './native.js';

/** Something that happened in the client. */
export interface LogRecord {
  /** How bad it is. */
  readonly level: 'error' | 'warn' | 'info' | 'debug';
  /** Which part of the client says so. */
  readonly target: string;
  /** What happened. */
  readonly message: string;
  /** When. */
  readonly at: Date;
}

/** The clients that somebody listens on. */
const listening = new Set<EventEmitter>();

let log: NativeLog | undefined;

/** From now on, emits `log` on this client. */
export function listen(events: EventEmitter): void {
  listening.add(events);
  log ??= new native.NativeLog(drain);
}

/** No longer does. */
export function unlisten(events: EventEmitter): void {
  listening.delete(events);
  if (listening.size === 0) {
    log?.stop();
    log = undefined;
  }
}

function drain(): void {
  for (const { level, target, message, timeMs } of log?.drain() ?? []) {
    const record: LogRecord = { level: level as LogRecord['level'], target, message, at: new Date(timeMs) };
    for (const events of listening) {
      // Later, so that a listener that throws does not stand in the way of the other records.
      queueMicrotask(() => events.emit('log', record));
    }
  }
}
