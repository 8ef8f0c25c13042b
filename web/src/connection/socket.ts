/**
 * One lasting connection over many sockets: opens, listens for life, comes back.
 *
 * In:   an address, the WebSocket constructor, time and chance.
 * Out:  decoded frames, and the state of the connection whenever it changes.
 * Promises: at most one socket at a time; a socket that has been silent for 40 s is given up; nothing of a socket that was
 * given up is heard any more. A draining server is used until it closes, and left for the time that it named.
 */

import { decodeFrame } from '../protocol/decode';
import { SUBPROTOCOL, type ClientFrame, type ServerFrame } from '../protocol/frames';
import type { Chance, Clock } from './clock';
import { afterClose, pauseMs } from './closing';

const PING_MS = 20_000; // twice within the silence that counts as death
const DEATH_MS = 40_000; // the server's own bound (close code 4012)
const OPENING_MS = 15_000; // a handshake that takes longer is a lost packet: a new one is faster

/** `sinceMs` is when it was lost; where the server said when to come back, it is that time: until then all goes as planned. */
export type ConnectionState =
  | { readonly name: 'connecting' | 'waiting'; readonly sinceMs: number }
  | { readonly name: 'open' }
  | { readonly name: 'closed'; readonly reason: string; readonly signsIn: boolean };

export type OpenSocket = (address: string, subprotocol: string) => WebSocket;

export interface ConnectionParts {
  readonly address: string;
  readonly openSocket: OpenSocket;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly onFrame: (frame: ServerFrame) => void;
  readonly onState: (state: ConnectionState) => void;
  /** The handshake failed: the browser does not say why, so the owner may ask whether the session still stands. */
  readonly onRefused: () => void;
}

export class Connection {
  readonly #parts: ConnectionParts;
  #socket: WebSocket | null = null;
  #isOpen = false;
  #isOver = false;
  #attempts = 0;
  #lastHeardMs = 0;
  #slotMs: number | null = null;
  #awaySinceMs: number;
  #nextMs = 0;
  #toldUntilMs = 0;
  #cancelTimer: () => void = () => {};

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#awaySinceMs = parts.clock.nowMs();
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Whoever was told to wait (429, 503) does: the next attempt comes no sooner. */
  notBefore(atMs: number): void {
    const { clock } = this.#parts;
    if (this.#socket !== null || this.#isOver) return;
    this.#toldUntilMs = Math.max(this.#toldUntilMs, atMs);
    if (atMs > this.#nextMs) this.#openAt(atMs - clock.nowMs());
  }

  start(): void {
    this.#open();
  }

  /** For good, without a word: signing out, or the page goes. */
  stop(): void {
    this.#isOver = true;
    this.#giveUp(1000);
  }

  /** False where there is nobody to send to; nothing is kept here. */
  send(frame: ClientFrame): boolean {
    if (!this.#isOpen || !this.#socket) return false;
    if (this.#socket.readyState !== this.#socket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** The network is back or the page is looked at: wait no longer than told to. An open socket has to show that it lives. */
  hurry(): void {
    const { clock } = this.#parts;
    if (this.#isOpen) this.#ping();
    else if (this.#socket === null && !this.#isOver && clock.nowMs() >= this.#toldUntilMs) this.#open();
  }

  #open(): void {
    const { openSocket, address, clock } = this.#parts;
    this.#cancelTimer();
    this.#tell({ name: 'connecting', sinceMs: this.#awaySinceMs });
    const socket = openSocket(address, SUBPROTOCOL);
    this.#socket = socket;
    this.#lastHeardMs = clock.nowMs();
    let wasAccepted = false;
    socket.onopen = () => {
      wasAccepted = true;
      this.#lastHeardMs = clock.nowMs();
    };
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code }) => {
      if (!wasAccepted) this.#parts.onRefused();
      if (this.#socket === socket) this.#lost(code);
    };
    this.#cancelTimer = clock.after(OPENING_MS, () => this.#giveUpAndReturn());
  }

  #hear(data: unknown): void {
    this.#lastHeardMs = this.#parts.clock.nowMs();
    const frame = typeof data === 'string' ? decode(data) : null;
    if (!frame) return;
    if (frame.type === 'welcome') this.#welcomed();
    if (frame.type === 'drain') this.#slotMs = this.#lastHeardMs + frame.reconnect_in_ms;
    this.#parts.onFrame(frame);
  }

  #welcomed(): void {
    this.#isOpen = true;
    this.#attempts = 0;
    this.#slotMs = null;
    this.#watch();
    this.#tell({ name: 'open' });
  }

  /** Pings at its time and gives up where nothing came. Timers of sleeping pages come late: then the silence says it. */
  #watch(): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#parts.clock.after(PING_MS, () => {
      if (this.#parts.clock.nowMs() - this.#lastHeardMs >= DEATH_MS) return this.#giveUpAndReturn();
      this.#ping();
      this.#watch();
    });
  }

  #ping(): void {
    if (this.#parts.clock.nowMs() - this.#lastHeardMs >= DEATH_MS) this.#giveUpAndReturn();
    else this.send({ type: 'ping' });
  }

  #giveUpAndReturn(): void {
    this.#giveUp(4012);
    this.#lost(4012);
  }

  #giveUp(code: number): void {
    const socket = this.#socket;
    this.#cancelTimer();
    this.#socket = null;
    this.#isOpen = false;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  #lost(code: number): void {
    const { clock, chance } = this.#parts;
    this.#cancelTimer();
    const nowMs = clock.nowMs();
    if (this.#isOpen) this.#awaySinceMs = Math.max(nowMs, this.#slotMs ?? 0);
    this.#socket = null;
    this.#isOpen = false;
    const next = afterClose(code);
    if (!next.comesBack) {
      this.#isOver = true;
      return this.#tell({ name: 'closed', reason: next.reason, signsIn: next.signsIn });
    }
    const untilSlotMs = (this.#slotMs ?? 0) - nowMs;
    const wait = Math.max(next.leastPauseMs, untilSlotMs > 0 ? untilSlotMs : pauseMs(this.#attempts, chance));
    this.#toldUntilMs = this.#slotMs ?? 0;
    this.#slotMs = null;
    this.#attempts += 1;
    this.#tell({ name: 'waiting', sinceMs: this.#awaySinceMs });
    this.#openAt(wait);
  }

  #openAt(waitMs: number): void {
    const { clock } = this.#parts;
    this.#cancelTimer();
    this.#nextMs = clock.nowMs() + waitMs;
    this.#cancelTimer = clock.after(waitMs, () => this.#open());
  }

  #tell(state: ConnectionState): void {
    this.#parts.onState(state);
  }
}

/** A frame that cannot be read is a fault of the server; the next one may be sound, and holes are repaired from the log. */
function decode(text: string): ServerFrame | null {
  try {
    return decodeFrame(text);
  } catch (error) {
    console.warn('A frame from the studio could not be read:', error);
    return null;
  }
}
