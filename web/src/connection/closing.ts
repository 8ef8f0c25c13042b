/**
 * What a close code means for the client, and how long it stays away.
 *
 * 4500 to 4999 are final. Everything else comes back, also the protocol faults (1002, 1003, 1007, 1009): a person in front
 * of a page that has given up has only the reload button, and the pause between attempts keeps a fault from being a storm.
 */

import type { Chance } from './clock';

export type AfterClose =
  | { readonly comesBack: true; readonly leastPauseMs: number }
  | { readonly comesBack: false; readonly signsIn: boolean; readonly reason: string };

const FIRST_PAUSE_MS = 400; // a worker that was replaced is back within that more often than not
const LEAST_PAUSE_MS = 50; // what failed in this moment fails in the next, too
const MAX_PAUSE_MS = 30_000; // half a minute is the most that people wait before they reload
const BUSY_PAUSE_MS = 5_000; // told to slow down (1013, 4013): not sooner than that
const MAX_DOUBLINGS = 7; // 400 ms doubled seven times passes the maximum

const reasons: Readonly<Record<number, string>> = {
  4500: 'Your session has ended.',
  4501: 'The studio did not understand this page. Please reload it.',
  4502: 'The studio did not learn who you are. Please sign in again.',
  4503: 'This account no longer exists.',
  4504: 'The studio is open in too many windows. Close some and reload.',
  4507: 'You may not open this conversation.',
};

export function afterClose(code: number): AfterClose {
  if (code >= 4500 && code <= 4999) {
    const signsIn = code === 4500 || code === 4502 || code === 4503;
    return { comesBack: false, signsIn, reason: reasons[code] ?? 'The studio has closed this connection.' };
  }
  return { comesBack: true, leastPauseMs: code === 1013 || code === 4013 ? BUSY_PAUSE_MS : 0 };
}

/** Doubles with every attempt in vain; anything up to that, so that a thousand clients do not come back at once. */
export function pauseMs(attempt: number, chance: Chance): number {
  const most = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(attempt, MAX_DOUBLINGS), MAX_PAUSE_MS);
  return Math.round(LEAST_PAUSE_MS + (most - LEAST_PAUSE_MS) * chance());
}
