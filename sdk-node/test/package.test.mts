/**
 * The package: however it is loaded, there is one copy of every class, and what is generated is up to date.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { it } from 'node:test';

import * as imported from 'quorate';

const require = createRequire(import.meta.url);
const folder = dirname(require.resolve('quorate/package.json'));

it('import and require give the same classes, all of them', () => {
  const required = require('quorate') as Record<string, unknown>;
  const names = Object.keys(required).filter((name) => name !== '__esModule').sort();
  assert.deepEqual(Object.keys(imported).filter((name) => name !== '__esModule' && name !== 'module.exports').sort(), names);
  assert.ok(names.includes('Client') && names.includes('TimeoutError') && names.includes('resolvers'));
  for (const name of names) {
    assert.equal((imported as Record<string, unknown>)[name], required[name], name);
  }
});

it('the addon can be named by the environment', () => {
  const script = `console.log(typeof require(${JSON.stringify(folder)}).Client)`;
  const run = (path: string): string =>
    execFileSync(process.execPath, ['-e', script], { env: { ...process.env, QUORATE_NATIVE_PATH: path }, encoding: 'utf8', stdio: 'pipe' });
  assert.equal(run(join(folder, 'native.js')).trim(), 'function');
  assert.throws(() => run('/nowhere/quorate.node'), /Cannot find module/);
});

it('the version is that of the addon', () => {
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
  assert.equal((require(join(folder, 'native.js')) as { version(): string }).version(), version);
});

it('the declarations and the loader are what the build generates', () => {
  const fresh = mkdtempSync(join(tmpdir(), 'quorate-declarations-'));
  try {
    execFileSync('npm', ['run', '--silent', 'build:native', '--', '--output-dir', fresh], { cwd: folder, stdio: 'pipe' });
    for (const name of ['native.d.ts', 'native.js']) {
      assert.equal(readFileSync(join(folder, name), 'utf8'), readFileSync(join(fresh, name), 'utf8'), `${name} is out of date: npm run build`);
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
});
