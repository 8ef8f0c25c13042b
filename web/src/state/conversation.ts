/**
 * One conversation: its log applied in order, its summary, its people.
 *
 * Promises: events may come late, twice or in any order; each is applied once, at its turn. A conversation whose cursor
 * is behind its head says so (`isBehind`), and whoever holds the connection fetches what is missing.
 */

import type {
  Conversation,
  ConversationSummary,
  Epoch,
  EventPage,
  LogEvent,
  Member,
  Message,
  MessagePage,
  Seq,
  UserId,
} from '../protocol/words';
import { change, changedMessage } from './message';
import { IDLE_WINDOW, MAX_HELD, MAX_QUOTED, MAX_RECENT, type ConversationState } from './studio';
import { applyToTimeline, newerPage, newestPage, olderPage, pageAround, shrink } from './timeline';

export function fromSummary(summary: ConversationSummary): ConversationState {
  return {
    id: summary.id,
    kind: summary.kind,
    title: summary.title,
    visibility: summary.visibility,
    role: summary.role,
    peer: summary.peer,
    createdBy: null,
    updatedAt: '',
    memberCount: 0,
    model: null,
    systemPrompt: null,
    epoch: summary.epoch,
    cursor: summary.head,
    head: summary.head,
    held: {},
    recent: [],
    isStale: false,
    read: summary.read,
    unread: summary.unread,
    countedTo: summary.head,
    timeline: null,
    quoted: {},
    streams: {},
    members: null,
    marks: {},
    hereCount: null,
    blockedByMe: summary.blocked_by_me,
    retentionDays: null,
    typing: {},
  };
}

/** A newer summary. With a window open the cursor stays, and the events in between still come. */
export function withSummary(state: ConversationState, summary: ConversationSummary): ConversationState {
  if (state.epoch === summary.epoch && summary.head < state.cursor) return state; // read before what was applied since
  const described = {
    ...state,
    title: summary.title,
    visibility: summary.visibility,
    role: summary.role,
    peer: summary.peer,
    blockedByMe: summary.blocked_by_me,
    ...readAndUnread(state, summary),
    countedTo: summary.head,
    head: Math.max(state.head, summary.head),
  };
  if (state.timeline) return described;
  return { ...movedTo(described, summary.head, summary.epoch), isStale: false };
}

/** A summary may be older than what was read here in the meantime; in another log that reading means nothing. */
function readAndUnread(state: ConversationState, summary: ConversationSummary) {
  if (state.read <= summary.read || state.epoch !== summary.epoch) return { read: summary.read, unread: summary.unread };
  return { read: state.read, unread: state.read >= summary.head ? 0 : Math.min(state.unread, summary.unread) };
}

export function withDetails(state: ConversationState, conversation: Conversation): ConversationState {
  return {
    ...withSummary(state, conversation),
    createdBy: conversation.created_by,
    updatedAt: conversation.updated_at > state.updatedAt ? conversation.updated_at : state.updatedAt,
    memberCount: conversation.member_count,
    model: conversation.model,
    systemPrompt: conversation.system_prompt,
    retentionDays: conversation.retention_days,
  };
}

/** Takes one event from the live feed or from a repair. */
export function receive(state: ConversationState, event: LogEvent, me: UserId | undefined): ConversationState {
  if (event.seq <= state.cursor) return state;
  if (event.seq > state.cursor + 1) return hold(state, event);
  return applyHeld(apply(state, event, me), me);
}

export function isBehind(state: ConversationState): boolean {
  return state.head > state.cursor;
}

/** What the log says after the cursor, read over REST. */
export function receiveLog(state: ConversationState, page: EventPage, me: UserId | undefined): ConversationState {
  if (page.epoch !== state.epoch || !isGapless(state, page)) return resetTo(state, page.head, page.epoch);
  const next = page.events.reduce((before, event) => receive(before, event, me), state);
  return { ...next, head: Math.max(next.cursor, page.head) };
}

/** False where the log no longer reaches back to the cursor. */
function isGapless(state: ConversationState, page: EventPage): boolean {
  const first = page.events[0];
  return first ? first.seq <= state.cursor + 1 : page.head <= state.cursor;
}

/** The log is another one, or too much was missed: go on from here, with a fresh page to come. */
export function resetTo(state: ConversationState, head: Seq, epoch: Epoch): ConversationState {
  return { ...movedTo(state, head, epoch), isStale: state.timeline !== null };
}

/** The cursor stays: events up to the page's head still come, and change nothing that the page did not know. */
export function withNewestPage(state: ConversationState, page: MessagePage): ConversationState {
  const isAnother = page.epoch !== state.epoch;
  if (!isAnother && !reachesBack(state, page.head)) return { ...state, isStale: true };
  const timeline = newestPage(page, isAnother ? [] : state.recent, state.timeline?.follows ?? true);
  const next = { ...(isAnother ? movedTo(state, page.head, page.epoch) : state), timeline, isStale: false };
  return { ...next, head: Math.max(next.head, page.head), streams: stillRunning(next.streams, page) };
}

/** Without the answers that the page shows as ended. */
function stillRunning(streams: ConversationState['streams'], page: MessagePage): ConversationState['streams'] {
  const ended = page.messages.filter(({ run }) => run && run.status !== 'running');
  return ended.reduce((left, message) => withoutKey(left, message.id), streams);
}

/** The window moves to where a page was read; the way back to the newest is paged or jumped. */
export function withPageAround(state: ConversationState, page: MessagePage): ConversationState {
  if (page.epoch !== state.epoch || !reachesBack(state, page.head)) return { ...state, isStale: true };
  return { ...state, timeline: pageAround(page, state.recent), isStale: false };
}

export function withNeighbourPage(
  state: ConversationState,
  page: MessagePage,
  side: 'older' | 'newer',
): ConversationState {
  if (!state.timeline || page.epoch !== state.epoch || !reachesBack(state, page.head)) return state;
  const timeline = (side === 'older' ? olderPage : newerPage)(state.timeline, page, state.recent);
  return { ...state, timeline };
}

export function readUpTo(state: ConversationState, seq: Seq, me: UserId | undefined): ConversationState {
  const read = Math.max(state.read, seq);
  const unread = unreadAfter(state, read, me);
  return read === state.read && unread === state.unread ? state : { ...state, read, unread };
}

/** Nobody looks at it any more: keep little. */
export function rest(state: ConversationState): ConversationState {
  return { ...state, timeline: state.timeline && shrink(state.timeline, IDLE_WINDOW), quoted: {} };
}

/** A message from outside the window. It may have been read before the events that were applied since. */
export function withQuoted(state: ConversationState, message: Message): ConversationState {
  const others = Object.entries(state.quoted).filter(([id]) => id !== message.id);
  const quoted = [...others.slice(1 - MAX_QUOTED), [message.id, state.recent.reduce(change, message)] as const];
  return { ...state, quoted: Object.fromEntries(quoted) };
}

function applyToQuoted(quoted: ConversationState['quoted'], event: LogEvent): ConversationState['quoted'] {
  const before = quoted[changedMessage(event) ?? ''];
  return before ? { ...quoted, [before.id]: change(before, event) } : quoted;
}

export function applyHeld(state: ConversationState, me: UserId | undefined): ConversationState {
  let next = state;
  for (let event = next.held[next.cursor + 1]; event; event = next.held[next.cursor + 1]) next = apply(next, event, me);
  return next === state ? state : { ...next, held: dropBelow(next.held, next.cursor) };
}

function hold(state: ConversationState, event: LogEvent): ConversationState {
  const head = Math.max(state.head, event.seq);
  const isFull = Object.keys(state.held).length >= MAX_HELD;
  return { ...state, head, held: isFull ? {} : { ...state.held, [event.seq]: event } };
}

function apply(state: ConversationState, event: LogEvent, me: UserId | undefined): ConversationState {
  const moved: ConversationState = {
    ...state,
    cursor: event.seq,
    head: Math.max(state.head, event.seq),
    updatedAt: event.at > state.updatedAt ? event.at : state.updatedAt,
    recent: [...state.recent.slice(-(MAX_RECENT - 1)), event],
    timeline: state.timeline && applyToTimeline(state.timeline, event),
    quoted: applyToQuoted(state.quoted, event),
  };
  switch (event.kind) {
    case 'message.created':
      return { ...counted(moved, event.seq, event.actor.id === me), typing: withoutKey(moved.typing, event.actor.id) };
    case 'run.started':
      return counted(moved, event.seq, false);
    case 'run.ended':
      return { ...moved, streams: withoutKey(moved.streams, event.data.message) };
    case 'member.joined':
    case 'member.left':
    case 'member.role':
      return { ...moved, ...changedPeople(moved, event, me) };
    case 'conversation.updated': {
      const { system_prompt, retention_days, ...change } = event.data;
      return {
        ...moved,
        ...change,
        ...(system_prompt !== undefined && { systemPrompt: system_prompt }),
        ...(retention_days !== undefined && { retentionDays: retention_days }),
      };
    }
    default:
      return moved;
  }
}

function counted(state: ConversationState, seq: Seq, isMine: boolean): ConversationState {
  if (seq <= state.countedTo || isMine) return state;
  return { ...state, unread: state.unread + 1, countedTo: seq };
}

type PeopleEvent = Extract<LogEvent, { kind: 'member.joined' | 'member.left' | 'member.role' }>;

function changedPeople(
  state: ConversationState,
  event: PeopleEvent,
  me: UserId | undefined,
): Partial<ConversationState> {
  const { user } = event.data;
  const others = state.members?.filter((member) => member.user.id !== user) ?? null;
  switch (event.kind) {
    case 'member.joined': {
      const member: Member = {
        user: { id: user, username: event.data.username, role: 'member' },
        role: event.data.role,
        delivered: 0,
        read: 0,
        presence: 'offline',
      };
      const isMe = user === me ? { role: event.data.role } : {};
      return { members: others && [...others, member], memberCount: state.memberCount + 1, ...isMe };
    }
    case 'member.left':
      return {
        members: others,
        marks: withoutKey(state.marks, user),
        memberCount: Math.max(0, state.memberCount - 1),
      };
    case 'member.role': {
      const { role } = event.data;
      const members = state.members?.map((member) => (member.user.id === user ? { ...member, role } : member)) ?? null;
      return { members, ...(user === me && { role }) };
    }
  }
}

/** Exact where the window shows everything after `read`; otherwise only "all of it" is certain. */
function unreadAfter(state: ConversationState, read: Seq, me: UserId | undefined): number {
  if (read >= state.head) return 0;
  const { timeline } = state;
  if (isBehind(state)) return state.unread;
  const first = timeline?.messages[0];
  if (!timeline || timeline.hasNewer || (timeline.hasOlder && (!first || first.seq > read + 1))) return state.unread;
  return timeline.messages.filter((message) => message.seq > read && message.actor.id !== me).length;
}

/** Whether the events kept are enough to bring a page of that head up to date. */
function reachesBack(state: ConversationState, head: Seq): boolean {
  return head >= state.cursor || (state.recent[0]?.seq ?? Infinity) <= head + 1;
}

/** Stands at `head` without what led there. Of another log nothing is known of the others, and nothing was counted. */
function movedTo(state: ConversationState, head: Seq, epoch: Epoch): ConversationState {
  const anew = epoch === state.epoch ? {} : { marks: {}, countedTo: head };
  return { ...state, ...anew, cursor: head, head, epoch, held: {}, recent: [], quoted: {} };
}

function dropBelow(held: Readonly<Record<Seq, LogEvent>>, seq: Seq): Readonly<Record<Seq, LogEvent>> {
  return Object.fromEntries(Object.entries(held).filter(([at]) => Number(at) > seq));
}

function withoutKey<Value>(record: Readonly<Record<string, Value>>, key: string): Readonly<Record<string, Value>> {
  if (!(key in record)) return record;
  const { [key]: _, ...rest } = record;
  return rest;
}
