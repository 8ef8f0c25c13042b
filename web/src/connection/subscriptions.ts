/**
 * Which conversations the socket listens to, from where.
 *
 * Promises: every conversation is asked for from the cursor that the studio stands at, so nothing is told twice and nothing
 * is left out. Above the bound of a socket the least recently used wait until they are opened.
 */

import { MAX_SUBSCRIPTIONS, type Cursor } from '../protocol/frames';
import type { ConversationId } from '../protocol/words';
import type { Store } from '../state/store';
import type { ConversationState } from '../state/studio';
import type { Clock } from './clock';
import type { IdMaker } from './ids';
import type { Connection } from './socket';

const BATCH = 200; // conversations a frame: about 25 KB of the 64 KiB that a frame may have
const RENEW_PAUSE_MS = 2_000; // a torn answer is told again at most that often

export class Subscriptions {
  readonly #store: Store;
  readonly #connection: Pick<Connection, 'send'>;
  readonly #newId: IdMaker;
  readonly #clock: Clock;
  readonly #subscribed = new Set<ConversationId>();
  readonly #renewedMs = new Map<ConversationId, number>();

  constructor(store: Store, connection: Pick<Connection, 'send'>, newId: IdMaker, clock: Clock) {
    this.#store = store;
    this.#connection = connection;
    this.#newId = newId;
    this.#clock = clock;
  }

  /** A new socket knows nothing. */
  restart(): void {
    this.#subscribed.clear();
    const all = Object.values(this.#store.studio.conversations).sort(lastUsedFirst).slice(0, MAX_SUBSCRIPTIONS);
    this.#subscribe(all);
  }

  ensure(id: ConversationId): void {
    const state = this.#store.studio.conversations[id];
    if (!state || this.#subscribed.has(id)) return;
    if (this.#subscribed.size >= MAX_SUBSCRIPTIONS) this.#makeRoom();
    this.#subscribe([state]);
  }

  forget(id: ConversationId): void {
    this.#subscribed.delete(id);
  }

  /** Asks again where a running answer lost a piece: the server then tells all of it. */
  mend(id: ConversationId): void {
    const state = this.#store.studio.conversations[id];
    if (!state || !Object.values(state.streams).some(({ isTorn }) => isTorn)) return;
    const nowMs = this.#clock.nowMs();
    if (nowMs - (this.#renewedMs.get(id) ?? -Infinity) < RENEW_PAUSE_MS) return;
    this.#renewedMs.set(id, nowMs);
    this.#subscribe([state]);
  }

  #subscribe(states: readonly ConversationState[]): void {
    for (let start = 0; start < states.length; start += BATCH) {
      const batch = states.slice(start, start + BATCH);
      const conversations = Object.fromEntries(
        batch.map((state): [string, Cursor] => [state.id, { seq: state.cursor, epoch: state.epoch }]),
      );
      if (!this.#connection.send({ type: 'subscribe', id: this.#newId(), conversations })) return;
      for (const { id } of batch) this.#subscribed.add(id);
    }
  }

  #makeRoom(): void {
    const [first] = this.#subscribed;
    if (first === undefined) return;
    this.#subscribed.delete(first);
    this.#connection.send({ type: 'unsubscribe', id: this.#newId(), conversations: [first] });
  }
}

function lastUsedFirst(one: ConversationState, other: ConversationState): number {
  return one.updatedAt < other.updatedAt ? 1 : -1;
}
