/**
 * Brings what the person did to the server: messages from the outbox, and commands whose answer somebody awaits.
 *
 * Promises: what was not answered before the connection was lost goes out again after it, under the same id. Messages wait
 * as long as it takes; a command gives up after 20 s, because nobody watches a button longer. Who is told to come again
 * does so at the time that was said.
 */

import { MAX_FRAME_BYTES, type Ack, type CommandFrame, type ErrorFrame } from '../protocol/frames';
import { Problem } from '../protocol/problems';
import type { ClientId } from '../protocol/words';
import { due, nextDueMs } from '../state/outbox';
import type { Store } from '../state/store';
import type { Clock } from './clock';
import type { Connection } from './socket';

const COMMAND_MS = 20_000;

interface Pending {
  readonly frame: CommandFrame;
  readonly resolve: (ack: Ack) => void;
  readonly reject: (problem: Problem) => void;
  readonly deadlineMs: number;
  readonly cancelDeadline: () => void;
}

export class Courier {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #connection: Pick<Connection, 'send' | 'isOpen'>;
  readonly #pending = new Map<ClientId, Pending>();
  #cancelTimer: () => void = () => {};

  constructor(store: Store, clock: Clock, connection: Pick<Connection, 'send' | 'isOpen'>) {
    this.#store = store;
    this.#clock = clock;
    this.#connection = connection;
  }

  /** Resolves with the acknowledgement, rejects with a `Problem`. */
  request(frame: CommandFrame): Promise<Ack> {
    return new Promise((resolve, reject) => {
      const cancelDeadline = this.#clock.after(COMMAND_MS, () => {
        this.#pending.delete(frame.id);
        reject(new Problem(this.#connection.isOpen ? 'timed_out' : 'offline', ''));
      });
      const deadlineMs = this.#clock.nowMs() + COMMAND_MS;
      this.#pending.set(frame.id, { frame, resolve, reject, deadlineMs, cancelDeadline });
      this.#connection.send(frame);
    });
  }

  /** After `welcome`: everything unanswered once more. */
  resume(): void {
    for (const { frame } of this.#pending.values()) this.#connection.send(frame);
    this.deliver();
  }

  /** Sends what is due and sets the clock for what is not. */
  deliver(): void {
    this.#cancelTimer();
    if (!this.#connection.isOpen) return;
    for (const { frame } of due(this.#store.studio, this.#clock.nowMs())) {
      if (new TextEncoder().encode(JSON.stringify(frame)).length > MAX_FRAME_BYTES) this.#refuse(frame.id);
      else if (this.#connection.send(frame)) this.#store.dispatch({ type: 'local.sent', id: frame.id });
    }
    const nextMs = nextDueMs(this.#store.studio);
    if (nextMs === null) return;
    this.#cancelTimer = this.#clock.after(Math.max(0, nextMs - this.#clock.nowMs()), () => this.deliver());
  }

  answered(answer: Ack | ErrorFrame): void {
    const pending = answer.id === null ? undefined : this.#pending.get(answer.id);
    if (!pending || answer.id === null) return;
    if (answer.type === 'error' && this.#triesAgain(pending, answer)) return;
    this.#pending.delete(answer.id);
    pending.cancelDeadline();
    if (answer.type === 'ack') pending.resolve(answer);
    else
      pending.reject(
        new Problem(answer.code, answer.message, { retryable: answer.retryable, retryAfterS: answer.retry_after_s }),
      );
  }

  /** A short wait that the server asked for is no failure; a draining one is gone soon, and the next one is asked. */
  #triesAgain({ frame, deadlineMs }: Pending, { code, retryable, retry_after_s }: ErrorFrame): boolean {
    if (!retryable) return false;
    if (code === 'draining') return true;
    const waitMs = retry_after_s === null ? Infinity : retry_after_s * 1_000;
    if (this.#clock.nowMs() + waitMs >= deadlineMs) return false;
    this.#clock.after(waitMs, () => {
      if (this.#pending.has(frame.id)) this.#connection.send(frame);
    });
    return true;
  }

  #refuse(id: ClientId): void {
    this.#store.dispatch({ type: 'error', id, code: 'too_large', message: '', retryable: false, retry_after_s: null });
  }
}
