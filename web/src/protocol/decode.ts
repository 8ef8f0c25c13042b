/**
 * The text of one server frame into a typed frame.
 *
 * Out: the frame, or null for one to be ignored: a type that this client does not know. A frame of a known type with a
 * broken shape throws `WrongShape`, and something that is no JSON throws `SyntaxError`: both are faults of the server.
 */

import type { ServerFrame, SubscribedTo } from './frames';
import { readEvent, readMarks, readSummary, readUser } from './read-words';
import { Reader } from './reading';

export function decodeFrame(text: string): ServerFrame | null {
  const from = new Reader(JSON.parse(text), 'frame');
  const type = from.text('type');
  switch (type) {
    case 'event':
      return { type, conversation: from.text('conversation'), event: readEvent(from) };
    case 'delta':
      return {
        type,
        conversation: from.text('conversation'),
        run: from.text('run'),
        message: from.text('message'),
        part: from.countOr('part', 0),
        kind: from.textOr('kind', 'text'),
        from: from.count('from'),
        text: from.text('text'),
      };
    case 'welcome':
      return { type, user: from.object('user', readUser), conversations: from.list('conversations', readSummary) };
    case 'subscribed':
      return {
        type,
        id: from.textOr('id', ''),
        conversations: Object.fromEntries(
          from.entries('conversations').map(([id, answer]) => [id, readAnswer(new Reader(answer))]),
        ),
      };
    case 'ack':
      return { type, id: from.text('id'), seq: from.countOr('seq', null), message: from.textOr('message', null) };
    case 'error':
      return {
        type,
        id: from.textOr('id', null),
        code: from.textOr('code', 'internal'),
        message: from.textOr('message', ''),
        retryable: from.is('retryable'),
        retry_after_s: from.numberOr('retry_after_s', null),
      };
    case 'pong':
      return { type };
    case 'conversation.added':
      return { type, conversation: from.object('conversation', readSummary) };
    case 'conversation.removed':
      return { type, conversation: from.text('conversation'), code: from.textOr('code', '') };
    case 'typing':
      return { type, conversation: from.text('conversation'), user: from.text('user'), on: from.is('on') };
    case 'presence':
      return {
        type,
        conversation: from.textOr('conversation', ''),
        user: from.textOr('user', null),
        state: from.oneOf('state', ['online', 'offline'] as const, 'offline'),
        count: from.countOr('count', null),
      };
    case 'receipt':
      return { type, conversation: from.text('conversation'), user: from.text('user'), ...readMarks(from) };
    case 'heads':
      return {
        type,
        conversations: Object.fromEntries(
          from.entries('conversations').filter((entry): entry is [string, number] => Number.isSafeInteger(entry[1])),
        ),
      };
    case 'reset':
      return {
        type,
        conversation: from.text('conversation'),
        head: from.count('head'),
        epoch: from.textOr('epoch', ''),
      };
    case 'drain':
      return { type, reconnect_in_ms: from.countOr('reconnect_in_ms', 0) };
    default:
      return null;
  }
}

function readAnswer(from: Reader): SubscribedTo {
  const error = from.textOr('error', null);
  if (error !== null) return { error };
  return {
    head: from.count('head'),
    epoch: from.textOr('epoch', ''),
    reset: from.is('reset'),
    read: from.countOr('read', 0),
  };
}
