/** The same for `import`. There is one copy of every class, whichever way the package is loaded. */

export * from './testing.js';
