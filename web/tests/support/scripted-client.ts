/**
 * A client against a scripted other end. Importing it sets the scene anew before each test; the names are bound to what
 * belongs to the test that runs.
 */

import { beforeEach } from 'vitest';
import { Http } from '../../src/api/http';
import { StudioApi } from '../../src/api/studio-api';
import { StudioClient } from '../../src/connection/client';
import type { ConnectionState } from '../../src/connection/socket';
import { Kept } from '../../src/state/kept';
import { FakeClock, FakeNetwork } from './fakes';
import { ModelServer, me } from './model-server';
import { ROOM, summary } from './studios';

export let clock: FakeClock;
export let network: FakeNetwork;
export let server: ModelServer;
export let asked: string[];
export let answers: Record<string, (request: string) => [number, object]>;
export let stored: Map<string, string>;
export let signedOut: number;
export let connections: ConnectionState[];

beforeEach(() => {
  clock = new FakeClock();
  network = new FakeNetwork();
  server = new ModelServer([1, 1].map((who) => ({ do: 'send', who, text: 'x' }) as const));
  asked = [];
  answers = {};
  stored = new Map();
  signedOut = 0;
  connections = [];
});

export function newClient(): StudioClient {
  let count = 0;
  const client = new StudioClient({
    me,
    api: new StudioApi(new Http(async (address, { method }) => answer(`${method} ${address}`))),
    socketAddress: 'ws://studio/ws',
    openSocket: network.open,
    clock,
    chance: () => 0.5,
    newId: () => `id-${(count += 1)}`,
    kept: new Kept({
      get length() {
        return stored.size;
      },
      key: (index) => [...stored.keys()][index] ?? null,
      getItem: (key) => stored.get(key) ?? null,
      setItem: (key, value) => void stored.set(key, value),
      removeItem: (key) => void stored.delete(key),
    }),
    onConnection: (state) => connections.push(state),
    onSignedOut: () => (signedOut += 1),
  });
  client.start();
  return client;
}

async function answer(request: string): Promise<Response> {
  asked.push(request);
  const scripted = Object.entries(answers).find(([start]) => request.startsWith(start));
  if (!scripted) throw new TypeError('no network');
  const [status, body] = scripted[1](request);
  return new Response(JSON.stringify(body), { status });
}

export const rawPage = () => ({ ...server.page(), has_more: false });
export const rawEvent = (index: number) => ({ type: 'event', conversation: ROOM, ...server.log[index] });

export function welcome(head = server.head) {
  network.last
    .accept()
    .say({ type: 'welcome', user: me, connection: 'k', heartbeat_s: 25, conversations: [summary({ head })] });
  return network.last;
}

export async function opened(): Promise<StudioClient> {
  const client = newClient();
  welcome();
  answers[`GET /api/conversations/${ROOM}/messages`] = () => [200, rawPage()];
  await client.open(ROOM);
  return client;
}

export async function reconnect() {
  network.last.end(1006);
  await clock.pass(1_000);
  return network.last;
}

/** From now on nothing else is answered over HTTP. */
export function answerOnly(scripted: typeof answers): void {
  answers = scripted;
}
