/**
 * Which class an error has: chosen by the name that the Rust client gives its kind.
 */

import {
  TimeoutError,
  UnavailableError,
  QuorumTimeoutError,
  OverloadedError,
  TooManySiblingsError,
  SiblingsError,
  TooLargeError,
  InvalidRequestError,
  UnauthenticatedError,
  ForbiddenError,
  ConnectionError,
  ClientClosedError,
  CorruptError,
  InternalError,
  QuorateError,
} from './errors.js';
import type { ErrorDetails } from './errors.js';

/** The classes by the kinds' names in the Rust client. */
const KINDS: Readonly<Record<string, typeof QuorateError>> = {
  Timeout: TimeoutError,
  Unavailable: UnavailableError,
  QuorumTimeout: QuorumTimeoutError,
  Overloaded: OverloadedError,
  TooManySiblings: TooManySiblingsError,
  Siblings: SiblingsError,
  TooLarge: TooLargeError,
  InvalidRequest: InvalidRequestError,
  Unauthenticated: UnauthenticatedError,
  Forbidden: ForbiddenError,
  Connection: ConnectionError,
  ClientClosed: ClientClosedError,
  Corrupt: CorruptError,
  Internal: InternalError,
};

/** The error of a kind; a kind that is not known here is still a {@link QuorateError} with its code. */
export function errorOfKind(kind: string, message: string, details: ErrorDetails): QuorateError {
  return new (KINDS[kind] ?? QuorateError)(message, details);
}
