import { describe, expect, test } from 'vitest';
import type { LogEvent, MessagePage } from '../../src/protocol/words';
import { MAX_WINDOW, TRIMMED_WINDOW, type Timeline } from '../../src/state/studio';
import { applyToTimeline, newerPage, newestPage, olderPage, pageAround, shrink } from '../../src/state/timeline';
import { ModelServer } from '../support/model-server';

const long = new ModelServer(
  Array.from({ length: 1_000 }, (_, n) => ({ do: 'send', who: 1, text: String(n) }) as const),
);
const seqs = (timeline: Timeline) => timeline.messages.map(({ seq }) => seq);
const ends = (timeline: Timeline) => [seqs(timeline)[0], seqs(timeline).at(-1)];
const older = (timeline: Timeline) =>
  olderPage(timeline, long.page(1_000, { before: seqs(timeline)[0] ?? 0, limit: 100 }), []);
const newer = (timeline: Timeline) =>
  newerPage(timeline, long.page(1_000, { after: seqs(timeline).at(-1) ?? 0, limit: 100 }), []);

describe('the window', () => {
  test('paging back keeps at most MAX_WINDOW messages and knows that newer ones are missing', () => {
    let timeline = newestPage(long.page(1_000, { limit: 60 }), [], true);
    for (let page = 0; page < 6; page += 1) timeline = older(timeline);
    expect(timeline.messages).toHaveLength(MAX_WINDOW);
    expect([timeline.hasOlder, timeline.hasNewer]).toEqual([true, true]);
    expect(ends(timeline)).toEqual([341, 740]);
  });

  test('paging back to the beginning and forth to the end shows every message once on the way', () => {
    let timeline = newestPage(long.page(1_000, { limit: 60 }), [], false);
    const seen = new Set(seqs(timeline));
    while (timeline.hasOlder) seqs((timeline = older(timeline))).forEach((seq) => seen.add(seq));
    expect(seen.size).toBe(1_000);
    while (timeline.hasNewer) {
      timeline = newer(timeline);
      expect(seqs(timeline)).toEqual(seqs(timeline).toSorted((one, other) => one - other));
    }
    expect(ends(timeline)).toEqual([601, 1_000]);
  });

  test('live messages are not appended above a gap', () => {
    const detached: Timeline = { messages: long.page(10).messages, hasOlder: false, hasNewer: true, follows: false };
    const [event] = long.log.slice(20) as [LogEvent];
    expect(applyToTimeline(detached, event)).toBe(detached);
  });

  test('a full window drops old messages for a reader at the end, and keeps what another reader looks at', () => {
    const full = (follows: boolean): Timeline => ({
      messages: long.page(MAX_WINDOW).messages,
      hasOlder: false,
      hasNewer: false,
      follows,
    });
    const event = long.log[MAX_WINDOW] as LogEvent;
    expect(ends(applyToTimeline(full(true), event))).toEqual([MAX_WINDOW + 2 - TRIMMED_WINDOW, MAX_WINDOW + 1]);
    expect(applyToTimeline(full(false), event)).toMatchObject({ hasNewer: true, messages: full(false).messages });
  });

  test('appending touches no other message', () => {
    const timeline = newestPage(long.page(50), [], true);
    const after = applyToTimeline(timeline, long.log[50] as LogEvent);
    expect(timeline.messages.every((message, index) => after.messages[index] === message)).toBe(true);
  });

  test('what nobody looks at is cut down, and thrown away where its end is missing', () => {
    const page: MessagePage = long.page(1_000, { limit: 300 });
    const timeline = newestPage(page, [], true);
    expect(shrink(timeline, 100)).toMatchObject({ hasOlder: true, messages: page.messages.slice(-100) });
    expect(shrink({ ...timeline, hasNewer: true }, 100)).toBeNull();
  });

  test('a neighbouring page that was read before a change shows the change', () => {
    const server = new ModelServer([1, 2, 3].map((n) => ({ do: 'send', who: 1, text: String(n) }) as const));
    const before = server.page(3, { before: 3, limit: 1 });
    const [newer] = server.page(3, { limit: 1 }).messages;
    server.do({ do: 'edit', who: 1, pick: 1, text: 'changed' });
    if (!newer) throw new Error('no message');
    const timeline: Timeline = { messages: [newer], hasOlder: true, hasNewer: false, follows: true };
    expect(olderPage(timeline, before, server.log).messages.map(({ text }) => text)).toEqual(['changed', '3']);
  });
});

test('a window around an old message is paged on to the newest', () => {
  let timeline = pageAround(long.page(1_000, { before: 531, limit: 60 }), []);
  expect([ends(timeline), timeline.hasOlder, timeline.hasNewer]).toEqual([[471, 530], true, true]);
  while (timeline.hasNewer) timeline = newer(timeline);
  expect(ends(timeline)).toEqual([601, 1_000]);
});
