/**
 * Waiting for what the application merges: no longer than its update lasts, which the Rust client knows, and no longer than its signal
 * allows. What is read and written before and after is in `bucket.ts`.
 */

import type { NativeUpdate } from '../native.js';

import { orThrow } from './native.js';

/** The longest a timer can wait; after that there may still be time left. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** What was merged; or the update's error once its time is over, or the reason of the signal. */
export function inTime<T>(merging: T | Promise<T>, update: NativeUpdate, signal: AbortSignal | undefined): T | Promise<T> {
  if (typeof (merging as PromiseLike<T> | undefined)?.then !== 'function') {
    return merging;
  }
  return new Promise<T>((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const abort = (): void => end(() => reject(signal?.reason));
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      settle();
    };
    const wait = (): void => {
      try {
        // Rounded up: a timer may ring a little early, and then waits again.
        timer = setTimeout(wait, Math.min(Math.ceil(orThrow(update.remaining())), TIMER_MAX_MS));
      } catch (error) {
        end(() => reject(error));
      }
    };
    (merging as Promise<T>).then(
      (merged) => end(() => resolve(merged)),
      (error: unknown) => end(() => reject(error)),
    );
    if (signal?.aborted) {
      abort();
      return;
    }
    signal?.addEventListener('abort', abort, { once: true });
    wait();
  });
}
