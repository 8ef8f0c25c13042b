/** The client against a scripted other end: what it subscribes to, sends again, repairs and reports. */

import { beforeEach, describe, expect, test } from 'vitest';
import { Http } from '../../src/api/http';
import { StudioApi } from '../../src/api/studio-api';
import { StudioClient } from '../../src/connection/client';
import type { ConnectionState } from '../../src/connection/socket';
import { Kept } from '../../src/state/kept';
import { FakeClock, FakeNetwork, settled } from '../support/fakes';
import { EPOCH, ModelServer, me } from '../support/model-server';
import { ROOM, room, summary } from '../support/studios';

let clock: FakeClock;
let network: FakeNetwork;
let server: ModelServer;
let asked: string[];
let answers: Record<string, (request: string) => [number, object]>;
let stored: Map<string, string>;
let signedOut: number;
let connections: ConnectionState[];

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

function newClient(): StudioClient {
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

const rawPage = () => ({ ...server.page(), has_more: false });
const rawEvent = (index: number) => ({ type: 'event', conversation: ROOM, ...server.log[index] });

function welcome(head = server.head) {
  network.last
    .accept()
    .say({ type: 'welcome', user: me, connection: 'k', heartbeat_s: 25, conversations: [summary({ head })] });
  return network.last;
}

async function opened(): Promise<StudioClient> {
  const client = newClient();
  welcome();
  answers[`GET /api/conversations/${ROOM}/messages`] = () => [200, rawPage()];
  await client.open(ROOM);
  return client;
}

async function reconnect() {
  network.last.end(1006);
  await clock.pass(1_000);
  return network.last;
}

describe('resuming', () => {
  test('subscribes to everything from the heads it was welcomed with', () => {
    newClient();
    expect(welcome(2).of('subscribe')).toMatchObject([{ conversations: { [ROOM]: { seq: 2, epoch: EPOCH } } }]);
  });

  test('after a break subscribes from its own cursor, so that nothing in between is lost', async () => {
    const client = await opened();
    server.do({ do: 'send', who: 1, text: 'missed' });
    await reconnect();
    expect(welcome(3).of('subscribe')).toMatchObject([{ conversations: { [ROOM]: { seq: 2, epoch: EPOCH } } }]);
    network.last.say(rawEvent(2));
    expect(room(client.store.studio).timeline?.messages.map(({ text }) => text)).toEqual(['x', 'x', 'missed']);
  });

  test('loads a fresh page where the server cannot bridge the gap', async () => {
    const client = await opened();
    server.do({ do: 'send', who: 1, text: 'far away' });
    network.last.say({
      type: 'subscribed',
      id: 'id-1',
      conversations: { [ROOM]: { head: 3, epoch: EPOCH, first: 1, reset: true, read: 0 } },
    });
    client.loadMembers(ROOM).catch(() => undefined); // any next step looks around
    await clock.pass(1_000);
    expect(room(client.store.studio).timeline?.messages.at(-1)?.text).toBe('far away');
    expect(room(client.store.studio)).toMatchObject({ cursor: 3, isStale: false });
  });

  test('listens to a conversation as soon as it is added', () => {
    newClient();
    const socket = welcome();
    socket.say({ type: 'conversation.added', conversation: summary({ id: 'c-new', head: 7 }) });
    expect(socket.of('subscribe').at(-1)).toMatchObject({ conversations: { 'c-new': { seq: 7 } } });
  });

  test('takes up five hundred conversations in one frame', async () => {
    newClient();
    const many = Array.from({ length: 500 }, (_, n) =>
      summary({ id: `0190a5c2-7b1e-7cc0-8000-${String(n).padStart(12, '0')}`, head: 1_000_000 + n, epoch: 'abcdef012345' }),
    );
    network.last.accept().say({ type: 'welcome', user: me, connection: 'k', heartbeat_s: 25, conversations: many });
    const [frame, ...more] = network.last.of('subscribe');
    expect([Object.keys(frame?.conversations ?? {}).length, more]).toEqual([500, []]);
    expect(JSON.stringify(frame).length).toBeLessThan(65_536);
  });

  test('asks again, no sooner than it was told, for what the server is too busy to give', async () => {
    const client = await opened();
    const [first] = network.last.of('subscribe');
    const busy = { type: 'error', code: 'overloaded', message: 'busy', retryable: true, retry_after_s: 3 };
    network.last.say({ ...busy, id: first?.id });
    await clock.pass(2_999);
    expect(network.last.of('subscribe')).toHaveLength(1);
    await clock.pass(1);
    const [, second] = network.last.of('subscribe');
    expect(second).toMatchObject({ conversations: { [ROOM]: { seq: 2, epoch: EPOCH } } });
    network.last.say({ type: 'subscribed', id: second?.id, conversations: { [ROOM]: { error: 'unavailable' } } });
    await clock.pass(5_000);
    expect(network.last.of('subscribe')).toHaveLength(3);
    network.last.say({ type: 'subscribed', id: network.last.of('subscribe')[2]?.id, conversations: { [ROOM]: { head: 2, epoch: EPOCH, reset: false, read: 0 } } });
    await clock.pass(15_000);
    expect(network.last.of('subscribe')).toHaveLength(3);
    expect(room(client.store.studio).cursor).toBe(2);
  });

  test('a window that is read anew still holds what the reader looks at', async () => {
    for (let n = 0; n < 300; n += 1) server.do({ do: 'send', who: 1, text: String(n) });
    const client = newClient();
    welcome();
    answers[`GET /api/conversations/${ROOM}/messages`] = (request) => {
      const asked = new URL(request.slice(4), 'http://studio').searchParams;
      const before = asked.get('before');
      return [200, server.page(server.head, { limit: Number(asked.get('limit')), ...(before && { before: Number(before) }) })];
    };
    await client.open(ROOM);
    for (let page = 0; page < 3; page += 1) await client.loadOlder(ROOM);
    client.store.dispatch({ type: 'local.follows', conversation: ROOM, follows: false });
    const seqs = () => room(client.store.studio).timeline?.messages.map(({ seq }) => seq) ?? [];
    const before = seqs();
    expect(before.length).toBeGreaterThan(200);
    network.last.say({ type: 'reset', conversation: ROOM, head: server.head, epoch: EPOCH });
    await clock.pass(100);
    expect(room(client.store.studio).isStale).toBe(false);
    expect(seqs().filter((seq) => before.includes(seq))).toEqual(before);
  });

  test('waits as long as the studio says when it lets nobody in', async () => {
    newClient();
    answers['GET /api/auth/me'] = () => [503, { code: 'overloaded', detail: '', retryable: true, retry_after_s: 7 }];
    network.last.end(1006);
    await settled();
    await clock.pass(6_999);
    expect(network.sockets).toHaveLength(1);
    await clock.pass(1);
    expect(network.sockets).toHaveLength(2);
  });

  test('asks again where a running answer lost a piece, but not with every delta', async () => {
    await opened();
    const delta = {
      type: 'delta',
      conversation: ROOM,
      run: 'r',
      message: 'm',
      part: 0,
      kind: 'text',
      from: 9,
      text: 'late',
    };
    network.last.say(delta).say({ ...delta, from: 13 });
    expect(network.last.of('subscribe')).toHaveLength(2);
  });
});

describe('what is answered outside the window', () => {
  const address = `GET /api/conversations/${ROOM}/messages/m-9`;
  const quoted = (client: StudioClient) => room(client.store.studio).quoted['m-9'];
  const said = { id: 'm-9', seq: 1, at: '', actor: { kind: 'user', id: 'u-bo', name: 'bo' }, text: 'long ago' };

  test('is fetched once, and follows what happens to it', async () => {
    const client = await opened();
    answers = { [address]: () => [200, said] };
    await Promise.all([client.loadQuoted(ROOM, 'm-9'), client.loadQuoted(ROOM, 'm-9')]);
    expect(asked.filter((request) => request === address)).toHaveLength(1);
    expect(quoted(client)?.text).toBe('long ago');
    server.append('message.deleted', { kind: 'user', id: 'u-bo', name: 'bo' }, { id: 'm-9' });
    network.last.say(rawEvent(2));
    expect(quoted(client)).toMatchObject({ text: '', deleted_at: expect.any(String) });
    await client.loadQuoted(ROOM, 'm-9'); // an answer that was on its way before the deletion
    expect(quoted(client)?.text).toBe('');
  });

  test('and is no longer there is asked for once; without a connection again and again', async () => {
    const client = await opened();
    answers = {};
    await client.loadQuoted(ROOM, 'm-9');
    answers[address] = () => [404, { code: 'not_found', detail: '', retryable: false }];
    await client.loadQuoted(ROOM, 'm-9');
    await client.loadQuoted(ROOM, 'm-9');
    expect([asked.filter((request) => request === address).length, quoted(client)]).toEqual([2, undefined]);
  });
});

describe('messages on their way', () => {
  const sends = () => network.last.of('send').map(({ id, text }) => `${String(id)} ${String(text)}`);

  test('written without a connection go out with the next one, in order', async () => {
    const client = newClient();
    client.send(ROOM, 'one');
    client.send(ROOM, 'two');
    expect(
      welcome()
        .of('send')
        .map(({ text }) => text),
    ).toEqual(['one', 'two']);
  });

  test('that nobody acknowledged go out again under the same id; acknowledged ones do not', async () => {
    const client = await opened();
    client.send(ROOM, 'acknowledged');
    client.send(ROOM, 'lost');
    const before = sends();
    network.last.say({ type: 'ack', id: network.last.of('send')[0]?.id, conversation: ROOM, seq: 3, message: 'm' });
    await reconnect();
    welcome();
    expect(sends()).toEqual(before.slice(1));
  });

  test('survive a reload of the page under the same id', async () => {
    const client = newClient();
    client.send(ROOM, 'kept');
    const id = client.store.studio.outbox[0]?.frame.id;
    client.stop();
    newClient();
    expect(welcome().of('send')).toEqual([{ type: 'send', id, conversation: ROOM, text: 'kept' }]);
  });

  test('are forgotten by the browser once the log shows them', async () => {
    const client = await opened();
    client.send(ROOM, 'hello');
    expect([...stored.keys()]).toHaveLength(1);
    server.append(
      'message.created',
      { kind: 'user', id: me.id, name: 'ada' },
      { id: 'm-9', client_id: client.store.studio.outbox[0]?.frame.id, text: 'hello' },
    );
    network.last.say(rawEvent(2));
    expect([client.store.studio.outbox, [...stored.keys()]]).toEqual([[], []]);
  });

  test('refused for a while are tried again by themselves, at the time that was said', async () => {
    const client = await opened();
    client.send(ROOM, 'fast');
    network.last.say({
      type: 'error',
      id: network.last.of('send')[0]?.id,
      code: 'rate_limited',
      message: '',
      retryable: true,
      retry_after_s: 2,
    });
    await clock.pass(1_999);
    expect(sends()).toHaveLength(1);
    await clock.pass(1);
    expect(sends()).toHaveLength(2);
    expect(new Set(sends()).size).toBe(1);
  });

  test('too large for a frame fail here, and close no socket', async () => {
    const client = await opened();
    client.send(ROOM, '\u0001'.repeat(16_000));
    expect(network.last.of('send')).toEqual([]);
    expect(client.store.studio.outbox[0]).toMatchObject({ status: 'failed', code: 'too_large' });
  });

  test('hold nothing that strict reading refuses', async () => {
    const client = await opened();
    client.send(ROOM, 'a\0b\ud800c', { replyTo: 'm', peopleOnly: true });
    expect(network.last.of('send')).toMatchObject([{ text: 'ab\ufffdc', reply_to: 'm', people_only: true }]);
  });
});

describe('commands', () => {
  test('resolve with their acknowledgement, and reject with the code', async () => {
    const client = await opened();
    const edited = client.edit(ROOM, 'm-1', 'new');
    network.last.say({ type: 'ack', id: network.last.of('edit')[0]?.id, seq: 3 });
    await expect(edited).resolves.toMatchObject({ seq: 3 });
    const deleted = client.delete(ROOM, 'm-1');
    network.last.say({
      type: 'error',
      id: network.last.of('delete')[0]?.id,
      code: 'forbidden',
      message: 'no',
      retryable: false,
    });
    await expect(deleted).rejects.toMatchObject({ code: 'forbidden' });
  });

  test('interrupted by a lost connection are sent again under the same id', async () => {
    const client = await opened();
    const stopped = client.stopRun('r-1');
    const [first] = network.last.of('stop');
    await reconnect();
    expect(welcome().of('stop')).toEqual([first]);
    network.last.say({ type: 'ack', id: first?.id, seq: 4 });
    await expect(stopped).resolves.toMatchObject({ seq: 4 });
  });

  test('told to come again do, at the time that was said; the person never hears of it', async () => {
    const client = await opened();
    const reacted = client.edit(ROOM, 'm-1', 'new');
    const [first] = network.last.of('edit');
    network.last.say({ type: 'error', id: first?.id, code: 'rate_limited', message: '', retryable: true, retry_after_s: 2 });
    await clock.pass(1_999);
    expect(network.last.of('edit')).toHaveLength(1);
    await clock.pass(1);
    expect(network.last.of('edit')).toEqual([first, first]);
    network.last.say({ type: 'ack', id: first?.id, seq: 3 });
    await expect(reacted).resolves.toMatchObject({ seq: 3 });
  });

  test('refused by a draining server are asked of the next one', async () => {
    const client = await opened();
    const pinned = client.pin(ROOM, 'm-1', true);
    const [first] = network.last.of('pin');
    network.last.say({ type: 'error', id: first?.id, code: 'draining', message: '', retryable: true });
    await reconnect();
    expect(welcome().of('pin')).toEqual([first]);
    network.last.say({ type: 'ack', id: first?.id, seq: 3 });
    await expect(pinned).resolves.toMatchObject({ seq: 3 });
  });

  test('give up after a while', async () => {
    const client = await opened();
    const pinned = client.pin(ROOM, 'm-1', true);
    network.last.end(1006);
    const outcome = expect(pinned).rejects.toMatchObject({ code: 'offline' });
    await clock.pass(20_000);
    await outcome;
  });
});

describe('holes', () => {
  test('that stay for a second are read from the log', async () => {
    const client = await opened();
    for (const text of ['3', '4', '5']) server.do({ do: 'send', who: 1, text });
    network.last.say(rawEvent(4));
    answers[`GET /api/conversations/${ROOM}/events`] = () => [
      200,
      { events: server.log.slice(2), head: 5, epoch: EPOCH },
    ];
    await clock.pass(999);
    expect(asked.filter((request) => request.includes('/events'))).toEqual([]);
    await clock.pass(1);
    expect(asked.filter((request) => request.includes('/events'))).toEqual([
      `GET /api/conversations/${ROOM}/events?after=2&limit=1000`,
    ]);
    expect(room(client.store.studio)).toMatchObject({ cursor: 5, head: 5 });
  });

  test('that fill by themselves ask nobody', async () => {
    await opened();
    for (const text of ['3', '4']) server.do({ do: 'send', who: 1, text });
    network.last.say(rawEvent(3)).say(rawEvent(2));
    await clock.pass(5_000);
    expect(asked.filter((request) => request.includes('/events'))).toEqual([]);
  });

  test('are asked for again when the answer fails, ever more slowly', async () => {
    const client = await opened();
    network.last.say({ type: 'heads', conversations: { [ROOM]: 3 } });
    const before = asked.length;
    await clock.pass(10_000);
    expect(asked.length - before).toBeGreaterThan(2);
    expect(asked.length - before).toBeLessThan(8);
    server.do({ do: 'send', who: 1, text: 'at last' });
    answers[`GET /api/conversations/${ROOM}/events`] = () => [
      200,
      { events: server.log.slice(2), head: 3, epoch: EPOCH },
    ];
    await clock.pass(30_000);
    expect(room(client.store.studio).timeline?.messages.at(-1)?.text).toBe('at last');
  });
});

describe('reading', () => {
  test('is told at once, then at most once a second, and always to the end', async () => {
    const client = await opened();
    client.read(ROOM, 1);
    client.read(ROOM, 2);
    server.do({ do: 'send', who: 1, text: 'x' });
    network.last.say(rawEvent(2));
    client.read(ROOM, 3);
    expect(network.last.of('read').map(({ seq }) => seq)).toEqual([1]);
    await clock.pass(3_000);
    expect(network.last.of('read').map(({ seq }) => seq)).toEqual([1, 3]);
  });

  test('without a connection is told after the next welcome', async () => {
    const client = await opened();
    network.last.end(1006);
    client.read(ROOM, 2);
    await clock.pass(2_000);
    expect(welcome().of('read')).toMatchObject([{ conversation: ROOM, seq: 2 }]);
  });
});

describe('what came in', () => {
  const told = () => network.last.of('delivered').map(({ seq }) => seq);
  const news = (count: number) => {
    for (let n = 0; n < count; n += 1) {
      server.do({ do: 'send', who: 1, text: 'news' });
      network.last.say(rawEvent(server.head - 1));
    }
  };

  test('is told as delivered, once for many, then at most once a second, and always to the end', async () => {
    await opened();
    news(20);
    expect(told()).toEqual([]);
    await clock.pass(200);
    expect(told()).toEqual([22]);
    news(1);
    await clock.pass(200);
    news(1);
    expect(told()).toEqual([22]);
    await clock.pass(1_000);
    expect(told()).toEqual([22, 24]);
  });

  test('is not told twice: not after reading it, not when it comes again, not for my own', async () => {
    const client = await opened();
    news(1);
    client.read(ROOM, 3);
    network.last.say(rawEvent(2));
    server.do({ do: 'send', who: 0, text: 'mine' });
    network.last.say(rawEvent(3));
    await clock.pass(5_000);
    expect(told()).toEqual([]);
  });

  test('only counts up to the first hole, and then goes on', async () => {
    await opened();
    for (const text of ['3', '4', '5']) server.do({ do: 'send', who: 1, text });
    network.last.say(rawEvent(4)).say(rawEvent(2));
    await clock.pass(200);
    expect(told()).toEqual([3]);
    answers[`GET /api/conversations/${ROOM}/events`] = () => [
      200,
      { events: server.log.slice(3), head: 5, epoch: EPOCH },
    ];
    await clock.pass(3_000);
    expect(told()).toEqual([3, 5]);
  });

  test('just before the connection was lost is told after the next welcome', async () => {
    await opened();
    news(1);
    network.last.end(1006);
    await clock.pass(2_000);
    welcome(3);
    await clock.pass(2_000);
    expect(told()).toEqual([3]);
  });

  test('while nobody was there is told of private chats, whose list shows it', async () => {
    newClient();
    const chat = { ...summary({ id: 'c-bo', head: 7, unread: 2 }), kind: 'private' };
    network.last
      .accept()
      .say({ type: 'welcome', user: me, connection: 'k', heartbeat_s: 25, conversations: [chat, summary({ head: 9, unread: 3 })] });
    await clock.pass(1_000);
    expect(network.last.of('delivered')).toEqual([{ type: 'delivered', conversation: 'c-bo', seq: 7 }]);
  });
});

describe('typing', () => {
  test('is renewed every few seconds and taken back when the person stops or sends', async () => {
    const client = await opened();
    const told = () => network.last.of('typing').map(({ on }) => on);
    client.reporter.typing(ROOM);
    client.reporter.typing(ROOM);
    expect(told()).toEqual([true]);
    await clock.pass(3_000);
    client.reporter.typing(ROOM);
    expect(told()).toEqual([true, true]);
    await clock.pass(5_000);
    expect(told()).toEqual([true, true, false]);
    client.reporter.typing(ROOM);
    client.send(ROOM, 'done');
    expect(told()).toEqual([true, true, false, true, false]);
  });
});

describe('the end of a session', () => {
  test('is noticed when the handshake is refused', async () => {
    newClient();
    answers['GET /api/auth/me'] = () => [401, { code: 'unauthenticated', detail: 'Please sign in', retryable: false }];
    network.last.end(1006);
    await settled();
    await clock.pass(60_000);
    expect([signedOut, network.sockets.length]).toEqual([1, 1]);
  });

  test('is not asked about at every attempt', async () => {
    newClient();
    for (let attempt = 0; attempt < 4; attempt += 1) {
      network.last.end(1006);
      await clock.pass(1_800);
    }
    expect(asked.filter((request) => request.endsWith('/api/auth/me'))).toHaveLength(1);
    await clock.pass(10_000);
    network.last.end(1006);
    await settled();
    expect(asked.filter((request) => request.endsWith('/api/auth/me'))).toHaveLength(2);
  });

  test('by a final code leads to the door; a server that is merely away does not', async () => {
    newClient();
    network.last.end(1006);
    await clock.pass(1_000);
    expect(signedOut).toBe(0);
    welcome().end(4500);
    expect(signedOut).toBe(1);
    expect(connections.at(-1)).toMatchObject({ name: 'closed' });
  });
});
