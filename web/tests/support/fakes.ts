/** Time that moves when told to, and sockets whose other end is the test. */

import type { Clock } from '../../src/connection/clock';
import type { OpenSocket } from '../../src/connection/socket';

export class FakeClock implements Clock {
  #nowMs = 1_000_000;
  #timers: { atMs: number; callback: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + ms, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Moves on; promises that the timers settle get their turn. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const next = this.#timers.filter(({ atMs }) => atMs <= untilMs).sort((one, other) => one.atMs - other.atMs)[0];
      if (!next) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.#timers = this.#timers.filter((timer) => timer !== next);
      next.callback();
      await settled();
    }
    this.#nowMs = untilMs;
    await settled();
  }
}

/** Bodies of answers are read in turns of the real event loop. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setTimeout(resolve, 0));
}

export class FakeSocket {
  readonly OPEN = 1;
  readyState = 0;
  readonly sent: { type: string; [field: string]: unknown }[] = [];
  closedWith: number | undefined;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code?: number): void {
    this.closedWith = code;
    this.readyState = 3;
  }

  // The other end:

  accept(): this {
    this.readyState = this.OPEN;
    this.onopen?.();
    return this;
  }

  say(frame: object): this {
    this.onmessage?.({ data: JSON.stringify(frame) });
    return this;
  }

  end(code: number): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }

  of(type: string) {
    return this.sent.filter((frame) => frame.type === type);
  }
}

export class FakeNetwork {
  readonly sockets: FakeSocket[] = [];

  readonly open: OpenSocket = () => {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket as unknown as WebSocket;
  };

  get last(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error('no socket was opened');
    return socket;
  }
}
