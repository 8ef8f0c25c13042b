/**
 * JSON into the words of `words.ts`, for frames and REST bodies alike.
 *
 * What the client cannot do without (ids, seqs) throws `WrongShape`; everything else has a default, so a server that
 * knows more or fewer fields is no reason to show nothing.
 */

import { Reader } from './reading';
import type {
  Account,
  Actor,
  Attachment,
  Conversation,
  ConversationChange,
  ConversationSummary,
  EventBody,
  EventPage,
  LogEvent,
  Marks,
  Member,
  Mention,
  Message,
  MessagePage,
  Reaction,
  Role,
  Run,
  User,
} from './words';

const roles = ['owner', 'moderator', 'member', 'reader'] as const;
const studioRoles = ['admin', 'member', 'guest'] as const;
const endings = ['finished', 'stopped', 'failed', 'interrupted'] as const;
const runStatuses = ['running', ...endings] as const;

export function readUser(from: Reader): User {
  return { id: from.text('id'), username: from.text('username'), role: from.oneOf('role', studioRoles, 'member') };
}

export function readAccount(from: Reader): Account {
  return {
    ...readUser(from),
    email: from.textOr('email', null),
    has_password: from.is('has_password'),
  };
}

export function readActor(from: Reader): Actor {
  return {
    kind: from.oneOf('kind', ['user', 'model', 'plugin', 'system'] as const, 'system'),
    id: from.textOr('id', ''),
    name: from.textOr('name', ''),
  };
}

export function readSummary(from: Reader): ConversationSummary {
  return {
    id: from.text('id'),
    kind: from.oneOf('kind', ['room', 'private', 'assistant'] as const, 'room'),
    title: from.textOr('title', ''),
    visibility: from.oneOf('visibility', ['public', 'private'] as const, 'private'),
    role: readRole(from),
    head: from.count('head'),
    epoch: from.textOr('epoch', ''),
    read: from.countOr('read', 0),
    unread: from.countOr('unread', 0),
    peer: from.objectOr('peer', readUser, null),
    blocked_by_me: from.is('blocked_by_me'),
  };
}

export function readConversation(from: Reader): Conversation {
  return {
    ...readSummary(from),
    created_by: from.textOr('created_by', null),
    updated_at: from.textOr('updated_at', ''),
    member_count: from.countOr('member_count', 0),
    model: from.textOr('model', null),
    system_prompt: from.textOr('system_prompt', null),
    retention_days: from.countOr('retention_days', null),
  };
}

export function readMember(from: Reader): Member {
  return {
    user: from.object('user', readUser),
    role: readRole(from) ?? 'member',
    ...readMarks(from),
    presence: from.oneOf('presence', ['online', 'offline'] as const, 'offline'),
  };
}

/** What is read was delivered, also where nobody said so. */
export function readMarks(from: Reader): Marks {
  const read = from.countOr('read', 0);
  return { delivered: Math.max(from.countOr('delivered', 0), read), read };
}

export function readMessage(from: Reader): Message {
  return {
    id: from.text('id'),
    client_id: from.textOr('client_id', null),
    seq: from.count('seq'),
    at: from.textOr('at', ''),
    actor: from.object('actor', readActor),
    text: from.textOr('text', ''),
    edited_at: from.textOr('edited_at', null),
    deleted_at: from.textOr('deleted_at', null),
    reply_to: from.textOr('reply_to', null),
    thread: from.textOr('thread', null),
    reactions: inOrder(from.list('reactions', readReaction)),
    attachments: from.list('attachments', readAttachment),
    mentions: from.list('mentions', readMention),
    people_only: from.is('people_only'),
    pinned: from.is('pinned'),
    run: from.objectOr('run', readRun, null),
  };
}

export function readMessagePage(from: Reader): MessagePage {
  return {
    messages: from.list('messages', readMessage),
    head: from.count('head'),
    epoch: from.textOr('epoch', ''),
    has_more: from.is('has_more'),
  };
}

export function readEventPage(from: Reader): EventPage {
  return { events: from.list('events', readEvent), head: from.count('head'), epoch: from.textOr('epoch', '') };
}

export function readEvent(from: Reader): LogEvent {
  const happening = { seq: from.count('seq'), at: from.textOr('at', ''), actor: from.object('actor', readActor) };
  return { ...happening, ...readEventBody(from.text('kind'), from) };
}

function readEventBody(kind: string, from: Reader): EventBody {
  switch (kind) {
    case 'message.created':
      return { kind, data: from.object('data', readMessageCreated) };
    case 'message.edited':
      return {
        kind,
        data: from.object('data', (data) => ({
          id: data.text('id'),
          text: data.textOr('text', ''),
          redacted: data.is('redacted'),
        })),
      };
    case 'message.deleted':
      return { kind, data: from.object('data', (data) => ({ id: data.text('id') })) };
    case 'reaction.added':
    case 'reaction.removed':
      return { kind, data: from.object('data', (data) => ({ id: data.text('id'), emoji: data.text('emoji') })) };
    case 'message.pinned':
      return { kind, data: from.object('data', (data) => ({ id: data.text('id'), on: data.is('on') })) };
    case 'member.joined':
      return {
        kind,
        data: from.object('data', (data) => ({
          user: data.text('user'),
          username: data.textOr('username', ''),
          role: readRole(data) ?? 'member',
        })),
      };
    case 'member.left':
      return { kind, data: from.object('data', (data) => ({ user: data.text('user'), by: data.textOr('by', '') })) };
    case 'member.role':
      return {
        kind,
        data: from.object('data', (data) => ({ user: data.text('user'), role: readRole(data) ?? 'member' })),
      };
    case 'conversation.updated':
      return { kind, data: from.object('data', readChange) };
    case 'conversation.deleted':
      return { kind, data: {} };
    case 'run.started':
      return {
        kind,
        data: from.object('data', (data) => ({
          run: data.text('run'),
          message: data.text('message'),
          model: data.textOr('model', ''),
          reply_to: data.textOr('reply_to', null),
        })),
      };
    case 'run.steered':
      return { kind, data: from.object('data', (data) => ({ run: data.text('run'), text: data.textOr('text', '') })) };
    case 'run.ended':
      return { kind, data: from.object('data', readRunEnded) };
    default:
      return { kind: 'unknown', data: null };
  }
}

function readMessageCreated(data: Reader) {
  return {
    id: data.text('id'),
    client_id: data.textOr('client_id', null),
    text: data.textOr('text', ''),
    reply_to: data.textOr('reply_to', null),
    thread: data.textOr('thread', null),
    attachments: data.list('attachments', readAttachment),
    mentions: data.list('mentions', readMention),
    people_only: data.is('people_only'),
  };
}

function readChange(data: Reader): ConversationChange {
  return {
    ...(data.has('title') && { title: data.textOr('title', '') }),
    ...(data.has('visibility') && { visibility: data.oneOf('visibility', ['public', 'private'] as const, 'private') }),
    ...(data.has('model') && { model: data.textOr('model', null) }),
    ...(data.has('system_prompt') && { system_prompt: data.textOr('system_prompt', null) }),
    ...(data.has('retention_days') && { retention_days: data.countOr('retention_days', null) }),
  };
}

function readRunEnded(data: Reader) {
  return {
    run: data.text('run'),
    message: data.text('message'),
    status: data.oneOf('status', endings, 'finished'),
    text: data.textOr('text', ''),
    error: readRunError(data),
  };
}

function readRun(from: Reader): Run {
  return {
    id: from.text('id'),
    model: from.textOr('model', ''),
    status: from.oneOf('status', runStatuses, 'finished'),
    reply_to: from.textOr('reply_to', null),
    error: readRunError(from),
  };
}

/** A run's error is a sentence, or an object that holds one. */
function readRunError(from: Reader): string | null {
  const sentence = from.textOr('error', null);
  if (sentence !== null) return sentence;
  try {
    return from.objectOr(
      'error',
      (error) => error.textOr('message', null) ?? error.textOr('detail', null) ?? error.textOr('code', null),
      null,
    );
  } catch {
    return null;
  }
}

function readRole(from: Reader): Role | null {
  return roles.find((role) => role === from.textOr('role', null)) ?? null;
}

function readReaction(from: Reader): Reaction {
  return { emoji: from.text('emoji'), users: from.texts('users') };
}

/** By emoji, users by id: the order in which reactions stand whatever way they came. */
export function inOrder(reactions: readonly Reaction[]): readonly Reaction[] {
  return reactions
    .map(({ emoji, users }) => ({ emoji, users: [...users].sort() }))
    .sort((one, other) => (one.emoji < other.emoji ? -1 : 1));
}

function readAttachment(from: Reader): Attachment {
  return {
    id: from.text('id'),
    name: from.textOr('name', ''),
    size: from.countOr('size', 0),
    media_type: from.textOr('media_type', ''),
  };
}

function readMention(from: Reader): Mention {
  return {
    kind: from.oneOf('kind', ['user', 'model'] as const, 'user'),
    id: from.text('id'),
    start: from.countOr('start', 0),
    end: from.countOr('end', 0),
  };
}
