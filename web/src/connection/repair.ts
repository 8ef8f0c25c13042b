/**
 * Fetches what the live feed did not bring: a hole in the log, a head without its events, a page that is out of date.
 *
 * Promises: events on their way get a second to come; while the cursor moves, nobody interferes. What cannot be fetched is
 * tried again, ever more slowly and never sooner than was said. A window that is read anew keeps the reader's place.
 */

import type { StudioApi } from '../api/studio-api';
import { Problem } from '../protocol/problems';
import type { ConversationId, Seq } from '../protocol/words';
import { isBehind } from '../state/conversation';
import { behind } from '../state/reduce';
import type { Store } from '../state/store';
import { MAX_WINDOW, type ConversationState } from '../state/studio';
import type { Chance, Clock } from './clock';
import { pauseMs } from './closing';

const PATIENCE_MS = 1_000;
const MAX_PAGE = 200; // what the server gives at once
export const PAGE_SIZE = 60; // two or three screens: the first paint is fast and the first scroll needs no waiting

export class Repair {
  readonly #store: Store;
  readonly #api: Pick<StudioApi, 'messages' | 'events' | 'conversation'>;
  readonly #clock: Clock;
  readonly #chance: Chance;
  readonly #onNews: (conversation: ConversationId, seq: Seq) => void;
  readonly #watched = new Map<ConversationId, () => void>();

  constructor(
    store: Store,
    api: Pick<StudioApi, 'messages' | 'events' | 'conversation'>,
    clock: Clock,
    chance: Chance,
    onNews: (conversation: ConversationId, seq: Seq) => void,
  ) {
    this.#store = store;
    this.#api = api;
    this.#clock = clock;
    this.#chance = chance;
    this.#onNews = onNews;
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
    let leastMs = 0;
    try {
      await this.#fetch(state);
    } catch (error) {
      if (error instanceof Problem) leastMs = (error.retryAfterS ?? 0) * 1_000;
      if (error instanceof Problem && error.code === 'not_found') {
        this.#store.dispatch({ type: 'conversation.removed', conversation: id, code: error.code });
      }
    }
    const after = this.#inNeed(id);
    if (after) this.#wait(id, Math.max(leastMs, pauseMs(attempt + 1, this.#chance)), after.cursor, attempt + 1);
  }

  async #fetch(state: ConversationState): Promise<void> {
    const { id } = state;
    if (state.isStale) {
      await this.#readAnew(state);
    } else if (state.timeline) {
      this.#store.dispatch({ type: 'local.log', conversation: id, page: await this.#api.events(id, state.cursor) });
      this.#onNews(id, this.#store.studio.conversations[id]?.cursor ?? 0);
    } else {
      this.#store.dispatch({ type: 'local.conversations', conversations: [await this.#api.conversation(id)] });
    }
  }

  /** The newest page for who is at the end; for who reads further up all that is in the window, so that nothing jumps. */
  async #readAnew({ id, timeline }: ConversationState): Promise<void> {
    const [first, last] = [timeline?.messages[0], timeline?.messages.at(-1)];
    if (!timeline || timeline.follows || !first || !last) {
      const page = await this.#api.messages(id, { limit: PAGE_SIZE });
      return this.#store.dispatch({ type: 'local.page', conversation: id, place: 'newest', page });
    }
    let page = await this.#api.messages(id, { before: last.seq + 1, limit: MAX_PAGE });
    for (let top = page.messages[0]; page.has_more && top && top.seq > first.seq; top = page.messages[0]) {
      const older = await this.#api.messages(id, { before: top.seq, limit: MAX_PAGE });
      if (older.epoch !== page.epoch || older.messages.length === 0) break;
      // Of two heads the lower one: events that a page already contains change nothing when they are applied again.
      const head = Math.min(page.head, older.head);
      page = { ...older, head, messages: [...older.messages, ...page.messages] };
    }
    if (page.messages.length > MAX_WINDOW)
      page = { ...page, messages: page.messages.slice(-MAX_WINDOW), has_more: true };
    this.#store.dispatch({ type: 'local.page', conversation: id, place: 'around', page });
  }

  #inNeed(id: ConversationId): ConversationState | null {
    const state = this.#store.studio.conversations[id];
    if (state && (state.isStale || isBehind(state))) return state;
    this.#watched.delete(id);
    return null;
  }
}
