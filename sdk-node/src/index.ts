/**
 * The Quorate client for Node.
 *
 * ```ts
 * import { Client } from 'quorate';
 *
 * const db = await Client.connect('127.0.0.1:7601');
 * await db.put('greeting', 'hello');
 * const found = await db.get('greeting'); // null when absent
 * console.log(found?.value.toString());
 * await db.close();
 * ```
 */

export { Bucket } from './bucket.js';
export type { Merge } from './bucket.js';
export { Client } from './client.js';
export type { ClientEvents } from './client.js';
export { Context } from './context.js';
export * from './errors.js';
export { Absent, Found, Sibling, Stored } from './found.js';
export type { Receipt, Scanned } from './found.js';
export type { LogRecord } from './log.js';
export type * from './options.js';
export * as resolvers from './resolvers.js';
export type { Explanation, NodeEvent, NodeStats, Pings, Ring, RingNode, Stats, TopologyEvent } from './view.js';
