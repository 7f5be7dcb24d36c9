/**
 * Resolvers: how the concurrent values of a key become one, on the caller's side.
 *
 * A resolver is a function from all concurrent values, the one that was written last at the end, to one value. Give it to a bucket
 * (`db.bucket('carts', { resolver })`), where `found.value` applies it to what was read. It must give the same for the same values,
 * and must not depend on anything else: different readers have to agree.
 */

/** Between two members of a set that is written with one on each line. */
const LINE = '\n';

/** The value that was written last by the clocks of the nodes. The others are lost: fine for caches, wrong for carts. */
export function lastWritten(values: readonly Buffer[]): Buffer {
  return values.at(-1) ?? Buffer.alloc(0);
}

/**
 * The union of values that are sets with one member on each line, sorted.
 *
 * A member that one writer removed comes back when another wrote the set at the same time: the shopping cart of Dynamo.
 */
export function unionOfLines(values: readonly Buffer[]): Buffer {
  const lines = new Set(values.flatMap((value) => value.toString('latin1').split(LINE)).filter((line) => line !== ''));
  // As bytes, so that what is no UTF-8 is kept as it is.
  return Buffer.from([...lines].sort().join(LINE), 'latin1');
}

/** The union of values that are JSON arrays of strings or numbers, sorted by their JSON. */
export function unionOfJsonSets(values: readonly Buffer[]): Buffer {
  const members = values.flatMap((value) => JSON.parse(value.toString()) as unknown[]);
  return Buffer.from(`[${[...new Set(members.map((member) => JSON.stringify(member)))].sort().join(',')}]`);
}
