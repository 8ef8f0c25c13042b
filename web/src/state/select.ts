/** Views of the studio that several screens share. */

import type { ConversationId, Message, UserId } from '../protocol/words';
import type { ConversationState, OutboxEntry, Studio } from './studio';

/** The title of the room that every studio begins with. */
export const WELCOME_ROOM = 'Welcome';

export interface Sections {
  readonly rooms: readonly ConversationState[];
  readonly privateChats: readonly ConversationState[];
  readonly assistants: readonly ConversationState[];
}

/** Rooms keep their place (by name), so the list stays calm; the others come newest first. */
export function sections(conversations: Studio['conversations']): Sections {
  const all = Object.values(conversations);
  return {
    rooms: all.filter(({ kind }) => kind === 'room').sort((one, other) => titleOf(one).localeCompare(titleOf(other))),
    privateChats: all.filter(({ kind }) => kind === 'private').sort(newestFirst),
    assistants: all.filter(({ kind }) => kind === 'assistant').sort(newestFirst),
  };
}

export function titleOf(conversation: Pick<ConversationState, 'kind' | 'title' | 'peer'>): string {
  if (conversation.kind === 'private') return conversation.peer?.username ?? (conversation.title || 'Private chat');
  return conversation.title || (conversation.kind === 'assistant' ? 'New conversation' : 'Untitled room');
}

export function totalUnread(studio: Studio): number {
  return Object.values(studio.conversations).reduce((sum, { unread }) => sum + unread, 0);
}

/** Where a person lands who asked for nothing in particular: the room made for newcomers, else the first there is. */
export function landing(studio: Studio): ConversationId | null {
  const { rooms, assistants, privateChats } = sections(studio.conversations);
  const welcome = rooms.find(({ title }) => title === WELCOME_ROOM);
  return (welcome ?? rooms[0] ?? privateChats[0] ?? assistants[0])?.id ?? null;
}

export function typingNames(studio: Studio, conversation: ConversationState): readonly string[] {
  return Object.keys(conversation.typing).map((id) => studio.names[id] ?? 'Someone');
}

/** "Ada is typing…", "Ada and Bo are typing…", "Several people are typing…", or nothing. */
export function typingLine(names: readonly string[]): string {
  const [one, two] = names;
  if (one === undefined) return '';
  if (two === undefined) return `${one} is typing…`;
  return names.length === 2 ? `${one} and ${two} are typing…` : 'Several people are typing…';
}

export function pendingIn(studio: Studio, conversation: ConversationId): readonly OutboxEntry[] {
  return studio.outbox.filter((entry) => entry.frame.conversation === conversation);
}

/** My newest message that can still be changed: what the up arrow edits. */
export function lastOwn(messages: readonly Message[], me: UserId | undefined): Message | undefined {
  return messages.findLast(
    (message) => message.actor.kind === 'user' && message.actor.id === me && message.deleted_at === null,
  );
}

function newestFirst(one: ConversationState, other: ConversationState): number {
  return one.updatedAt === other.updatedAt
    ? titleOf(one).localeCompare(titleOf(other))
    : one.updatedAt < other.updatedAt
      ? 1
      : -1;
}
