/**
 * The golden vectors of the repository's `tests/vectors/`, as the Node client shows them through its own public surface.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import * as quorate from 'quorate';

import type { Fields, Json } from './pattern.js';
import { Scenario } from './scenario.js';
import type { Step } from './scenario.js';
import { REPOSITORY, World } from './world.js';

const vectors = (name: string): Record<string, Fields[]> => JSON.parse(readFileSync(join(REPOSITORY, `tests/vectors/${name}.json`), 'utf8')) as Record<string, Fields[]>;

async function play(steps: Step[], nodes: number): Promise<void> {
  assert.ok(steps.length > 0);
  const world = await World.stage(nodes);
  try {
    await new Scenario({ steps }, 'default', world).play();
  } finally {
    await world.close();
  }
}

describe('keys have their places and owners', () => {
  for (const { layout, keys } of vectors('ring').layouts as Array<{ layout: Fields; keys: Fields[] }>) {
    it(String(layout.name), async () => {
      const explain = ({ bucket, key, ...place }: Fields): Step => ({ do: 'explain', bucket: bucket as Json, key: key as Json, expect: { ...place, epoch: layout.epoch as Json } });
      await play([{ do: 'world', ask: { do: 'publish', layout } }, ...keys.map(explain)], 5);
    });
  }
});

describe('contexts have their texts', () => {
  for (const [how, name] of [['from_bytes', 'bytes'], ['from_text', 'text']] as const) {
    it(how, async () => {
      const steps = (vectors('contexts')[how] ?? []).map((vector): Step => ({ do: 'context', [name]: vector[name] as Json, expect: vector.result as Json }));
      await play(steps, 1);
    });
  }
});

describe('errors have their classes and say what happened', () => {
  const { kinds = [], cases = [] } = vectors('errors');
  for (const { node } of kinds) {
    it(String(node), () => {
      const kind = (quorate as unknown as Record<string, { prototype: unknown }>)[String(node)];
      assert.ok(kind?.prototype instanceof quorate.QuorateError);
      assert.ok(kind.prototype instanceof Error);
    });
  }
  for (const { name, steps, error } of cases as Array<{ name: string; steps: Step[]; error: Fields }>) {
    it(name, async () => {
      await play([...steps.slice(0, -1), { ...steps.at(-1), expect: error }], 3);
    });
  }
});

describe('receipts say what came over the wire', () => {
  for (const { name, wire, result, do: call } of vectors('receipts').cases ?? []) {
    it(String(name), async () => {
      const act: Step = { do: 'world', ask: { do: 'act', node: 'all', then: { answer: wire as Json } } };
      await play([act, { do: call as Json, key: 'k', ...(call === 'put' ? { value: 'v' } : {}), expect: result as Json }], 3);
    });
  }
});
