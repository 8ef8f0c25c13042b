/** Time and chance, handed in so that tests hold them. */

export interface Clock {
  nowMs(): number;
  /** Calls back once after that time; the returned function takes it back. */
  after(ms: number, callback: () => void): () => void;
}

/** From 0 up to 1, without 1. */
export type Chance = () => number;

export const browserClock: Clock = {
  nowMs: () => Date.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
