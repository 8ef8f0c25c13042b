/** Which names a message mentions, for the highlighting of its text. */

import type { Message, UserId } from '../protocol/words';
import type { MentionedNames } from './markdown';

/** From the server's offsets (code points), or from the known name where an edit has moved the text. */
export function mentionedNames(
  message: Pick<Message, 'text' | 'mentions'>,
  names: Readonly<Record<UserId, string>>,
  me: UserId | undefined,
): MentionedNames {
  if (message.mentions.length === 0) return none;
  const characters = [...message.text];
  const found = new Map<string, { isMe: boolean }>();
  for (const { kind, id, start, end } of message.mentions) {
    const isMe = kind === 'user' && id === me;
    const written = characters.slice(start, end).join('');
    const name = written.startsWith('@') ? written.slice(1) : kind === 'model' ? id : names[id];
    if (name) found.set(name.toLowerCase(), { isMe });
  }
  return found;
}

export function mentionsMe(message: Pick<Message, 'mentions'>, me: UserId | undefined): boolean {
  return message.mentions.some(({ kind, id }) => kind === 'user' && id === me);
}

const none: MentionedNames = new Map();
