/** Holds the one studio and tells who listens that it has changed. The only thing in `state` that is not a pure function. */

import type { Clock } from '../connection/clock';
import { reduce, type Input } from './reduce';
import { emptyStudio, type Studio } from './studio';

export class Store {
  #studio: Studio = emptyStudio;
  readonly #clock: Clock;
  readonly #listeners = new Set<(studio: Studio) => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get studio(): Studio {
    return this.#studio;
  }

  dispatch(input: Input): void {
    const next = reduce(this.#studio, input, this.#clock.nowMs());
    if (next === this.#studio) return;
    this.#studio = next;
    for (const listener of this.#listeners) listener(next);
  }

  listen(listener: (studio: Studio) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
