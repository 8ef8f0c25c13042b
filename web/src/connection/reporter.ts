/**
 * Tells the server how far the person has read, and that the person is typing.
 *
 * Promises: at most one `read` a second a conversation, the last one always goes out; what was read without a connection is
 * told after the next `welcome`.
 */

import type { Welcome } from '../protocol/frames';
import type { ConversationId, Seq } from '../protocol/words';
import type { Store } from '../state/store';
import type { Clock } from './clock';
import type { Connection } from './socket';

const READ_PAUSE_MS = 1_000;
const TYPING_RENEWAL_MS = 3_000; // half of what the others wait before the notice fades
const TYPING_IDLE_MS = 5_000; // nobody who looks at the ceiling that long is typing

export class Reporter {
  readonly #store: Store;
  readonly #connection: Pick<Connection, 'send'>;
  readonly #clock: Clock;
  readonly #resting = new Set<ConversationId>();
  #typingIn: ConversationId | null = null;
  #typingToldMs = -Infinity;
  #cancelIdle: () => void = () => {};

  constructor(store: Store, connection: Pick<Connection, 'send'>, clock: Clock) {
    this.#store = store;
    this.#connection = connection;
    this.#clock = clock;
  }

  read(conversation: ConversationId, seq: Seq): void {
    const before = this.#readIn(conversation);
    this.#store.dispatch({ type: 'local.read', conversation, seq });
    if (this.#readIn(conversation) > before && !this.#resting.has(conversation)) this.#tellRead(conversation);
  }

  resume(welcome: Welcome): void {
    this.#typingToldMs = -Infinity;
    for (const { id, read } of welcome.conversations) {
      if (this.#readIn(id) > read) this.#connection.send({ type: 'read', conversation: id, seq: this.#readIn(id) });
    }
  }

  typing(conversation: ConversationId): void {
    const nowMs = this.#clock.nowMs();
    if (this.#typingIn !== conversation) this.stoppedTyping();
    this.#cancelIdle();
    this.#cancelIdle = this.#clock.after(TYPING_IDLE_MS, () => this.stoppedTyping());
    if (this.#typingIn === conversation && nowMs - this.#typingToldMs < TYPING_RENEWAL_MS) return;
    this.#typingIn = conversation;
    this.#typingToldMs = nowMs;
    this.#connection.send({ type: 'typing', conversation, on: true });
  }

  stoppedTyping(): void {
    this.#cancelIdle();
    if (this.#typingIn !== null) this.#connection.send({ type: 'typing', conversation: this.#typingIn, on: false });
    this.#typingIn = null;
  }

  #tellRead(conversation: ConversationId): void {
    const told = this.#readIn(conversation);
    this.#connection.send({ type: 'read', conversation, seq: told });
    this.#resting.add(conversation);
    this.#clock.after(READ_PAUSE_MS, () => {
      this.#resting.delete(conversation);
      if (this.#readIn(conversation) > told) this.#tellRead(conversation);
    });
  }

  #readIn(conversation: ConversationId): Seq {
    return this.#store.studio.conversations[conversation]?.read ?? 0;
  }
}
