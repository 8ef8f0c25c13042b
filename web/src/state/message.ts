/**
 * One message: born from an event, changed by later ones.
 *
 * Promises: applying an event twice changes nothing more, and an event that the message already contains (because a newer
 * page was read) does no harm once all events up to that page have been applied again.
 */

import { inOrder } from '../protocol/read-words';
import type { LogEvent, Message, Reaction, RunEnded, UserId } from '../protocol/words';

/** The message that this event creates, or null. */
export function messageFrom(event: LogEvent): Message | null {
  switch (event.kind) {
    case 'message.created':
      return {
        ...event.data,
        seq: event.seq,
        at: event.at,
        actor: event.actor,
        edited_at: null,
        deleted_at: null,
        reactions: [],
        pinned: false,
        run: null,
      };
    case 'run.started':
      return {
        id: event.data.message,
        client_id: null,
        seq: event.seq,
        at: event.at,
        // The event's actor is whoever asked; the message is the model's.
        actor: { kind: 'model', id: event.data.model, name: event.data.model },
        text: '',
        edited_at: null,
        deleted_at: null,
        reply_to: event.data.reply_to,
        thread: null,
        reactions: [],
        attachments: [],
        mentions: [],
        people_only: false,
        pinned: false,
        run: {
          id: event.data.run,
          model: event.data.model,
          status: 'running',
          reply_to: event.data.reply_to,
          error: null,
        },
      };
    default:
      return null;
  }
}

/** The id of the message that this event changes, or null. */
export function changedMessage(event: LogEvent): string | null {
  switch (event.kind) {
    case 'message.edited':
    case 'message.deleted':
    case 'message.pinned':
    case 'reaction.added':
    case 'reaction.removed':
      return event.data.id;
    case 'run.ended':
      return event.data.message;
    default:
      return null;
  }
}

/** The message after the event; the same object where nothing changed. */
export function change(message: Message, event: LogEvent): Message {
  if (changedMessage(event) !== message.id) return message;
  if (event.kind === 'run.ended') return ended(message, event.data);
  if (message.deleted_at !== null) return message;
  switch (event.kind) {
    case 'message.edited':
      // A redacted edit is one whose deletion follows: its blank text would only flicker.
      return {
        ...message,
        text: event.data.redacted ? message.text : event.data.text,
        edited_at: event.at,
        mentions: [], // their places were those in the text before
      };
    case 'message.deleted':
      return {
        ...message,
        text: '',
        mentions: [],
        attachments: [],
        reactions: [],
        pinned: false,
        deleted_at: event.at,
      };
    case 'message.pinned':
      return message.pinned === event.data.on ? message : { ...message, pinned: event.data.on };
    case 'reaction.added':
      return { ...message, reactions: withReaction(message.reactions, event.data.emoji, event.actor.id) };
    case 'reaction.removed':
      return { ...message, reactions: withoutReaction(message.reactions, event.data.emoji, event.actor.id) };
    default:
      return message;
  }
}

function ended(message: Message, { status, error, text }: RunEnded): Message {
  return {
    ...message,
    text: message.deleted_at === null ? text : '',
    run: message.run && { ...message.run, status, error },
  };
}

function withReaction(reactions: readonly Reaction[], emoji: string, user: UserId): readonly Reaction[] {
  const present = reactions.find((reaction) => reaction.emoji === emoji);
  if (present?.users.includes(user)) return reactions;
  const others = reactions.filter((reaction) => reaction !== present);
  return inOrder([...others, { emoji, users: [...(present?.users ?? []), user] }]);
}

function withoutReaction(reactions: readonly Reaction[], emoji: string, user: UserId): readonly Reaction[] {
  return reactions
    .map((reaction) =>
      reaction.emoji === emoji ? { emoji, users: reaction.users.filter((other) => other !== user) } : reaction,
    )
    .filter((reaction) => reaction.users.length > 0);
}
