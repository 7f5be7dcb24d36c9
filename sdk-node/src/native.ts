/**
 * Loads the addon: the one that the environment names with QUORATE_NATIVE_PATH, or the one that was built or installed for this
 * platform. The loader beside it, `native.js`, and its types are generated.
 */

import type * as Addon from '../native.js';

import { errorOfKind } from './kinds.js';

/** Names another addon than the installed one: for platforms without a package, and for trying one that was just built. */
const PATH_VARIABLE = 'QUORATE_NATIVE_PATH';

/** The addon. */
export const native: typeof Addon = load();

/** What a function of the addon returned, or, if that is an error, thrown as what it is. */
export function orThrow<T>(result: T | Addon.Failure): T {
  if (isFailure(result)) {
    throw errorOfKind(result.kind, result.message, result);
  }
  return result;
}

function load(): typeof Addon {
  const path = process.env[PATH_VARIABLE];
  return require(path === undefined || path === '' ? '../native.js' : path) as typeof Addon;
}

function isFailure(result: unknown): result is Addon.Failure {
  return typeof result === 'object' && result !== null && 'maybeApplied' in result;
}
