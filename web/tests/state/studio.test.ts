import { describe, expect, test } from 'vitest';
import { landing, sections, typingLine, typingNames } from '../../src/state/select';
import { TYPING_MS } from '../../src/state/studio';
import { ModelServer, me } from '../support/model-server';
import { ROOM, play, room, summary, welcomed } from '../support/studios';

const events = (server: ModelServer) =>
  server.log.map((event) => ({ type: 'event', conversation: ROOM, event }) as const);

describe('unread', () => {
  test('counts messages of others, not my own and not other events', () => {
    const server = new ModelServer([
      { do: 'send', who: 1, text: 'a' },
      { do: 'send', who: 0, text: 'mine' },
      { do: 'react', who: 1, pick: 0, emoji: '👍' },
      { do: 'run', who: 0, text: '' },
    ]);
    expect(room(play(welcomed(0), events(server))).unread).toBe(2);
  });

  test('goes when everything is read, and is exact where the window shows it', () => {
    const server = new ModelServer([1, 1, 0, 1].map((who) => ({ do: 'send', who, text: 'x' })));
    const page = { type: 'local.page', conversation: ROOM, place: 'newest', page: server.page() } as const;
    const open = play(welcomed(4, { unread: 3 }), [page]);
    expect(room(play(open, [{ type: 'local.read', conversation: ROOM, seq: 1 }])).unread).toBe(2);
    expect(room(play(open, [{ type: 'local.read', conversation: ROOM, seq: 4 }])).unread).toBe(0);
  });

  test('what was read on another device is read here', () => {
    const frame = { type: 'receipt', conversation: ROOM, user: me.id, delivered: 4, read: 4 } as const;
    expect(room(play(welcomed(4, { unread: 3 }), [frame])).unread).toBe(0);
    expect(room(play(welcomed(4, { unread: 3 }), [{ ...frame, user: 'u-bo' }])).unread).toBe(3);
  });

  test('a list that was read before my own reading does not bring it back', () => {
    const read = play(welcomed(4, { unread: 3 }), [{ type: 'local.read', conversation: ROOM, seq: 4 }]);
    const stale = { type: 'welcome', user: me, conversations: [summary({ head: 4, read: 1, unread: 3 })] } as const;
    expect(room(play(read, [stale])).unread).toBe(0);
  });
});

describe('people', () => {
  test('a typing notice shows the name and fades by itself, or with the message', () => {
    const server = new ModelServer([{ do: 'send', who: 1, text: 'a' }]);
    const on = { type: 'typing', conversation: ROOM, user: 'u-bo', on: true } as const;
    const typing = play(welcomed(0), [...events(server), on], 1_000);
    expect(typingNames(typing, room(typing))).toEqual(['bo']);
    expect(room(play(typing, [{ type: 'local.tick' }], 1_000 + TYPING_MS)).typing).toEqual({});
    expect(room(play(play(welcomed(0), [on]), events(server))).typing).toEqual({});
    expect(room(play(welcomed(0), [{ ...on, user: me.id }])).typing).toEqual({});
  });

  test('the typing line names two and no more', () => {
    expect([[], ['a'], ['a', 'b'], ['a', 'b', 'c']].map(typingLine)).toEqual([
      '',
      'a is typing…',
      'a and b are typing…',
      'Several people are typing…',
    ]);
  });

  test('in a large room are a number, until they are few enough to be named again', () => {
    const count = { type: 'presence', conversation: ROOM, user: null, state: 'online', count: 214 } as const;
    const crowded = play(welcomed(0), [count]);
    expect([room(crowded).hereCount, crowded.presence]).toEqual([214, {}]);
    const named = play(crowded, [{ ...count, user: 'u-bo', count: null }]);
    expect([room(named).hereCount, named.presence]).toEqual([null, { 'u-bo': 'online' }]);
  });

  test('whom I block is blocked in our private chat and nowhere else', () => {
    const chat = { ...summary({ id: 'c-bo' }), kind: 'private', peer: { id: 'u-bo', username: 'bo', role: 'member' } } as const;
    const before = play(welcomed(0), [{ type: 'conversation.added', conversation: chat }]);
    const blocked = play(before, [{ type: 'local.blocked', user: 'u-bo', on: true }]);
    expect([blocked.conversations['c-bo']?.blockedByMe, room(blocked).blockedByMe]).toEqual([true, false]);
    expect(play(blocked, [{ type: 'local.blocked', user: 'u-bo', on: false }]).conversations).toEqual(before.conversations);
    const elsewhere = play(before, [{ type: 'conversation.added', conversation: { ...chat, blocked_by_me: true } }]);
    expect(elsewhere.conversations['c-bo']?.blockedByMe).toBe(true);
  });

  test('my own new role is mine at once', () => {
    const server = new ModelServer([{ do: 'role', who: 0, role: 'reader' }]);
    expect(room(play(welcomed(0), events(server))).role).toBe('reader');
  });
});

describe('conversations', () => {
  test('come and go with their frames', () => {
    const added = play(welcomed(0), [{ type: 'conversation.added', conversation: summary({ id: 'c-2', head: 3 }) }]);
    expect(added.conversations['c-2']?.cursor).toBe(3);
    expect(
      play(added, [{ type: 'conversation.removed', conversation: 'c-2', code: 'kicked' }]).conversations['c-2'],
    ).toBeUndefined();
  });

  test('that `welcome` no longer names are gone', () => {
    expect(play(welcomed(0), [{ type: 'welcome', user: me, conversations: [] }]).conversations).toEqual({});
  });

  test('a new title is applied', () => {
    expect(room(play(welcomed(0), events(new ModelServer([{ do: 'title', text: 'Tea' }])))).title).toBe('Tea');
  });

  test('one lands in the room for newcomers, and rooms stand by name', () => {
    const studio = play(welcomed(0), [
      { type: 'conversation.added', conversation: { ...summary({ id: 'c-a' }), title: 'Aardvark' } },
      { type: 'conversation.added', conversation: { ...summary({ id: 'c-w' }), title: 'Welcome' } },
    ]);
    expect(landing(studio)).toBe('c-w');
    expect(sections(studio.conversations).rooms.map(({ title }) => title)).toEqual(['Aardvark', 'Room', 'Welcome']);
  });
});
