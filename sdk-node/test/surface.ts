/**
 * The public members of the Node client, as its declarations (`dist/*.d.ts`) say: for the table that compares the clients.
 */

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** What the table shows, the declaration that has it, and the class or interface it is. */
const DECLARED: ReadonlyArray<readonly [shown: string, file: string, name: string]> = [
  ['Client', 'client.d.ts', 'Client'],
  ['Client', 'bucket.d.ts', 'Bucket'],
  ['Bucket', 'bucket.d.ts', 'Bucket'],
  ['Context', 'context.d.ts', 'Context'],
  ['Found', 'found.d.ts', 'Found'],
  ['Absent', 'found.d.ts', 'Absent'],
  ['Stored', 'found.d.ts', 'Stored'],
  ['Sibling', 'found.d.ts', 'Sibling'],
  ['Receipt', 'found.d.ts', 'Receipt'],
  ['Scanned', 'found.d.ts', 'Scanned'],
  ['Explanation', 'view.d.ts', 'Explanation'],
  ['Stats', 'view.d.ts', 'Stats'],
  ['Ring', '../native.d.ts', 'Ring'],
  ['Error', 'errors.d.ts', 'QuorateError'],
  ['LocalCluster', 'testing.d.ts', 'LocalCluster'],
];

/** What each class offers, in camelCase. */
export function surface(): Record<string, string[]> {
  const folder = dirname(require.resolve('quorate'));
  const members: Record<string, string[]> = {};
  for (const [shown, file, name] of DECLARED) {
    const found = membersOf(readFileSync(join(folder, file), 'utf8'), name);
    if (found.length === 0) throw new Error(`${file} declares no members of ${name}`);
    members[shown] = [...new Set([...(members[shown] ?? []), ...found])].sort();
  }
  return members;
}

/** The members of a class or an interface: lines of its body, two or four spaces deep, that begin with a name and are not private. */
function membersOf(declarations: string, name: string): string[] {
  const [, rest = ''] = declarations.split(new RegExp(`(?:class|interface) ${name}\\b[^{]*\\{`));
  const body = rest.split('\n}')[0] ?? '';
  const code = body.replaceAll(/\/\*\*[^]*?@internal[^]*?\*\/\n.*\n/g, '').replaceAll(/\/\*\*[^]*?\*\//g, '');
  const member = /^ {2,4}(?!private |protected |#)(?:static )?(?:readonly )?(?:get )?([a-z]\w*)\??[(<:]/gimu;
  return [...code.matchAll(member)].map(([, found]) => found as string).filter((found) => found !== 'constructor');
}
