/**
 * The studio as the views see it: the store's value once per frame, the place where one is, and small notices.
 *
 * Frames may come a thousand a second; the page is drawn again at most once per animation frame.
 */

import { createContext } from 'svelte';
import type { StudioClient } from '../connection/client';
import type { ConnectionState } from '../connection/socket';
import { Problem, explainError } from '../protocol/problems';
import type { Account, ConversationId, MessageId, Seq } from '../protocol/words';
import type { Kept } from '../state/kept';
import { WELCOME_ROOM, landing } from '../state/select';
import type { ConversationState, Studio } from '../state/studio';
import { placeFragment, readPlace } from './links';

const HIDDEN_FRAME_MS = 200; // hidden pages get no animation frames; the title still counts what is unread
const PATIENCE_MS = 3_000; // of an outage that nobody has to know about: a restart takes less
const NOTICE_MS = 6_000;
const ANNOUNCED_MS = 2_000; // screen readers take over what comes at once

export interface Notice {
  readonly id: number;
  readonly text: string;
}

export interface Target {
  readonly conversation: ConversationId;
  readonly message: MessageId;
  readonly seq: Seq;
}

export interface Question {
  readonly title: string;
  readonly text: string;
  readonly action: string;
  readonly answer: (yes: boolean) => void;
}

export class StudioView {
  readonly client: StudioClient;
  readonly kept: Kept;
  readonly me: Account;
  studio = $state.raw() as Studio;
  connection = $state.raw<ConnectionState>({ name: 'connecting', sinceMs: 0 });
  /** Away for longer than can be passed over in silence. */
  isAway = $state(false);
  place = $state.raw<ConversationId | null>(null);
  /** What had been read on coming to the open conversation: the line "New" stands after it. */
  newAfter = $state.raw<Seq | null>(null);
  /** A message to be shown as soon as the window holds it. */
  target = $state.raw<Target | null>(null);
  notices = $state.raw<readonly Notice[]>([]);
  question = $state.raw<Question | null>(null);
  announcement = $state('');
  /** The open conversation is scrolled to its end. */
  isFollowing = false;
  isLoaded = $state(false);
  #isEntered = false;
  #isDrawing = false;
  #noticeCount = 0;
  #awayTimer: ReturnType<typeof setTimeout> | undefined;
  #stopListening: () => void = () => {};

  constructor(client: StudioClient, kept: Kept, me: Account) {
    this.client = client;
    this.kept = kept;
    this.me = me;
    this.studio = client.store.studio;
  }

  get open(): ConversationState | null {
    return this.place === null ? null : (this.studio.conversations[this.place] ?? null);
  }

  start(isNewcomer: boolean): void {
    this.#stopListening = this.client.store.listen(() => this.#draw());
    window.addEventListener('hashchange', this.#followAddress);
    document.addEventListener('visibilitychange', this.#show);
    this.client.start();
    void this.#land(isNewcomer);
  }

  stop(): void {
    this.#stopListening();
    clearTimeout(this.#awayTimer);
    window.removeEventListener('hashchange', this.#followAddress);
    document.removeEventListener('visibilitychange', this.#show);
    this.client.stop();
  }

  connectionChanged(state: ConnectionState): void {
    this.connection = state;
    this.#lookAway(state);
    if (state.name === 'open' && this.#isEntered && this.open?.timeline === null) void this.#open(this.open.id);
  }

  #lookAway(state: ConnectionState): void {
    clearTimeout(this.#awayTimer);
    if (state.name === 'open' || state.name === 'closed') this.isAway = false;
    else if (!this.isAway)
      this.#awayTimer = setTimeout(() => (this.isAway = true), state.sinceMs + PATIENCE_MS - Date.now());
  }

  go(conversation: ConversationId | null): void {
    const fragment = placeFragment(conversation);
    if (location.hash === fragment) this.#followAddress();
    else location.hash = fragment;
  }

  /** To one message, wherever it stands. */
  show(target: Target): void {
    this.target = target;
    if (this.place === target.conversation) void this.#open(target.conversation);
    else this.go(target.conversation);
  }

  /** Runs a verb; what goes wrong is told to the person, by its code. */
  async attempt(verb: () => Promise<unknown>): Promise<boolean> {
    try {
      await verb();
      return true;
    } catch (error) {
      this.notify(explainError(error));
      return false;
    }
  }

  /** Read out, and gone: what stands here may be deleted from the log in the next moment. */
  announce(text: string): void {
    this.announcement = text;
    setTimeout(() => this.announcement === text && (this.announcement = ''), ANNOUNCED_MS);
  }

  notify(text: string): void {
    const notice = { id: (this.#noticeCount += 1), text };
    this.notices = [...this.notices.filter((other) => other.text !== text).slice(-2), notice];
    setTimeout(() => this.dismiss(notice.id), NOTICE_MS);
  }

  dismiss(id: number): void {
    this.notices = this.notices.filter((notice) => notice.id !== id);
  }

  confirm(question: Omit<Question, 'answer'>): Promise<boolean> {
    return new Promise((resolve) => {
      this.question = {
        ...question,
        answer: (yes) => {
          this.question = null;
          resolve(yes);
        },
      };
    });
  }

  /** Everything new below this line, as of now. */
  markNew(): void {
    const open = this.client.store.studio.conversations[this.place ?? ''];
    this.newAfter = open && open.unread > 0 ? open.read : null;
  }

  /** Before it is drawn, so that no count flashes up beside what is in front of the reader's eyes. */
  readFollowed(): boolean {
    const timeline = this.client.store.studio.conversations[this.place ?? '']?.timeline;
    if (!this.isFollowing || !timeline || timeline.hasNewer || document.hidden || !document.hasFocus()) return false;
    const { id, cursor } = this.client.store.studio.conversations[this.place ?? ''] ?? {};
    if (id !== undefined && cursor !== undefined) this.client.read(id, cursor);
    return true;
  }

  /** The conversation is gone, or I am no longer in it: to the next best place, on a phone to the list. */
  leavePlace(): void {
    const isNarrow = window.matchMedia('(max-width: 720px)').matches;
    history.replaceState(null, '', placeFragment(isNarrow ? null : landing(this.client.store.studio)));
    this.#followAddress();
  }

  async #land(isNewcomer: boolean): Promise<void> {
    await this.attempt(() => this.client.loadConversations());
    if (isNewcomer) await this.#joinWelcome().catch(() => undefined); // a kindness: the list of rooms is there without it
    this.isLoaded = true;
    this.#show();
    const wanted = readPlace(location.hash) ?? this.kept.place(this.me.id);
    const { studio } = this.client.store;
    const place = wanted !== null && studio.conversations[wanted] ? wanted : landing(studio);
    if (place !== null) history.replaceState(null, '', placeFragment(place));
    this.#followAddress();
  }

  async #joinWelcome(): Promise<void> {
    if (landing(this.client.store.studio) !== null) return;
    const room = (await this.client.api.publicRooms('')).find(({ title }) => title === WELCOME_ROOM);
    if (room) this.client.learn(await this.client.api.join(room.id));
  }

  readonly #followAddress = (): void => {
    const place = readPlace(location.hash);
    if (place === this.place) return;
    if (this.place !== null) this.client.close(this.place);
    this.place = place;
    this.isFollowing = false;
    this.#isEntered = false;
    this.newAfter = null;
    this.#enter();
  };

  /** As soon as the conversation is known: its address may be there before the list is, or before somebody invites me. */
  #enter(): void {
    const { place } = this;
    if (this.#isEntered || place === null || !this.client.store.studio.conversations[place]) return;
    this.#isEntered = true;
    this.markNew();
    this.kept.keepPlace(this.me.id, place);
    void this.#open(place);
    void this.client.loadMembers(place).catch(() => undefined); // the names can wait until somebody asks for them
  }

  #open(place: ConversationId): Promise<boolean> {
    const { target } = this;
    const isJump = target?.conversation === place;
    return this.attempt(async () => {
      try {
        await (isJump ? this.client.loadAround(place, target.seq) : this.client.open(place));
      } catch (error) {
        const isShort = this.connection.name !== 'open' && !isJump; // the next connection loads it
        if (!(isShort && error instanceof Problem && error.retryable)) throw error;
      }
    });
  }

  #draw(): void {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    if (document.hidden) setTimeout(this.#show, HIDDEN_FRAME_MS);
    else requestAnimationFrame(this.#show);
  }

  readonly #show = (): void => {
    this.#enter();
    this.readFollowed();
    this.#isDrawing = false;
    this.studio = this.client.store.studio;
  };
}

export const [studioView, setStudioView] = createContext<StudioView>();
