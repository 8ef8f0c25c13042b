/**
 * Which conversations the socket listens to, from where.
 *
 * Promises: every conversation is asked for from the cursor that the studio stands at, so nothing is told twice and nothing
 * is left out; after a lost connection all of them in one frame. What the server is too busy to give is asked for again,
 * no sooner than it said. Above the bound of a socket the least recently used wait until they are opened.
 */

import { MAX_SUBSCRIPTIONS, type Cursor, type ErrorFrame, type Subscribed } from '../protocol/frames';
import type { ClientId, ConversationId } from '../protocol/words';
import type { Store } from '../state/store';
import type { ConversationState } from '../state/studio';
import type { Chance, Clock } from './clock';
import { pauseMs } from './closing';
import type { IdMaker } from './ids';
import type { Connection } from './socket';

/** Within the 64 KiB of a frame. 500 conversations with the ids and epochs of this server come to 43 KB. */
const MAX_SUBSCRIBE_BYTES = 60_000;
const RENEW_PAUSE_MS = 2_000; // a torn answer is told again at most that often

export class Subscriptions {
  readonly #store: Store;
  readonly #connection: Pick<Connection, 'send'>;
  readonly #newId: IdMaker;
  readonly #clock: Clock;
  readonly #chance: Chance;
  readonly #subscribed = new Set<ConversationId>();
  readonly #asked = new Map<ClientId, readonly ConversationId[]>();
  readonly #renewedMs = new Map<ConversationId, number>();
  readonly #retries = new Set<() => void>();
  #refusals = 0;

  constructor(store: Store, connection: Pick<Connection, 'send'>, newId: IdMaker, clock: Clock, chance: Chance) {
    this.#store = store;
    this.#connection = connection;
    this.#newId = newId;
    this.#clock = clock;
    this.#chance = chance;
  }

  /** A new socket knows nothing. */
  restart(): void {
    this.lost();
    const all = Object.values(this.#store.studio.conversations).sort(lastUsedFirst).slice(0, MAX_SUBSCRIPTIONS);
    this.#subscribe(all);
  }

  lost(): void {
    for (const cancel of this.#retries) cancel();
    this.#retries.clear();
    this.#subscribed.clear();
    this.#asked.clear();
    this.#refusals = 0;
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

  /** Conversations that could not be given just now are asked for again; those that are not mine are gone by now. */
  answered({ id, conversations }: Subscribed): void {
    this.#asked.delete(id);
    const missing = Object.entries(conversations).flatMap(([conversation, answer]) =>
      'error' in answer && this.#store.studio.conversations[conversation] ? [conversation] : [],
    );
    if (missing.length > 0) this.#askLater(missing, 0);
    else this.#refusals = 0;
  }

  /** The frame as a whole, if it was one of these. */
  refused({ id, retryable, retry_after_s }: ErrorFrame): void {
    const asked = this.#asked.get(id ?? '');
    if (!asked) return;
    this.#asked.delete(id ?? '');
    if (retryable) this.#askLater(asked, (retry_after_s ?? 0) * 1_000);
  }

  #askLater(ids: readonly ConversationId[], leastMs: number): void {
    for (const id of ids) this.#subscribed.delete(id);
    this.#refusals += 1;
    const waitMs = Math.max(leastMs, pauseMs(this.#refusals, this.#chance));
    const cancel = this.#clock.after(waitMs, () => {
      this.#retries.delete(cancel);
      const { conversations } = this.#store.studio;
      this.#subscribe(ids.flatMap((id) => (this.#subscribed.has(id) ? [] : (conversations[id] ?? []))));
    });
    this.#retries.add(cancel);
  }

  #subscribe(states: readonly ConversationState[]): void {
    for (const batch of batches(states)) {
      const id = this.#newId();
      if (!this.#connection.send({ type: 'subscribe', id, conversations: Object.fromEntries(batch) })) return;
      const ids = batch.map(([conversation]) => conversation);
      this.#asked.set(id, ids);
      for (const conversation of ids) this.#subscribed.add(conversation);
    }
  }

  #makeRoom(): void {
    const [first] = this.#subscribed;
    if (first === undefined) return;
    this.#subscribed.delete(first);
    this.#connection.send({ type: 'unsubscribe', id: this.#newId(), conversations: [first] });
  }
}

/** As few frames as hold them all: one, unless ids or epochs are longer than this server's. */
function batches(states: readonly ConversationState[]): [ConversationId, Cursor][][] {
  const found: [ConversationId, Cursor][][] = [];
  let bytes = Infinity;
  for (const { id, cursor, epoch } of states) {
    const entry: [ConversationId, Cursor] = [id, { seq: cursor, epoch }];
    const length = JSON.stringify(entry).length;
    if (bytes + length > MAX_SUBSCRIBE_BYTES) {
      found.push([]);
      bytes = 0;
    }
    found.at(-1)?.push(entry);
    bytes += length;
  }
  return found;
}

function lastUsedFirst(one: ConversationState, other: ConversationState): number {
  return one.updatedAt < other.updatedAt ? 1 : -1;
}
