/**
 * `reduce(studio, input, nowMs)`: the studio after a frame from the server or a step of our own.
 *
 * Promises: pure, so the same inputs give the same studio; what changes nothing returns the same object. Inputs of our own
 * are called `local.…` and never come over the wire.
 */

import type { ServerFrame } from '../protocol/frames';
import type {
  Conversation,
  ConversationId,
  EventPage,
  LogEvent,
  Member,
  Message,
  MessageId,
  MessagePage,
  Seq,
  User,
  UserId,
} from '../protocol/words';
import {
  applyHeld,
  fromSummary,
  isBehind,
  readUpTo,
  receive,
  receiveLog,
  resetTo,
  rest,
  withDetails,
  withNeighbourPage,
  withNewestPage,
  withPageAround,
  withQuoted,
  withSummary,
} from './conversation';
import {
  acknowledge,
  reduceOutbox,
  refuse,
  settleAcknowledged,
  settleEvent,
  settlePage,
  type OutboxInput,
} from './outbox';
import { withMarks } from './receipts';
import { applyDelta } from './streams';
import { MAX_ENDED_RUNS, TYPING_MS, type ConversationState, type Studio } from './studio';

interface In {
  readonly conversation: ConversationId;
}

/** Where a page belongs: `around` begins a window of its own. */
export type PagePlace = 'newest' | 'older' | 'newer' | 'around';

export type LocalInput =
  | OutboxInput
  | { readonly type: 'local.signed_in'; readonly user: User }
  | { readonly type: 'local.conversations'; readonly conversations: readonly Conversation[] }
  | (In & { readonly type: 'local.page'; readonly place: PagePlace; readonly page: MessagePage })
  | (In & { readonly type: 'local.log'; readonly page: EventPage })
  | (In & { readonly type: 'local.quoted'; readonly message: Message })
  | (In & { readonly type: 'local.members'; readonly members: readonly Member[] })
  | (In & { readonly type: 'local.read'; readonly seq: Seq })
  | (In & { readonly type: 'local.follows'; readonly follows: boolean })
  | (In & { readonly type: 'local.closed' })
  | { readonly type: 'local.blocked'; readonly user: UserId; readonly on: boolean }
  | { readonly type: 'local.tick' };

export type Input = ServerFrame | LocalInput;

export function reduce(studio: Studio, input: Input, nowMs: number): Studio {
  switch (input.type) {
    case 'local.signed_in':
      return { ...studio, me: input.user, names: { ...studio.names, [input.user.id]: input.user.username } };
    case 'welcome':
      return welcome(studio, input.user, input.conversations);
    case 'local.conversations':
      return input.conversations.reduce((before, one) => describe(before, one), studio);
    case 'conversation.added':
      return put(
        studio,
        withSummary(studio.conversations[input.conversation.id] ?? fromSummary(input.conversation), input.conversation),
      );
    case 'conversation.removed':
      return remove(studio, input.conversation);
    case 'subscribed':
      return Object.entries(input.conversations).reduce((before, [id, answer]) => {
        if ('error' in answer) return answer.error === 'not_found' ? remove(before, id) : before;
        return at(before, id, (state) =>
          answer.reset ? resetTo(state, answer.head, answer.epoch) : seen(state, answer.head),
        );
      }, studio);
    case 'event':
      return receiveEvent(studio, input.conversation, input.event);
    case 'local.log':
      return input.page.events.reduce(
        (before, event) => known(before, event),
        settled(
          at(studio, input.conversation, (state) => receiveLog(state, input.page, studio.me?.id)),
          input.conversation,
          input.page.events,
        ),
      );
    case 'local.page':
      return receivePage(studio, input.conversation, input.place, input.page);
    case 'delta':
      if (studio.endedRuns.includes(input.run)) return studio;
      return at(studio, input.conversation, (state) => {
        const before = state.streams[input.message];
        if (!before && hasEnded(state, input.message)) return state;
        const after = applyDelta(before, input);
        return after === before ? state : { ...state, streams: { ...state.streams, [input.message]: after } };
      });
    case 'typing':
      if (input.user === studio.me?.id) return studio;
      return at(studio, input.conversation, (state) => ({
        ...state,
        typing: typing(state, input.user, input.on, nowMs),
      }));
    case 'presence':
      return present(studio, input);
    case 'receipt':
      return at(studio, input.conversation, (state) =>
        input.user === studio.me?.id ? readUpTo(state, input.read, input.user) : withMarks(state, input.user, input),
      );
    case 'heads':
      return Object.entries(input.conversations).reduce(
        (before, [id, head]) => at(before, id, (state) => seen(state, head)),
        studio,
      );
    case 'reset':
      return at(studio, input.conversation, (state) => resetTo(state, input.head, input.epoch));
    case 'local.quoted':
      return at(studio, input.conversation, (state) => withQuoted(state, input.message));
    case 'local.members':
      return learnMembers(studio, input.conversation, input.members);
    case 'local.read':
      return at(studio, input.conversation, (state) => readUpTo(state, input.seq, studio.me?.id));
    case 'local.follows':
      return at(studio, input.conversation, (state) =>
        !state.timeline || state.timeline.follows === input.follows
          ? state
          : { ...state, timeline: { ...state.timeline, follows: input.follows } },
      );
    case 'local.blocked':
      return Object.values(studio.conversations)
        .filter(({ kind, peer }) => kind === 'private' && peer?.id === input.user)
        .reduce((before, state) => put(before, { ...state, blockedByMe: input.on }), studio);
    case 'local.closed':
      return at(studio, input.conversation, rest);
    case 'local.tick':
      return Object.values(studio.conversations).reduce((before, state) => {
        const typing = fresh(state, nowMs);
        return typing === state.typing ? before : put(before, { ...state, typing });
      }, studio);
    case 'ack':
      return settleIn(withOutbox(studio, acknowledge(studio.outbox, input)), conversationOf(studio, input.id));
    case 'error':
      return withOutbox(studio, refuse(studio.outbox, input, nowMs));
    case 'local.send':
    case 'local.outbox_restored':
    case 'local.sent':
    case 'local.disconnected':
    case 'local.retry':
    case 'local.discard':
      return withOutbox(studio, reduceOutbox(studio.outbox, input));
    case 'pong':
    case 'drain':
      return studio;
  }
}

function welcome(
  studio: Studio,
  me: User,
  summaries: Extract<ServerFrame, { type: 'welcome' }>['conversations'],
): Studio {
  const mine = new Set(summaries.map((summary) => summary.id));
  const kept = Object.fromEntries(Object.entries(studio.conversations).filter(([id]) => mine.has(id)));
  const start: Studio = { ...studio, me, names: { ...studio.names, [me.id]: me.username }, conversations: kept };
  return summaries.reduce((before, summary) => {
    const state = before.conversations[summary.id];
    return put(before, state ? withSummary(state, summary) : fromSummary(summary));
  }, start);
}

function describe(studio: Studio, conversation: Conversation): Studio {
  return put(studio, withDetails(studio.conversations[conversation.id] ?? fromSummary(conversation), conversation));
}

function receiveEvent(studio: Studio, id: ConversationId, event: LogEvent): Studio {
  if (event.kind === 'conversation.deleted') return remove(studio, id);
  const next = at(studio, id, (state) => receive(state, event, studio.me?.id));
  return settled(known(next, event), id, [event]);
}

function receivePage(studio: Studio, id: ConversationId, place: PagePlace, page: MessagePage): Studio {
  const next = at(studio, id, (state) => {
    if (place === 'around') return withPageAround(state, page);
    if (place !== 'newest') return withNeighbourPage(state, page, place);
    return applyHeld(withNewestPage(state, page), studio.me?.id);
  });
  const names = {
    ...next.names,
    ...Object.fromEntries(
      page.messages.filter(({ actor }) => actor.kind === 'user').map(({ actor }) => [actor.id, actor.name]),
    ),
  };
  return settleIn({ ...next, names, outbox: settlePage(next.outbox, page.messages, next.me?.id) }, id);
}

/** What an event teaches about people and runs, wherever it stands in the order. */
function known(studio: Studio, event: LogEvent): Studio {
  if (event.kind === 'run.ended') {
    if (studio.endedRuns.includes(event.data.run)) return studio;
    return { ...studio, endedRuns: [...studio.endedRuns.slice(1 - MAX_ENDED_RUNS), event.data.run] };
  }
  const [id, name] =
    event.kind === 'member.joined'
      ? [event.data.user, event.data.username]
      : event.actor.kind === 'user'
        ? [event.actor.id, event.actor.name]
        : ['', ''];
  return !name || studio.names[id] === name ? studio : { ...studio, names: { ...studio.names, [id]: name } };
}

function settled(studio: Studio, id: ConversationId, events: readonly LogEvent[]): Studio {
  return settleIn(
    withOutbox(
      studio,
      events.reduce((outbox, event) => settleEvent(outbox, event, studio.me?.id), studio.outbox),
    ),
    id,
  );
}

function settleIn(studio: Studio, id: ConversationId | undefined): Studio {
  const state = id === undefined ? undefined : studio.conversations[id];
  return state ? withOutbox(studio, settleAcknowledged(studio.outbox, state)) : studio;
}

function conversationOf(studio: Studio, clientId: string): ConversationId | undefined {
  return studio.outbox.find((entry) => entry.frame.id === clientId)?.frame.conversation;
}

/** A late delta, after a page that shows the answer whole. */
function hasEnded(state: ConversationState, id: MessageId): boolean {
  const run = state.timeline?.messages.findLast((message) => message.id === id)?.run;
  return run ? run.status !== 'running' : false;
}

function learnMembers(studio: Studio, id: ConversationId, members: readonly Member[]): Studio {
  const names = { ...studio.names, ...Object.fromEntries(members.map(({ user }) => [user.id, user.username])) };
  const presence = {
    ...studio.presence,
    ...Object.fromEntries(members.map((member) => [member.user.id, member.presence])),
  };
  return at({ ...studio, names, presence }, id, (state) => {
    const others = members.filter(({ user }) => user.id !== studio.me?.id);
    const marked = others.reduce((before, member) => withMarks(before, member.user.id, member), state);
    return { ...marked, members, memberCount: members.length };
  });
}

/** One person here or gone; or, in a conversation too large for that, only how many are here. */
function present(studio: Studio, { conversation, user, state, count }: Extract<Input, { type: 'presence' }>): Studio {
  const next =
    user === null || studio.presence[user] === state
      ? studio
      : { ...studio, presence: { ...studio.presence, [user]: state } };
  return at(next, conversation, (before) =>
    before.hereCount === count ? before : { ...before, hereCount: count },
  );
}

function typing(state: ConversationState, user: string, on: boolean, nowMs: number): ConversationState['typing'] {
  const { [user]: _, ...others } = state.typing;
  return on ? { ...others, [user]: nowMs + TYPING_MS } : others;
}

function fresh(state: ConversationState, nowMs: number): ConversationState['typing'] {
  const left = Object.entries(state.typing).filter(([, until]) => until > nowMs);
  return left.length === Object.keys(state.typing).length ? state.typing : Object.fromEntries(left);
}

function seen(state: ConversationState, head: Seq): ConversationState {
  return head > state.head ? { ...state, head } : state;
}

function at(studio: Studio, id: ConversationId, step: (state: ConversationState) => ConversationState): Studio {
  const state = studio.conversations[id];
  return state ? put(studio, step(state)) : studio;
}

function put(studio: Studio, state: ConversationState): Studio {
  if (studio.conversations[state.id] === state) return studio;
  return { ...studio, conversations: { ...studio.conversations, [state.id]: state } };
}

function remove(studio: Studio, id: ConversationId): Studio {
  if (!(id in studio.conversations)) return studio;
  const { [id]: _, ...conversations } = studio.conversations;
  return { ...studio, conversations, outbox: studio.outbox.filter((entry) => entry.frame.conversation !== id) };
}

function withOutbox(studio: Studio, outbox: Studio['outbox']): Studio {
  return outbox === studio.outbox ? studio : { ...studio, outbox };
}

/** Conversations for which something has to be fetched. */
export function behind(studio: Studio): readonly ConversationState[] {
  return Object.values(studio.conversations).filter((state) => isBehind(state) || state.isStale);
}
