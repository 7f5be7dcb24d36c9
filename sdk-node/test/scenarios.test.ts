/**
 * The scenarios of the repository's `tests/scenarios/`, played by the Node client: against real nodes, and on a stage of fake ones.
 * `node --test --test-name-pattern='a receipt' test-dist/scenarios.test.js` plays some of them.
 */

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';

import { Scenario, Slip } from './scenario.js';
import type { Play } from './scenario.js';
import { surface } from './surface.js';
import { REPOSITORY, World } from './world.js';

interface Entry extends Play {
  readonly name: string;
  readonly world: 'nodes' | 'own nodes' | 'stage';
  readonly fails_with?: string;
}

const FILE = JSON.parse(readFileSync(join(REPOSITORY, 'tests/scenarios/scenarios.json'), 'utf8')) as { scenarios: Entry[]; wrong: Entry[] };

const NODES = 3;

/** How long one scenario may take: several times what the slowest needs on a busy machine. */
const TIMEOUT_MS = 120_000;

const passed: string[] = [];

/** Real nodes that scenarios share, started when the first one wants them. */
let nodes: Promise<World> | undefined;

after(async () => {
  await (await nodes)?.close();
  const folder = process.env.QUORATE_CONFORMANCE;
  if (folder !== undefined) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'node.json'), JSON.stringify({ runner: 'node', passed, surface: surface() }));
  }
});

describe('the Node client does what the scenarios say', () => {
  for (const [at, scenario] of FILE.scenarios.entries()) {
    it(`${scenario.world}: ${scenario.name}`, { timeout: TIMEOUT_MS }, async () => {
      const world = await { nodes: () => (nodes ??= World.testkit(NODES)), 'own nodes': () => World.testkit(NODES), stage: () => World.stage(NODES) }[scenario.world]();
      try {
        await new Scenario(scenario, `node-${at}`, world).play();
      } finally {
        if (scenario.world !== 'nodes') await world.close();
      }
      passed.push(scenario.name);
    });
  }
});

describe('a scenario that expects something else fails and says why', () => {
  for (const wrong of FILE.wrong) {
    it(wrong.name, { timeout: TIMEOUT_MS }, async () => {
      const world = await World.stage(NODES);
      try {
        await assert.rejects(new Scenario(wrong, 'wrong', world).play(), (error: Error) => {
          assert.ok(error instanceof Slip, String(error));
          assert.ok(error.message.includes(wrong.fails_with ?? ''), error.message);
          return true;
        });
      } finally {
        await world.close();
      }
    });
  }
});
