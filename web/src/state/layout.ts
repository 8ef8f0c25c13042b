/**
 * How a window of messages is set: which ones open a day, which ones open a group of one author, where "New" stands.
 *
 * Days are those of the reader's clock.
 */

import type { Message, Seq } from '../protocol/words';

/** A pause after which the same author is named again: long enough to be another thought. */
const GROUP_PAUSE_MS = 5 * 60_000;

export interface Row {
  /** A day that begins with this message, as midnight of the reader's clock. */
  readonly dayMs: number | null;
  /** Shows author and time; the others of a group only the text. */
  readonly leads: boolean;
  /** The first message that the reader had not seen on coming here. */
  readonly isFirstNew: boolean;
}

/** `newAfter` is the seq that was read when the conversation was opened, or null for no divider. */
export function layout(messages: readonly Message[], newAfter: Seq | null, me: string | undefined): readonly Row[] {
  let dividerIsSet = newAfter === null;
  return messages.map((message, index) => {
    const before = messages[index - 1];
    const { dayMs } = timesOf(message);
    const isNewDay = !before || timesOf(before).dayMs !== dayMs;
    const isFirstNew = !dividerIsSet && message.seq > (newAfter ?? 0) && message.actor.id !== me;
    if (isFirstNew) dividerIsSet = true;
    return {
      dayMs: isNewDay ? dayMs : null,
      leads: isNewDay || isFirstNew || opensGroup(before, message),
      isFirstNew,
    };
  });
}

function opensGroup(before: Message, message: Message): boolean {
  return (
    before.actor.id !== message.actor.id ||
    before.actor.kind !== message.actor.kind ||
    message.reply_to !== null ||
    message.run !== null ||
    timesOf(message).atMs - timesOf(before).atMs > GROUP_PAUSE_MS
  );
}

interface Times {
  readonly atMs: number;
  readonly dayMs: number;
}

/** Messages are frozen values, so what follows from one is worked out once. */
const known = new WeakMap<Message, Times>();

function timesOf(message: Message): Times {
  const before = known.get(message);
  if (before) return before;
  const at = new Date(message.at);
  const times = { atMs: at.getTime(), dayMs: at.setHours(0, 0, 0, 0) };
  known.set(message, times);
  return times;
}
