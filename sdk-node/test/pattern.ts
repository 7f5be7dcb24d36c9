/**
 * What scenarios expect, and how results and bytes stand in them: the same form in every client's tests, so that one expectation
 * fits all. Bytes are `"text"`, `{"hex": "00ff"}` or `{"bytes": 16385}`: so many of a pattern that is the same everywhere.
 */

import assert from 'node:assert/strict';

import { Absent, Context, Found, QuorateError, Stored } from 'quorate';
import type { Explanation, Pings, Receipt, Ring, Scanned, Stats } from 'quorate';

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Fields = { [name: string]: Json };

/** Longer bytes than this are shown as their number, if they are of the pattern. */
const SHOWN_BYTES_MAX = 64;

export const isFields = (value: Json | undefined): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The pattern: bytes that show where they were cut or shifted. */
export function fill(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, at) => (at * 31 + length) % 251));
}

/** The bytes that a scenario means, as an application would write them: text as text. */
export function data(spec: Json | undefined): string | Buffer {
  if (typeof spec === 'string') {
    return spec;
  }
  assert.ok(isFields(spec), `${JSON.stringify(spec)} are no bytes`);
  return typeof spec.bytes === 'number' ? fill(spec.bytes) : Buffer.from(String(spec.hex), 'hex');
}

/** Bytes as a scenario writes them. */
export function show(bytes: Buffer): Json {
  if (bytes.length > SHOWN_BYTES_MAX && bytes.equals(fill(bytes.length))) {
    return { bytes: bytes.length };
  }
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) ? text : { hex: bytes.toString('hex') };
}

/** What `update` merges in scenarios: sets of words, separated by commas. */
export function union(values: readonly Buffer[], added: string): string {
  const words = values.flatMap((value) => value.toString().split(','));
  return [...new Set([...words, added])].sort().join(',');
}

/**
 * Where and how `actual` is not as `expected` says: an object has at least the fields that are named, a list has as many elements,
 * and `$words` say less than equality.
 */
export function mismatch(expected: Json, actual: Json | undefined, place: string): string | undefined {
  let slips: Array<string | undefined> = [];
  if (isFields(expected) && Object.keys(expected).some((name) => name.startsWith('$'))) {
    slips = Object.entries(expected).map(([word, argument]) => mismatchWord(word, argument, actual, place));
  } else if (isFields(expected) && isFields(actual)) {
    slips = Object.entries(expected).map(([name, one]) => mismatch(one, actual[name], `${place}.${name}`));
  } else if (Array.isArray(expected) && Array.isArray(actual) && expected.length === actual.length) {
    slips = expected.map((one, at) => mismatch(one, actual[at], `${place}[${at}]`));
  } else if (expected !== (actual ?? null)) {
    return `${place}: expected ${JSON.stringify(expected)}, was ${JSON.stringify(actual)}`;
  }
  return slips.find((slip) => slip !== undefined);
}

function mismatchWord(word: string, argument: Json, actual: Json | undefined, place: string): string | undefined {
  const fits = (expected: Json, one: Json | undefined): boolean => mismatch(expected, one, place) === undefined;
  const elements = Array.isArray(actual) ? actual : undefined;
  const words: Record<string, () => boolean> = {
    $at_least: () => typeof actual === 'number' && actual >= Number(argument),
    $at_most: () => typeof actual === 'number' && actual <= Number(argument),
    $one_of: () => Array.isArray(argument) && argument.some((one) => fits(one, actual)),
    $not: () => !fits(argument, actual),
    $some: () => elements?.some((one) => fits(argument, one)) ?? false,
    $every: () => elements?.every((one) => fits(argument, one)) ?? false,
    $count: () => elements !== undefined && fits(argument, elements.length),
  };
  const holds = words[word];
  if (holds === undefined) {
    return `${place}: no word is called ${word}`;
  }
  return holds() ? undefined : `${place}: expected ${word} ${JSON.stringify(argument)}, was ${JSON.stringify(actual)}`;
}

/** What a call returned or failed with. */
export function shown(result: unknown): Fields {
  if (result === null) {
    return { is: 'absent' };
  }
  if (typeof result === 'boolean') {
    return { is: 'exists', exists: result };
  }
  if (Buffer.isBuffer(result)) {
    return { is: 'value', value: show(result) };
  }
  if (Array.isArray(result)) {
    return { is: 'many', items: result.map(shown) };
  }
  if (result instanceof QuorateError) {
    const { code, retryable, maybeApplied, attempts, node, need, got } = result;
    const kind = result.constructor.name.replace(/Error$/, '');
    return { is: 'error', kind, code, retryable, maybe_applied: maybeApplied, attempts, node: node ?? null, need: need ?? null, got: got ?? null };
  }
  if (result instanceof Found) {
    return found(result);
  }
  if (result instanceof Absent) {
    const { context, receipt } = result;
    return { is: 'absent', seen_nothing: context.isEmpty, context: context.toString(), receipt: rested(receipt) };
  }
  if (result instanceof Stored) {
    const { siblings, context, clock, receipt } = result;
    const alone = { stands_alone: context !== null, context: context?.toString() ?? null };
    return { is: 'stored', siblings, ...alone, clock: clock.toString(), receipt: rested(receipt) };
  }
  if (result instanceof Context) {
    return { is: 'context', bytes: show(result.toBytes()), text: result.toString(), seen_nothing: result.isEmpty };
  }
  throw new TypeError(`no scenario speaks of ${String(result)}`);
}

/** The keys of a scan, in the order of their bytes. */
export function scan(keys: Scanned[]): Fields {
  keys.sort((a, b) => (a.bucket < b.bucket ? -1 : a.bucket > b.bucket ? 1 : Buffer.compare(a.key, b.key)));
  const values = ({ found }: Scanned): Json => (found === undefined ? null : [...found.values].sort(Buffer.compare).map(show));
  const each = (scanned: Scanned): Json => {
    const { bucket, key, siblings, valueBytes } = scanned;
    return { bucket, key: show(key), siblings, value_bytes: valueBytes, values: values(scanned) };
  };
  return { is: 'scan', keys: keys.map(each) };
}

/** Where a key lives. */
export function explanation({ id, partition, epoch, owners }: Explanation): Fields {
  return { is: 'explanation', id, partition, epoch: Number(epoch), owners: owners.map((owner) => owner.name) };
}

/** The ring. */
export function ring({ epoch, partitions, replicas, nodes }: Ring): Fields {
  return { is: 'ring', epoch: Number(epoch), partitions, replicas, nodes: nodes.map((node) => node.name) };
}

/** What a client has done. */
export function stats({ succeeded, failed, retries, refreshes, epoch, nodes }: Stats): Fields {
  return { is: 'stats', succeeded, failed, retries, refreshes, epoch: Number(epoch), nodes: nodes.map((node) => node.name) };
}

/** How the nodes answered. */
export function pings(pings: Pings): Fields {
  return { is: 'ping', answers: [...pings.values()].map((answer) => typeof answer === 'number') };
}

function found(result: Found): Fields {
  const siblings = [...result.siblings].sort((a, b) => Buffer.compare(a.value, b.value));
  const values = siblings.map((sibling) => show(sibling.value));
  assert.deepEqual([...result.values].sort(Buffer.compare).map(show), values);
  return {
    is: 'found',
    values,
    clocks: siblings.map((sibling) => sibling.clock.toString()),
    hashes: siblings.map((sibling) => sibling.hash),
    value_bytes: siblings.map((sibling) => sibling.valueBytes),
    siblings: siblings.length,
    conflict: result.isConflict,
    context: result.context.toString(),
    receipt: rested(result.receipt),
  };
}

function rested({ answered, epoch, need, durable, standIns, repaired, replicas }: Receipt): Fields {
  return { answered: [...answered], epoch: epoch.toString(), need, durable, stand_ins: standIns, repaired, replicas };
}
