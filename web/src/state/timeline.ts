/**
 * The window of messages that is kept of a conversation, in order of `seq`.
 *
 * Promises: at most MAX_WINDOW messages, each once; appending the newest one costs no search; a page that was read before
 * or after the events applied so far ends in the same window as those events alone would have.
 */

import type { LogEvent, Message, MessagePage } from '../protocol/words';
import { change, changedMessage, messageFrom } from './message';
import { MAX_WINDOW, TRIMMED_WINDOW, type Timeline } from './studio';

export function applyToTimeline(timeline: Timeline, event: LogEvent): Timeline {
  const created = messageFrom(event);
  if (created) return append(timeline, created);
  const changed = changedMessage(event);
  if (changed === null) return timeline;
  const index = timeline.messages.findLastIndex((message) => message.id === changed);
  const before = timeline.messages[index];
  if (!before) return timeline;
  const after = change(before, event);
  return after === before ? timeline : { ...timeline, messages: timeline.messages.with(index, after) };
}

/** The newest page takes the place of the window. `since` are the applied events; those above the page's head count. */
export function newestPage(page: MessagePage, since: readonly LogEvent[], follows: boolean): Timeline {
  const window = { messages: page.messages, hasOlder: page.has_more, hasNewer: false, follows };
  return upToDate(window, page, since);
}

/** A page from somewhere in the past: a window of its own, with older and newer ones to come. */
export function pageAround(page: MessagePage, since: readonly LogEvent[]): Timeline {
  return { messages: changedOnly(page, since), hasOlder: page.has_more, hasNewer: true, follows: false };
}

export function olderPage(timeline: Timeline, page: MessagePage, since: readonly LogEvent[]): Timeline {
  const first = timeline.messages[0]?.seq ?? Infinity;
  const older = changedOnly(page, since).filter((message) => message.seq < first);
  const messages = [...older, ...timeline.messages];
  return {
    ...timeline,
    messages: messages.slice(0, MAX_WINDOW),
    hasOlder: page.has_more,
    hasNewer: timeline.hasNewer || messages.length > MAX_WINDOW,
  };
}

export function newerPage(timeline: Timeline, page: MessagePage, since: readonly LogEvent[]): Timeline {
  const last = timeline.messages.at(-1)?.seq ?? 0;
  const newer = changedOnly(page, since).filter((message) => message.seq > last);
  const messages = [...timeline.messages, ...newer];
  const joined = {
    ...timeline,
    messages: messages.slice(-MAX_WINDOW),
    hasOlder: timeline.hasOlder || messages.length > MAX_WINDOW,
    hasNewer: page.has_more,
  };
  return page.has_more ? joined : upToDate(joined, page, since);
}

/** Only the newest `count` messages; null where the window does not reach the newest, since its rest is of no use later. */
export function shrink(timeline: Timeline, count: number): Timeline | null {
  if (timeline.hasNewer) return null;
  if (timeline.messages.length <= count) return { ...timeline, follows: true };
  return { ...timeline, messages: timeline.messages.slice(-count), hasOlder: true, follows: true };
}

function append(timeline: Timeline, message: Message): Timeline {
  const { messages } = timeline;
  if (timeline.hasNewer) return timeline;
  const last = messages.at(-1);
  if (last && last.seq >= message.seq) return timeline; // the page had it already
  if (messages.length < MAX_WINDOW) return { ...timeline, messages: [...messages, message] };
  if (!timeline.follows) return { ...timeline, hasNewer: true };
  return { ...timeline, messages: [...messages.slice(-(TRIMMED_WINDOW - 1)), message], hasOlder: true };
}

function upToDate(timeline: Timeline, page: MessagePage, since: readonly LogEvent[]): Timeline {
  return since.filter((event) => event.seq > page.head).reduce(applyToTimeline, timeline);
}

/** The page's messages brought up to date, without the messages that were created since. */
function changedOnly(page: MessagePage, since: readonly LogEvent[]): readonly Message[] {
  const later = since.filter((event) => event.seq > page.head);
  return later.length === 0 ? page.messages : page.messages.map((message) => later.reduce(change, message));
}
