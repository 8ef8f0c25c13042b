/**
 * What the fragment of the address says: a one-time link, or the conversation that is open.
 *
 * A fragment never reaches a server, so a link's token stands in no log; it is taken out of the address before anything else.
 */

import type { ConversationId } from '../protocol/words';

export interface OneTimeLink {
  readonly kind: 'sign-in' | 'reset' | 'set-up' | 'invitation';
  readonly token: string;
}

export function readLink(fragment: string): OneTimeLink | null {
  const [, kind, token] = /^#(sign-in|reset|set-up|invitation)=(.+)$/.exec(fragment) ?? [];
  if (!kind || !token) return null;
  return { kind: kind as OneTimeLink['kind'], token: decode(token) };
}

export function readPlace(fragment: string): ConversationId | null {
  const [, id] = /^#\/c\/([^/]+)$/.exec(fragment) ?? [];
  return id ? decode(id) : null;
}

export function placeFragment(conversation: ConversationId | null): string {
  return conversation === null ? '#/' : `#/c/${encodeURIComponent(conversation)}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
