/**
 * Looking into the client and at the cluster: the ring, where a key lives, what was done so far, how long nodes take.
 */

import type { QuorateError } from './errors.js';
import { Kind } from './reply.js';
import type { Reply } from './reply.js';

export type { Ring, RingNode } from '../native.js';

/** A node as this client sees it. */
export interface NodeStats {
  /** What people call it. */
  readonly name: string;
  /** Whether there is a connection. */
  readonly connected: boolean;
  /** Whether operations are sent there: nothing went wrong lately, or nothing was ever sent. */
  readonly usable: boolean;
  /** Operations under way to it. */
  readonly inFlight: number;
  /** A moving average of the milliseconds it takes for a batch. */
  readonly latencyMs: number;
  /** How busy it says it is: 0 idle, 255 about to refuse. */
  readonly load: number;
}

/** Where a key lives, and who would coordinate it now. */
export interface Explanation {
  /** Its place on the ring: MD5 of bucket, a zero byte and key, in 32 hexadecimal digits. */
  readonly id: string;
  /** The partition that falls into. */
  readonly partition: number;
  /** The oldest and the newest epoch whose configuration of the partition is active. */
  readonly view: readonly [bigint, bigint];
  /** The epoch of the ring that says so. */
  readonly epoch: bigint;
  /** Where a read would go now. Reads choose between owners, so the next may go elsewhere. */
  readonly readCoordinator: string | null;
  /** Where a write would go now. */
  readonly writeCoordinator: string | null;
  /** The owners in order of preference. */
  readonly owners: readonly NodeStats[];
}

/** What a client has done since it was made, and what is before it. Counters are numbers: exact below 2^53, which no client counts up to. */
export interface Stats {
  /** Operations that succeeded. */
  readonly succeeded: number;
  /** Operations that failed. */
  readonly failed: number;
  /** Operations that nobody waited for any more. */
  readonly cancelled: number;
  /** Attempts beyond the first. */
  readonly retries: number;
  /** Calls that were made to nodes, each with a batch of operations. */
  readonly calls: number;
  /** Operations in these calls. */
  readonly operationsSent: number;
  /** Connections that broke. */
  readonly disconnects: number;
  /** Times the ring was asked for again. */
  readonly refreshes: number;
  /** Operations under way. */
  readonly inFlight: number;
  /** Operations that wait for others to end. */
  readonly waiting: number;
  /** What is left of the budget for retries: a retry costs up to 14, a success brings back 1. */
  readonly retryTokens: number;
  /** The epoch of the ring. */
  readonly epoch: bigint;
  /** The nodes of the ring. */
  readonly nodes: readonly NodeStats[];
}

/** How long each node took to answer, in milliseconds, or why it did not, by name. */
export type Pings = ReadonlyMap<string, number | QuorateError>;

/** Another ring is followed: nodes came, went, or own other partitions. */
export interface TopologyEvent {
  readonly epoch: bigint;
  readonly generation: bigint;
}

/** A node can be reached again, or no longer. */
export interface NodeEvent {
  /** What people call it. */
  readonly name: string;
  /** Which it is, for ever. */
  readonly node: string;
}

export function readExplanation(reply: Reply): Explanation {
  return {
    id: reply.text() ?? '',
    partition: reply.u32(),
    view: [reply.u64(), reply.u64()],
    epoch: reply.u64(),
    readCoordinator: reply.text() ?? null,
    writeCoordinator: reply.text() ?? null,
    owners: readNodes(reply),
  };
}

export function readStats(reply: Reply): Stats {
  return {
    succeeded: reply.f64(),
    failed: reply.f64(),
    cancelled: reply.f64(),
    retries: reply.f64(),
    calls: reply.f64(),
    operationsSent: reply.f64(),
    disconnects: reply.f64(),
    refreshes: reply.f64(),
    inFlight: reply.f64(),
    waiting: reply.f64(),
    retryTokens: reply.f64(),
    epoch: reply.u64(),
    nodes: readNodes(reply),
  };
}

export function readPings(reply: Reply): Pings {
  const pings = new Map<string, number | QuorateError>();
  for (let left = reply.u32(); left > 0; left -= 1) {
    const name = reply.text() ?? '';
    const [kind, part] = reply.part();
    pings.set(name, kind === Kind.Failed ? part.error() : part.f64());
  }
  return pings;
}

export function readTopology(reply: Reply): TopologyEvent {
  return { epoch: reply.u64(), generation: reply.u64() };
}

export function readNode(reply: Reply): NodeEvent {
  return { name: reply.text() ?? '', node: reply.text() ?? '' };
}

function readNodes(reply: Reply): NodeStats[] {
  return reply.list(reply.u32(), () => ({
    name: reply.text() ?? '',
    connected: reply.u8() !== 0,
    usable: reply.u8() !== 0,
    inFlight: reply.u32(),
    latencyMs: reply.f64(),
    load: reply.u8(),
  }));
}
