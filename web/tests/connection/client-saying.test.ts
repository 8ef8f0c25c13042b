/** The client against a scripted other end: what it says, sends again and reports. */

import { describe, expect, test } from 'vitest';
import { EPOCH, me } from '../support/model-server';
import { answers, asked, clock, network, newClient, opened, rawEvent, reconnect, server, stored, welcome } from '../support/scripted-client';
import { ROOM, summary } from '../support/studios';

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
