/** Where the server's binary is, for `quorate/testing`: named by the environment, shipped, built before or now, or installed. */

import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';

/** The cluster could not be started, or did not do what it was told; the text says why. */
export class LocalClusterError extends Error {
  override readonly name = 'LocalClusterError';
}

/**
 * Finds the server's binary: `QUORATE_BINARY`, else the one in this package, else the newest one built in the source tree this
 * package stands in, else one that cargo builds there now, else the one on `PATH`.
 */
export function binary(): string {
  const named = process.env['QUORATE_BINARY'];
  if (named !== undefined && named !== '') {
    if (!isFile(named)) {
      throw new LocalClusterError(`QUORATE_BINARY names ${named}, which is not there`);
    }
    return named;
  }
  const shipped = join(__dirname, '..', 'bin', 'quorate');
  if (isFile(shipped)) {
    return shipped;
  }
  const tree = sourceTree(__dirname);
  const found = (tree === undefined ? undefined : inTree(tree)) ?? onPath();
  if (found !== undefined) {
    return found;
  }
  const why = tree === undefined ? `no source tree is around ${__dirname}` : `it did not in ${tree}`;
  throw new LocalClusterError(
    'there is no quorate binary to run nodes with: set QUORATE_BINARY to one; or install a package that has one ' +
      `(${shipped} is not there); or use this package from a source tree in which \`cargo build -p quorate-server\` works ` +
      `(${why}); or put one on PATH`,
  );
}

function sourceTree(folder: string): string | undefined {
  if (existsSync(join(folder, 'server', 'Cargo.toml'))) {
    return folder;
  }
  return dirname(folder) === folder ? undefined : sourceTree(dirname(folder));
}

function inTree(tree: string): string | undefined {
  const target = process.env['CARGO_TARGET_DIR'] || join(tree, 'target');
  const built = ['debug', 'release'].map((profile) => join(target, profile, 'quorate')).filter(isFile);
  const byAge = built.sort((one, other) => statSync(other).mtimeMs - statSync(one).mtimeMs);
  return byAge[0] ?? build(tree, target);
}

function build(tree: string, target: string): string | undefined {
  process.stderr.write(`building the quorate binary in ${tree}, once\n`);
  const command = ['build', '--locked', '--package', 'quorate-server', '--bin', 'quorate'];
  const env = { ...process.env, CARGO_TARGET_DIR: target };
  const ended = spawnSync('cargo', command, { cwd: tree, env, stdio: ['ignore', 2, 2] });
  return ended.status === 0 ? join(target, 'debug', 'quorate') : undefined;
}

function onPath(): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, 'quorate')).find(isFile);
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
