/**
 * Tells the server how far this device has come, how far the person has read, and that the person is typing.
 *
 * Promises: at most one `delivered` and one `read` a second a conversation, the last one always goes out; `delivered` only
 * where no `read` says as much already. What was received or read without a connection is told after the next `welcome`.
 */

import type { Welcome } from '../protocol/frames';
import type { ConversationId, ConversationSummary, Seq } from '../protocol/words';
import type { Store } from '../state/store';
import type { Clock } from './clock';
import type { Connection } from './socket';

const READ_PAUSE_MS = 1_000;
const DELIVERED_PAUSE_MS = 1_000;
/** After what comes in: time for whoever looks at it to have read it, and for the rest of a resume to come. */
const DELIVERED_DELAY_MS = 150;
const TYPING_RENEWAL_MS = 3_000; // half of what the others wait before the notice fades
const TYPING_IDLE_MS = 5_000; // nobody who looks at the ceiling that long is typing

export class Reporter {
  readonly #store: Store;
  readonly #connection: Pick<Connection, 'send'>;
  readonly #clock: Clock;
  readonly #resting = new Set<ConversationId>();
  /** The newest of somebody else that came in, until a `delivered` or a `read` tells so. */
  readonly #owed = new Map<ConversationId, Seq>();
  readonly #delivering = new Set<ConversationId>();
  /** What the server knows to be delivered, as far as this device told it. */
  readonly #told = new Map<ConversationId, Seq>();
  readonly #toldMs = new Map<ConversationId, number>();
  #typingIn: ConversationId | null = null;
  #typingToldMs = -Infinity;
  #cancelIdle: () => void = () => {};

  constructor(store: Store, connection: Pick<Connection, 'send'>, clock: Clock) {
    this.#store = store;
    this.#connection = connection;
    this.#clock = clock;
  }

  /** Something of somebody else has come in. */
  received(conversation: ConversationId, seq: Seq): void {
    this.#owed.set(conversation, Math.max(seq, this.#owed.get(conversation) ?? 0));
    if (this.#delivering.has(conversation)) return;
    this.#delivering.add(conversation);
    const restMs = (this.#toldMs.get(conversation) ?? -Infinity) + DELIVERED_PAUSE_MS - this.#clock.nowMs();
    this.#clock.after(Math.max(restMs, DELIVERED_DELAY_MS), () => {
      this.#delivering.delete(conversation);
      this.#tellDelivered(conversation);
    });
  }

  read(conversation: ConversationId, seq: Seq): void {
    const before = this.#readIn(conversation);
    this.#store.dispatch({ type: 'local.read', conversation, seq });
    if (this.#readIn(conversation) > before && !this.#resting.has(conversation)) this.#tellRead(conversation);
  }

  resume(welcome: Welcome): void {
    this.#typingToldMs = -Infinity;
    for (const summary of welcome.conversations) {
      const { id, read, head } = summary;
      if ((this.#told.get(id) ?? 0) > head) this.#told.delete(id); // another log, of which nothing was told
      if (this.#readIn(id) > read) this.#connection.send({ type: 'read', conversation: id, seq: this.#readIn(id) });
      this.listed(summary);
    }
  }

  /** What waited while no device of mine was there: the list shows that it came, and its author is told so. */
  listed({ id, kind, head, unread }: ConversationSummary): void {
    if (this.#owed.has(id) || (kind === 'private' && unread > 0)) this.received(id, head);
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

  #tellDelivered(conversation: ConversationId): void {
    const seq = this.#store.studio.conversations[conversation]?.cursor ?? 0;
    const known = Math.max(this.#told.get(conversation) ?? 0, this.#readIn(conversation));
    const owed = this.#owed.get(conversation) ?? 0;
    if (owed > known && seq > known && !this.#connection.send({ type: 'delivered', conversation, seq })) return;
    if (owed <= Math.max(seq, known)) this.#owed.delete(conversation);
    if (owed <= known || seq <= known) return;
    this.#told.set(conversation, seq);
    this.#toldMs.set(conversation, this.#clock.nowMs());
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
