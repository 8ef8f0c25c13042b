/** Studios to begin with. */

import type { Message } from '../../src/protocol/words';
import { reduce, type Input } from '../../src/state/reduce';
import { emptyStudio, type ConversationState, type Studio } from '../../src/state/studio';
import { EPOCH, me } from './model-server';

export const ROOM = 'c-room';

export function summary(more: Partial<{ id: string; head: number; read: number; unread: number; epoch: string }> = {}) {
  return {
    id: ROOM,
    kind: 'room',
    title: 'Room',
    visibility: 'public',
    role: 'owner',
    head: 0,
    epoch: EPOCH,
    read: 0,
    unread: 0,
    peer: null,
    blocked_by_me: false,
    ...more,
  } as const;
}

/** Welcomed, with one room whose log stands at `head`. */
export function welcomed(head = 0, more: Partial<{ read: number; unread: number }> = {}): Studio {
  return reduce(emptyStudio, { type: 'welcome', user: me, conversations: [summary({ head, ...more })] }, 0);
}

export function play(studio: Studio, inputs: readonly Input[], nowMs = 0): Studio {
  return inputs.reduce((before, input) => reduce(before, input, nowMs), studio);
}

export function room(studio: Studio): ConversationState {
  const state = studio.conversations[ROOM];
  if (!state) throw new Error('the room is gone');
  return state;
}

export function messages(studio: Studio): readonly Message[] {
  return room(studio).timeline?.messages ?? [];
}
