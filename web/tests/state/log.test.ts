/** The promises of the log as the client keeps it, held against a model server for every kind of event. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Delta } from '../../src/protocol/frames';
import type { LogEvent } from '../../src/protocol/words';
import { behind, type Input } from '../../src/state/reduce';
import { EPOCH, ModelServer, people, steps, type Step } from '../support/model-server';
import { ROOM, messages, play, room, summary, welcomed } from '../support/studios';

const event = (one: LogEvent): Input => ({ type: 'event', conversation: ROOM, event: one });
const newest = (server: ModelServer, head: number, limit?: number): Input => ({
  type: 'local.page',
  conversation: ROOM,
  place: 'newest',
  page: server.page(head, limit === undefined ? {} : { limit }),
});
const members: Input = {
  type: 'local.members',
  conversation: ROOM,
  members: people.map((name) => ({
    user: { id: `u-${name}`, username: name, role: 'member' as const },
    role: 'member' as const,
    delivered: 0,
    read: 0,
    presence: 'online' as const,
  })),
};
/** Everything that came since is in the log, so reading it is the whole repair. */
const repair = (server: ModelServer, after: number): Input => ({
  type: 'local.log',
  conversation: ROOM,
  page: { events: server.log.slice(after), head: server.head, epoch: EPOCH },
});

/** A log, a place in it, and another place at or after that one. */
const logs = fc.tuple(steps, fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true }));

describe('state(snapshot n) + events == state(head)', () => {
  test('for any log and any n', () => {
    fc.assert(
      fc.property(logs, ([tried, part]) => {
        const server = new ModelServer(tried);
        const n = Math.floor(part * server.head);
        const grown = play(welcomed(n), [newest(server, n), ...server.log.slice(n).map(event)]);
        expect(messages(grown)).toEqual(server.page().messages);
        expect(room(grown).cursor).toBe(server.head);
      }),
      { numRuns: 300 },
    );
  });

  const every: readonly (readonly [string, Step[]])[] = [
    ['message.created', [{ do: 'send', who: 1, text: 'b' }]],
    ['message.edited', [{ do: 'edit', who: 0, pick: 0, text: 'changed' }]],
    ['message.deleted', [{ do: 'delete', pick: 0 }]],
    ['reaction.added', [{ do: 'react', who: 1, pick: 0, emoji: '👍' }]],
    [
      'reaction.removed',
      [
        { do: 'react', who: 1, pick: 0, emoji: '👍' },
        { do: 'unreact', who: 1, pick: 0, emoji: '👍' },
      ],
    ],
    ['message.pinned', [{ do: 'pin', pick: 0, on: true }]],
    ['run.started', [{ do: 'run', who: 0, text: '' }]],
    ['run.steered', [{ do: 'steer', text: 'shorter' }]],
    [
      'run.ended',
      [
        { do: 'run', who: 0, text: '' },
        { do: 'end', who: 0, pick: 0, text: 'done' },
      ],
    ],
    ['an unknown kind', [{ do: 'novelty', text: '' }]],
  ];

  test.each(every)('for %s', (_, added) => {
    const server = new ModelServer([{ do: 'send', who: 0, text: 'a' }]);
    added.forEach((step) => server.do(step));
    expect(server.head).toBe(1 + added.length);
    const grown = play(welcomed(1), [newest(server, 1), ...server.log.slice(1).map(event)]);
    expect(messages(grown)).toEqual(server.page().messages);
    expect(room(grown).cursor).toBe(server.head);
  });

  test('a page read before, or after, the events that are applied ends the same', () => {
    fc.assert(
      fc.property(logs, ([tried, one, other]) => {
        const server = new ModelServer(tried);
        const cursor = Math.floor(one * server.head);
        const pageHead = Math.floor(other * server.head);
        const events = server.log.map(event);
        const inputs = [...events.slice(0, cursor), newest(server, pageHead), ...events.slice(cursor)];
        const late = play(welcomed(0), inputs);
        if (room(late).isStale) return; // the page was older than what is kept: another one is asked for
        expect(messages(late)).toEqual(server.page().messages);
      }),
      { numRuns: 300 },
    );
  });

  test('windows that are paged together show what one snapshot shows', () => {
    fc.assert(
      fc.property(logs, fc.integer({ min: 1, max: 8 }), fc.nat(9), ([tried, part], limit, late) => {
        const server = new ModelServer(tried);
        const n = Math.floor(part * server.head);
        let studio = play(welcomed(n), [newest(server, n, limit)]);
        for (const next of [...server.log.slice(n), null]) {
          const first = messages(studio)[0];
          if (room(studio).timeline?.hasOlder && first) {
            const page = server.page(Math.max(n, room(studio).cursor - late), { before: first.seq, limit });
            studio = play(studio, [{ type: 'local.page', conversation: ROOM, place: 'older', page }]);
          }
          if (next) studio = play(studio, [event(next)]);
        }
        const shown = messages(studio);
        expect(shown).toEqual(server.page().messages.slice(-shown.length || Infinity));
      }),
      { numRuns: 200 },
    );
  });
});

test('a deleted message never shows its text again, whatever comes after it', () => {
  const server = new ModelServer([
    { do: 'send', who: 0, text: 'secret' },
    { do: 'edit', who: 0, pick: 0, text: 'another secret' },
    { do: 'delete', pick: 0 },
  ]);
  const deleted = play(welcomed(1), [newest(server, 3)]); // the page is ahead of the events
  for (const one of server.log.slice(1)) {
    expect(messages(play(deleted, [event(one)]))[0]).toMatchObject({ text: '', deleted_at: server.log[2]?.at });
  }
});

describe('frames that come late, twice or not at all', () => {
  /** Each frame any number of times (also none), in any order. */
  const disturbed = <Frame>(frames: readonly Frame[]) =>
    frames.length === 0
      ? fc.constant<Frame[]>([])
      : fc.array(fc.constantFrom(...frames), { maxLength: frames.length * 2 });

  test('end in the same studio once repaired', () => {
    const cases = steps.chain((tried) => {
      const server = new ModelServer(tried);
      const frames = [...server.log.map(event), ...deltasOf(server)];
      return fc.record({ server: fc.constant(server), frames: disturbed(frames), again: disturbed(frames) });
    });
    fc.assert(
      fc.property(cases, ({ server, frames, again }) => {
        const start = play(welcomed(0), [newest(server, 0), members]);
        const straight = play(start, server.log.map(event));
        const shaken = play(start, frames);
        const repaired = play(shaken, [repair(server, room(shaken).cursor), ...again]);
        const ended = play(repaired, again);
        expect(withoutUnended(room(ended), server)).toEqual(withoutUnended(room(straight), server));
        expect(ended.names).toEqual(straight.names);
        expect(behind(ended)).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  test('a hole is known, and nothing above it is shown before it is filled', () => {
    const server = new ModelServer([1, 2, 3].map((who) => ({ do: 'send', who: who % 3, text: String(who) })));
    const [first, second, third] = server.log.map(event) as [Input, Input, Input];
    const start = play(welcomed(0), [newest(server, 0)]);
    const holed = play(start, [first, third]);
    expect(messages(holed).map(({ text }) => text)).toEqual(['1']);
    expect(behind(holed).map(({ id, cursor, head }) => ({ id, cursor, head }))).toEqual([
      { id: ROOM, cursor: 1, head: 3 },
    ]);
    const filled = play(holed, [second]);
    expect(messages(filled).map(({ text }) => text)).toEqual(['1', '2', '3']);
    expect(behind(filled)).toEqual([]);
  });

  test('a head from `heads` without its event is a hole', () => {
    expect(behind(play(welcomed(3), [{ type: 'heads', conversations: { [ROOM]: 4 } }]))).toHaveLength(1);
  });

  test('`reset` asks for a fresh page and goes on above it', () => {
    const server = new ModelServer(
      Array.from({ length: 5 }, (_, n) => ({ do: 'send', who: 1, text: String(n) }) as const),
    );
    const open = play(welcomed(2), [newest(server, 2)]);
    const reset = play(open, [{ type: 'reset', conversation: ROOM, head: 4, epoch: 'e2' }]);
    expect(behind(reset)).toHaveLength(1);
    const page = { ...server.page(4), epoch: 'e2' };
    const fresh = play(reset, [
      { type: 'local.page', conversation: ROOM, place: 'newest', page },
      ...server.log.slice(4).map(event),
    ]);
    expect(behind(fresh)).toEqual([]);
    expect(messages(fresh).map(({ text }) => text)).toEqual(['0', '1', '2', '3', '4']);
  });

  test('a log that no longer reaches back to the cursor is a reset', () => {
    const server = new ModelServer(
      Array.from({ length: 6 }, (_, n) => ({ do: 'send', who: 1, text: String(n) }) as const),
    );
    const open = play(welcomed(1), [newest(server, 1), { type: 'heads', conversations: { [ROOM]: 6 } }]);
    const page = { events: server.log.slice(3), head: 6, epoch: EPOCH };
    const after = room(play(open, [{ type: 'local.log', conversation: ROOM, page }]));
    expect([after.cursor, after.isStale]).toEqual([6, true]);
  });

  test('after a break the events above the cursor come once, and unread counts none twice', () => {
    const server = new ModelServer(Array.from({ length: 4 }, () => ({ do: 'send', who: 1, text: 'x' }) as const));
    const open = play(welcomed(2), [newest(server, 2), { type: 'local.read', conversation: ROOM, seq: 2 }]);
    const back = play(open, [
      {
        type: 'welcome',
        user: { id: 'u-ada', username: 'ada', role: 'member' },
        conversations: [summary({ head: 4, read: 2, unread: 2 })],
      },
      { type: 'subscribed', id: 's', conversations: { [ROOM]: { head: 4, epoch: EPOCH, reset: false, read: 2 } } },
    ]);
    expect(room(back).cursor).toBe(2);
    const whole = play(back, server.log.slice(2).map(event));
    expect([room(whole).unread, messages(whole).length]).toEqual([2, 4]);
  });
});

/** Each running answer told in pieces of one code point. */
function deltasOf(server: ModelServer): Input[] {
  return server.log.flatMap((one) => {
    if (one.kind !== 'run.started') return [];
    return [...'héllo 👋'].map((text, from): Delta => ({
      type: 'delta',
      conversation: ROOM,
      run: one.data.run,
      message: one.data.message,
      part: 0,
      kind: 'text',
      from,
      text,
    }));
  });
}

/** Answers that have not ended show whatever of their deltas came; the log says nothing about those. */
function withoutUnended<State extends { streams: object }>(state: State, server: ModelServer): State {
  const ended = new Set(server.log.flatMap((one) => (one.kind === 'run.ended' ? [one.data.message] : [])));
  return { ...state, streams: Object.fromEntries(Object.entries(state.streams).filter(([id]) => ended.has(id))) };
}
