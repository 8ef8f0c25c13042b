/** The ladder of a message: accepted, delivered, read; however receipts come. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Input } from '../../src/state/reduce';
import { lastRead, rungOf, seenBy } from '../../src/state/receipts';
import { ModelServer, me } from '../support/model-server';
import { ROOM, messages, play, room, welcomed } from '../support/studios';

const receipt = (user: string, delivered: number, read: number): Input => ({
  type: 'receipt',
  conversation: ROOM,
  user,
  delivered,
  read,
});
const member = (name: string, delivered: number, read: number) => ({
  user: { id: `u-${name}`, username: name, role: 'member' as const },
  role: 'member' as const,
  presence: 'online' as const,
  delivered,
  read,
});

describe('the ladder', () => {
  test('goes from accepted over delivered to read', () => {
    const steps = [receipt('u-bo', 0, 0), receipt('u-bo', 3, 0), receipt('u-bo', 3, 3)];
    const rungs = steps.map((_, index) =>
      rungOf(3, room(play(welcomed(3), steps.slice(0, index + 1))).marks['u-bo']),
    );
    expect(rungs).toEqual(['accepted', 'delivered', 'read']);
    expect(rungOf(4, { delivered: 3, read: 3 })).toBe('accepted');
  });

  test('ends at the highest marks, in whatever order receipts come, twice or not at all', () => {
    const told = fc.array(
      fc.tuple(fc.constantFrom('u-bo', 'u-cy'), fc.nat(9), fc.nat(9)).map(([user, one, other]) => ({
        user,
        delivered: Math.max(one, other),
        read: Math.min(one, other),
      })),
    );
    const disturbed = told.chain((all) =>
      fc.tuple(fc.constant(all), fc.shuffledSubarray([...all, ...all], { minLength: all.length })),
    );
    fc.assert(
      fc.property(disturbed, ([all, came]) => {
        const shaken = play(welcomed(9), [...came, ...all].map(({ user, delivered, read }) => receipt(user, delivered, read)));
        const most = (user: string, field: 'delivered' | 'read') =>
          Math.max(0, ...all.filter((one) => one.user === user).map((one) => one[field]));
        for (const user of ['u-bo', 'u-cy']) {
          const marks = room(shaken).marks[user] ?? { delivered: 0, read: 0 };
          expect(marks).toEqual({ delivered: most(user, 'delivered'), read: most(user, 'read') });
        }
      }),
    );
  });

  test('never comes down when a list of members is older than a receipt', () => {
    const studio = play(welcomed(5), [
      receipt('u-bo', 5, 5),
      { type: 'local.members', conversation: ROOM, members: [member('ada', 5, 5), member('bo', 3, 2)] },
    ]);
    expect(room(studio).marks).toEqual({ 'u-bo': { delivered: 5, read: 5 } });
  });

  test('starts anew with another log, and for who left', () => {
    const read = play(welcomed(5), [receipt('u-bo', 5, 5)]);
    expect(room(play(read, [{ type: 'reset', conversation: ROOM, head: 5, epoch: 'e1' }])).marks).not.toEqual({});
    expect(room(play(read, [{ type: 'reset', conversation: ROOM, head: 2, epoch: 'e2' }])).marks).toEqual({});
    const server = new ModelServer([{ do: 'leave', who: 1 }]);
    const left = { type: 'event', conversation: ROOM, event: { ...server.log[0], seq: 6 } } as Input;
    expect(room(play(read, [left])).marks).toEqual({});
  });
});

test('the newest message of mine that was read stands for those before it', () => {
  const server = new ModelServer([0, 1, 0, 0].map((who) => ({ do: 'send', who, text: 'x' }) as const));
  const page = { type: 'local.page', conversation: ROOM, place: 'newest', page: server.page() } as const;
  const all = messages(play(welcomed(4), [page]));
  expect([0, 1, 2, 3, 4].map((read) => lastRead(all, me.id, { delivered: 4, read }))).toEqual([0, 1, 1, 3, 4]);
});

test('who has seen a message is told without its author', () => {
  const marks = { 'u-ada': { delivered: 4, read: 4 }, 'u-bo': { delivered: 4, read: 3 }, 'u-cy': { delivered: 4, read: 2 } };
  expect(seenBy(marks, { seq: 3, actor: { kind: 'user', id: 'u-ada', name: 'ada' } })).toEqual(['u-bo']);
});
