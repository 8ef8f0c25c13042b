/**
 * Fetches what the live feed did not bring: a hole in the log, a head without its events, a page that is out of date.
 *
 * Promises: events on their way get a second to come; while the cursor moves, nobody interferes. What cannot be fetched is
 * tried again, ever more slowly.
 */

import type { StudioApi } from '../api/studio-api';
import { Problem } from '../protocol/problems';
import type { ConversationId, Seq } from '../protocol/words';
import { isBehind } from '../state/conversation';
import { behind } from '../state/reduce';
import type { Store } from '../state/store';
import type { ConversationState } from '../state/studio';
import type { Chance, Clock } from './clock';
import { pauseMs } from './closing';

const PATIENCE_MS = 1_000;
export const PAGE_SIZE = 60; // two or three screens: the first paint is fast and the first scroll needs no waiting

export class Repair {
  readonly #store: Store;
  readonly #api: Pick<StudioApi, 'messages' | 'events' | 'conversation'>;
  readonly #clock: Clock;
  readonly #chance: Chance;
  readonly #watched = new Map<ConversationId, () => void>();

  constructor(
    store: Store,
    api: Pick<StudioApi, 'messages' | 'events' | 'conversation'>,
    clock: Clock,
    chance: Chance,
  ) {
    this.#store = store;
    this.#api = api;
    this.#clock = clock;
    this.#chance = chance;
  }

  /** Looks for conversations in need; cheap, so it may be called after every frame. */
  look(): void {
    for (const state of behind(this.#store.studio)) {
      if (!this.#watched.has(state.id)) this.#wait(state.id, state.isStale ? 0 : PATIENCE_MS, state.cursor, 0);
    }
  }

  stop(): void {
    for (const cancel of this.#watched.values()) cancel();
    this.#watched.clear();
  }

  #wait(id: ConversationId, ms: number, cursor: Seq, attempt: number): void {
    this.#watched.set(
      id,
      this.#clock.after(ms, () => void this.#mend(id, cursor, attempt)),
    );
  }

  async #mend(id: ConversationId, cursorBefore: Seq, attempt: number): Promise<void> {
    const state = this.#inNeed(id);
    if (!state) return;
    if (!state.isStale && state.cursor !== cursorBefore) return this.#wait(id, PATIENCE_MS, state.cursor, 0);
    try {
      await this.#fetch(state);
    } catch (error) {
      if (error instanceof Problem && error.code === 'not_found') {
        this.#store.dispatch({ type: 'conversation.removed', conversation: id, code: error.code });
      }
    }
    const after = this.#inNeed(id);
    if (after) this.#wait(id, pauseMs(attempt + 1, this.#chance), after.cursor, attempt + 1);
  }

  async #fetch(state: ConversationState): Promise<void> {
    const { id } = state;
    if (state.isStale) {
      const page = await this.#api.messages(id, { limit: PAGE_SIZE });
      this.#store.dispatch({ type: 'local.page', conversation: id, place: 'newest', page });
    } else if (state.timeline) {
      this.#store.dispatch({ type: 'local.log', conversation: id, page: await this.#api.events(id, state.cursor) });
    } else {
      this.#store.dispatch({ type: 'local.conversations', conversations: [await this.#api.conversation(id)] });
    }
  }

  #inNeed(id: ConversationId): ConversationState | null {
    const state = this.#store.studio.conversations[id];
    if (state && (state.isStale || isBehind(state))) return state;
    this.#watched.delete(id);
    return null;
  }
}
