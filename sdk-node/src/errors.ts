/**
 * What can go wrong: one class for each kind of error that the Rust client knows, all of them a {@link QuorateError}. Which
 * error it is, and all that it says, is the Rust client's; nothing here decides.
 */

/** What every error knows. */
export interface ErrorDetails {
  /** A stable name for programs, finer than the class: `timeout`, `storage_full`, … */
  readonly code: string;
  /** Whether the same call may succeed later. */
  readonly retryable?: boolean;
  /** Whether a write may have been stored somewhere, and so may become visible although the call failed. */
  readonly maybeApplied?: boolean;
  /** The node that was asked last. */
  readonly node?: string | undefined;
  /** How often the operation was sent to a node. */
  readonly attempts?: number;
  /** From the call to the error, in milliseconds. */
  readonly elapsedMs?: number;
  /** Replicas that were needed, where that is what failed. */
  readonly need?: number | undefined;
  /** Replicas that answered well, where that is what failed. */
  readonly got?: number | undefined;
}

/** Whatever a call to the cluster failed with. Absence is not an error. */
export class QuorateError extends Error implements ErrorDetails {
  /** A stable name for programs, finer than the class: `timeout`, `storage_full`, … */
  readonly code: string;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** Whether a write may have been stored somewhere, and so may become visible although the call failed. */
  readonly maybeApplied: boolean;
  /** The node that was asked last. */
  readonly node: string | undefined;
  /** How often the operation was sent to a node. */
  readonly attempts: number;
  /** From the call to the error, in milliseconds. */
  readonly elapsedMs: number;
  /** Replicas that were needed, where that is what failed. */
  readonly need: number | undefined;
  /** Replicas that answered well, where that is what failed. */
  readonly got: number | undefined;

  constructor(message: string, details: ErrorDetails) {
    super(message);
    this.code = details.code;
    this.retryable = details.retryable ?? false;
    this.maybeApplied = details.maybeApplied ?? false;
    this.node = details.node;
    this.attempts = details.attempts ?? 0;
    this.elapsedMs = details.elapsedMs ?? 0;
    this.need = details.need;
    this.got = details.got;
  }

  override get name(): string {
    return this.constructor.name;
  }
}

/** The operation's time was over before it was answered. */
export class TimeoutError extends QuorateError {}

/** Not enough replicas can be reached, or none that can serve. */
export class UnavailableError extends QuorateError {}

/** Not enough replicas answered the coordinator in time. */
export class QuorumTimeoutError extends QuorateError {}

/** Refused before anything was done, by a node or by this client's own limits: try later. */
export class OverloadedError extends QuorateError {}

/** The key holds as many concurrent versions as are allowed: get, merge, put with the context. */
export class TooManySiblingsError extends QuorateError {}

/** One value was asked for, and there are concurrent ones: merge them, or use `update`. */
export class SiblingsError extends QuorateError {}

/** A key, value or context above its limit. */
export class TooLargeError extends QuorateError {}

/** The request itself is wrong; never retry it unchanged. */
export class InvalidRequestError extends QuorateError {}

/** Missing or wrong credentials. */
export class UnauthenticatedError extends QuorateError {}

/** Known, but not allowed. */
export class ForbiddenError extends QuorateError {}

/** No node could be reached, or a connection broke before the answer came. */
export class ConnectionError extends QuorateError {}

/** The client was closed. */
export class ClientClosedError extends QuorateError {}

/** Replicas hold the key but can't verify their record of it. */
export class CorruptError extends QuorateError {}

/** A bug, or a condition nobody foresaw. */
export class InternalError extends QuorateError {}
