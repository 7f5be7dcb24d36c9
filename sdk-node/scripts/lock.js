// Takes out of the lock file what names hosts and is not needed to install: who asks for donations, and why versions are old. Which
// registry the packages come from is the business of whoever installs.

'use strict';

const { readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');

const path = join(__dirname, '..', 'package-lock.json');
const lock = JSON.parse(readFileSync(path, 'utf8'));
for (const entry of Object.values(lock.packages)) {
  for (const name of ['resolved', 'funding', 'deprecated']) {
    delete entry[name];
  }
}
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
