/**
 * The studio of one signed-in person: the store, the connection, and the verbs that the views call.
 *
 * In:   the REST interface, a socket opener, time, chance and ids; the person.
 * Out:  `store`, changed by frames and verbs; connection states through `onConnection`.
 * Promises: verbs that end in the log reject with a `Problem`; a sent message is never lost on the way (see `Courier`).
 */

import type { StudioApi } from '../api/studio-api';
import type { Ack, ServerFrame } from '../protocol/frames';
import { Problem } from '../protocol/problems';
import type {
  Conversation,
  ConversationId,
  LogEvent,
  Message,
  MessageId,
  RunId,
  Seq,
  User,
  UserId,
} from '../protocol/words';
import type { Kept } from '../state/kept';
import { Store } from '../state/store';
import type { Chance, Clock } from './clock';
import { Courier } from './courier';
import type { IdMaker } from './ids';
import { PAGE_SIZE, Repair } from './repair';
import { Reporter } from './reporter';
import { Connection, type ConnectionState, type OpenSocket } from './socket';
import { Subscriptions } from './subscriptions';

const NEIGHBOUR_PAGE_SIZE = 100;
const ASK_PAUSE_MS = 10_000; // a studio that lets nobody in has no time for questions
const TICK_MS = 1_000; // how soon a typing notice that was not renewed fades

export interface ClientParts {
  readonly me: User;
  readonly api: StudioApi;
  readonly socketAddress: string;
  readonly openSocket: OpenSocket;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly newId: IdMaker;
  readonly kept: Kept;
  readonly onConnection: (state: ConnectionState) => void;
  readonly onSignedOut: () => void;
}

export class StudioClient {
  readonly store: Store;
  readonly api: StudioApi;
  readonly reporter: Reporter;
  readonly #parts: ClientParts;
  readonly #connection: Connection;
  readonly #courier: Courier;
  readonly #subscriptions: Subscriptions;
  readonly #repair: Repair;
  readonly #loading = new Set<string>();
  readonly #missing = new Set<MessageId>();
  #cancelTick: () => void = () => {};
  #askedMs = -Infinity;

  constructor(parts: ClientParts) {
    const { api, clock, chance, newId } = parts;
    this.#parts = parts;
    this.api = api;
    this.store = new Store(clock);
    this.#connection = new Connection({
      address: parts.socketAddress,
      openSocket: parts.openSocket,
      clock,
      chance,
      onFrame: (frame) => this.#receive(frame),
      onState: (state) => this.#connectionChanged(state),
      onRefused: () => void this.#askWhoIAm(),
    });
    this.#courier = new Courier(this.store, clock, this.#connection);
    this.#subscriptions = new Subscriptions(this.store, this.#connection, newId, clock, chance);
    this.#repair = new Repair(this.store, api, clock, chance, (conversation, seq) => this.reporter.received(conversation, seq));
    this.reporter = new Reporter(this.store, this.#connection, clock);
  }

  start(): void {
    const { me, kept } = this.#parts;
    this.store.dispatch({ type: 'local.signed_in', user: me });
    let keptOutbox = this.store.studio.outbox;
    this.store.listen(({ outbox }) => {
      if (outbox !== keptOutbox) kept.keepOutbox(me.id, outbox);
      keptOutbox = outbox;
    });
    this.store.dispatch({ type: 'local.outbox_restored', entries: kept.outbox(me.id) });
    this.#connection.start();
    this.#tick();
  }

  stop(): void {
    this.#connection.stop();
    this.#subscriptions.lost();
    this.#repair.stop();
    this.#cancelTick();
  }

  /** The network is back, or the page is looked at again. */
  hurry(): void {
    this.#connection.hurry();
  }

  /** Everything that `welcome` leaves out: when each was used, how many members it has. */
  async loadConversations(): Promise<void> {
    for (let page = 1, pages = 1; page <= pages; page += 1) {
      const list = await this.api.conversations(page);
      pages = list.pages;
      this.store.dispatch({ type: 'local.conversations', conversations: list.conversations });
    }
  }

  /** A conversation that was just made, joined or changed over REST. */
  learn(conversation: Conversation): void {
    this.#dispatch({ type: 'local.conversations', conversations: [conversation] });
    this.#subscriptions.ensure(conversation.id);
  }

  /** Shows a conversation: its newest page, unless a window of it is still here. */
  async open(conversation: ConversationId): Promise<void> {
    this.#subscriptions.ensure(conversation);
    if (!this.store.studio.conversations[conversation]?.timeline) await this.loadNewest(conversation);
  }

  async leave(conversation: ConversationId): Promise<void> {
    await this.api.leave(conversation);
    this.#forget(conversation, 'left');
  }

  async remove(conversation: ConversationId): Promise<void> {
    await this.api.remove(conversation);
    this.#forget(conversation, 'deleted');
  }

  close(conversation: ConversationId): void {
    this.reporter.stoppedTyping();
    this.store.dispatch({ type: 'local.closed', conversation });
  }

  loadNewest(conversation: ConversationId): Promise<void> {
    return this.#once(`newest ${conversation}`, async () => {
      const page = await this.api.messages(conversation, { limit: PAGE_SIZE });
      this.#dispatch({ type: 'local.page', conversation, place: 'newest', page });
    });
  }

  /** The messages around one of long ago. */
  loadAround(conversation: ConversationId, seq: Seq): Promise<void> {
    this.#subscriptions.ensure(conversation);
    return this.#once(`around ${conversation} ${seq}`, async () => {
      const page = await this.api.messages(conversation, { before: seq + PAGE_SIZE / 2, limit: PAGE_SIZE });
      this.#dispatch({ type: 'local.page', conversation, place: 'around', page });
    });
  }

  loadOlder(conversation: ConversationId): Promise<void> {
    const first = this.store.studio.conversations[conversation]?.timeline?.messages[0];
    return this.#neighbours(conversation, 'older', first && { before: first.seq });
  }

  loadNewer(conversation: ConversationId): Promise<void> {
    const last = this.store.studio.conversations[conversation]?.timeline?.messages.at(-1);
    return this.#neighbours(conversation, 'newer', last && { after: last.seq });
  }

  /** A message that is answered in the window and stands outside of it. One that is gone is asked for once. */
  loadQuoted(conversation: ConversationId, id: MessageId): Promise<void> {
    if (this.#missing.has(id)) return Promise.resolve();
    return this.#once(`message ${id}`, async () => {
      try {
        const message = await this.api.message(conversation, id);
        this.#dispatch({ type: 'local.quoted', conversation, message });
      } catch (error) {
        if (!(error instanceof Problem) || !error.retryable) this.#missing.add(id);
      }
    });
  }

  async loadMembers(conversation: ConversationId): Promise<void> {
    this.#dispatch({ type: 'local.members', conversation, members: await this.api.members(conversation) });
  }

  send(conversation: ConversationId, text: string, more: { replyTo?: MessageId; peopleOnly?: boolean } = {}): void {
    const { clock, newId } = this.#parts;
    this.reporter.stoppedTyping();
    this.store.dispatch({
      type: 'local.send',
      at: new Date(clock.nowMs()).toISOString(),
      frame: {
        type: 'send',
        id: newId(),
        conversation,
        text: clean(text),
        ...(more.replyTo && { reply_to: more.replyTo }),
        ...(more.peopleOnly && { people_only: true as const }),
      },
    });
    this.#courier.deliver();
  }

  retry(id: string): void {
    this.store.dispatch({ type: 'local.retry', id });
    this.#courier.deliver();
  }

  discard(id: string): void {
    this.store.dispatch({ type: 'local.discard', id });
  }

  edit(conversation: ConversationId, message: MessageId, text: string): Promise<Ack> {
    return this.#courier.request({ type: 'edit', id: this.#parts.newId(), conversation, message, text: clean(text) });
  }

  delete(conversation: ConversationId, message: MessageId): Promise<Ack> {
    return this.#courier.request({ type: 'delete', id: this.#parts.newId(), conversation, message });
  }

  /** Adds the reaction, or takes it back where it is already mine. */
  react(conversation: ConversationId, message: Message, emoji: string): Promise<Ack> {
    const me = this.#parts.me.id;
    const on = !message.reactions.some((reaction) => reaction.emoji === emoji && reaction.users.includes(me));
    return this.#courier.request({
      type: 'react',
      id: this.#parts.newId(),
      conversation,
      message: message.id,
      emoji,
      on,
    });
  }

  pin(conversation: ConversationId, message: MessageId, on: boolean): Promise<Ack> {
    return this.#courier.request({ type: 'pin', id: this.#parts.newId(), conversation, message, on });
  }

  /** Asks the model for an answer to that message. */
  run(conversation: ConversationId, message: MessageId): Promise<Ack> {
    return this.#courier.request({ type: 'run', id: this.#parts.newId(), conversation, message });
  }

  stopRun(run: RunId): Promise<Ack> {
    return this.#courier.request({ type: 'stop', id: this.#parts.newId(), run });
  }

  /** Gives a running answer another direction: what was said so far stays, and the answer goes on from there. */
  steer(run: RunId, text: string): Promise<Ack> {
    return this.#courier.request({ type: 'steer', id: this.#parts.newId(), run, text: clean(text) });
  }

  /** Whether I take private messages from that person. */
  async setBlocked(user: UserId, on: boolean): Promise<void> {
    await (on ? this.api.block(user) : this.api.unblock(user));
    this.store.dispatch({ type: 'local.blocked', user, on });
  }

  read(conversation: ConversationId, seq: Seq): void {
    this.reporter.read(conversation, seq);
  }

  #receive(frame: ServerFrame): void {
    this.#dispatch(frame);
    switch (frame.type) {
      case 'event':
        if (isNews(frame.event, this.#parts.me.id)) this.reporter.received(frame.conversation, frame.event.seq);
        break;
      case 'subscribed':
        this.#subscriptions.answered(frame);
        break;
      case 'welcome':
        this.#subscriptions.restart();
        this.reporter.resume(frame);
        this.#courier.resume();
        break;
      case 'conversation.added':
        this.reporter.listed(frame.conversation);
        this.#subscriptions.ensure(frame.conversation.id);
        break;
      case 'conversation.removed':
        this.#subscriptions.forget(frame.conversation);
        break;
      case 'delta':
        this.#subscriptions.mend(frame.conversation);
        break;
      case 'ack':
        this.#courier.answered(frame);
        break;
      case 'error':
        this.#subscriptions.refused(frame);
        this.#courier.answered(frame);
        this.#courier.deliver();
        break;
    }
  }

  #forget(conversation: ConversationId, code: string): void {
    this.#subscriptions.forget(conversation);
    this.#dispatch({ type: 'conversation.removed', conversation, code });
  }

  #connectionChanged(state: ConnectionState): void {
    if (state.name === 'waiting' || state.name === 'closed') {
      this.#subscriptions.lost();
      this.store.dispatch({ type: 'local.disconnected' });
    }
    this.#parts.onConnection(state);
    if (state.name === 'closed' && state.signsIn) this.#parts.onSignedOut();
  }

  #dispatch(input: Parameters<Store['dispatch']>[0]): void {
    this.store.dispatch(input);
    this.#repair.look();
  }

  /** A refused handshake has no reason that a page may read; the session may be over, or the studio too busy. */
  async #askWhoIAm(): Promise<void> {
    const nowMs = this.#parts.clock.nowMs();
    if (nowMs - this.#askedMs < ASK_PAUSE_MS) return;
    this.#askedMs = nowMs;
    try {
      await this.api.me();
    } catch (error) {
      if (!(error instanceof Problem)) return;
      if (error.code === 'unauthenticated') {
        this.stop();
        this.#parts.onSignedOut();
      } else if (error.retryAfterS !== null) {
        this.#connection.notBefore(this.#parts.clock.nowMs() + error.retryAfterS * 1_000);
      }
    }
  }

  #neighbours(
    id: ConversationId,
    place: 'older' | 'newer',
    where: { before: Seq } | { after: Seq } | undefined,
  ): Promise<void> {
    if (!where) return Promise.resolve();
    return this.#once(`${place} ${id}`, async () => {
      const page = await this.api.messages(id, { ...where, limit: NEIGHBOUR_PAGE_SIZE });
      this.#dispatch({ type: 'local.page', conversation: id, place, page });
    });
  }

  /** The same thing is loaded once at a time, however often the scrolling asks. */
  async #once(name: string, load: () => Promise<void>): Promise<void> {
    if (this.#loading.has(name)) return;
    this.#loading.add(name);
    try {
      await load();
    } finally {
      this.#loading.delete(name);
    }
  }

  #tick(): void {
    this.#cancelTick = this.#parts.clock.after(TICK_MS, () => {
      this.store.dispatch({ type: 'local.tick' });
      this.#tick();
    });
  }
}

/** A message of somebody else, which the author may want to know as delivered. */
function isNews(event: LogEvent, me: UserId): boolean {
  return event.kind === 'message.created' && event.actor.id !== me;
}

/** What the server's strict reading refuses and no keyboard means: NUL and half surrogate pairs. */
function clean(text: string): string {
  return text.replaceAll('\0', '').toWellFormed();
}
