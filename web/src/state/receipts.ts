/**
 * How far my messages have come with the others: accepted by the studio, delivered to a device, read.
 *
 * Promises: a message never comes down the ladder, in whatever order receipts arrive, since marks only grow.
 */

import type { Marks, Message, Seq, UserId } from '../protocol/words';
import type { ConversationState } from './studio';

/** In a larger room nobody follows single readers, and the server tells of none. */
export const MAX_FOLLOWED_MEMBERS = 50;

export type Rung = 'accepted' | 'delivered' | 'read';

const nowhere: Marks = { delivered: 0, read: 0 };

export function withMarks(state: ConversationState, user: UserId, { delivered, read }: Marks): ConversationState {
  const before = state.marks[user] ?? nowhere;
  if (delivered <= before.delivered && read <= before.read) return state;
  const after = { delivered: Math.max(before.delivered, delivered), read: Math.max(before.read, read) };
  return { ...state, marks: { ...state.marks, [user]: after } };
}

/** Where a message of mine stands in a private chat. */
export function rungOf(seq: Seq, { delivered, read }: Marks = nowhere): Rung {
  if (seq <= read) return 'read';
  return seq <= delivered ? 'delivered' : 'accepted';
}

/** My newest message that was read: the one whose mark stands for all before it. */
export function lastRead(messages: readonly Message[], me: UserId, { read }: Marks = nowhere): Seq {
  const last = messages.findLast(
    ({ seq, actor, deleted_at }) =>
      seq <= read && actor.kind === 'user' && actor.id === me && deleted_at === null,
  );
  return last?.seq ?? 0;
}

/** Who has read up to there, the author left out. */
export function seenBy(marks: ConversationState['marks'], { seq, actor }: Pick<Message, 'seq' | 'actor'>): UserId[] {
  return Object.entries(marks)
    .filter(([user, { read }]) => read >= seq && user !== actor.id)
    .map(([user]) => user);
}
