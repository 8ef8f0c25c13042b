/** The client against a scripted other end: what it subscribes to, repairs, and when it gives up. */

import { describe, expect, test } from 'vitest';
import type { StudioClient } from '../../src/connection/client';
import { settled } from '../support/fakes';
import { EPOCH, me } from '../support/model-server';
import { answerOnly, answers, asked, clock, connections, network, newClient, opened, rawEvent, reconnect, server, signedOut, welcome } from '../support/scripted-client';
import { ROOM, room, summary } from '../support/studios';

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
    answerOnly({ [address]: () => [200, said] });
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
    answerOnly({});
    await client.loadQuoted(ROOM, 'm-9');
    answers[address] = () => [404, { code: 'not_found', detail: '', retryable: false }];
    await client.loadQuoted(ROOM, 'm-9');
    await client.loadQuoted(ROOM, 'm-9');
    expect([asked.filter((request) => request === address).length, quoted(client)]).toEqual([2, undefined]);
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
