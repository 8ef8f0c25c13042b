/**
 * Messages on their way: waiting → sent → acknowledged → gone, when the log shows them; or failed, until the person decides.
 *
 * Promises: an entry leaves only when its message was seen in the log, was acknowledged at or below the cursor, or was
 * thrown away by the person. Its client id never changes, so the server stores it once however often it is sent.
 */

import type { Ack, ErrorFrame, SendFrame } from '../protocol/frames';
import type { ClientId, LogEvent, Message, UserId } from '../protocol/words';
import type { ConversationState, OutboxEntry, Studio } from './studio';

export type OutboxInput =
  | { readonly type: 'local.send'; readonly frame: SendFrame; readonly at: string }
  | { readonly type: 'local.outbox_restored'; readonly entries: readonly OutboxEntry[] }
  | { readonly type: 'local.sent'; readonly id: ClientId }
  | { readonly type: 'local.disconnected' }
  | { readonly type: 'local.retry' | 'local.discard'; readonly id: ClientId };

const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 30_000; // a database that is away comes back within that, and nobody wants to wait longer

export function newEntry(frame: SendFrame, at: string): OutboxEntry {
  return { frame, at, status: 'waiting', seq: null, code: null, detail: null, retryAtMs: 0, attempts: 0 };
}

export function reduceOutbox(outbox: readonly OutboxEntry[], input: OutboxInput): readonly OutboxEntry[] {
  switch (input.type) {
    case 'local.send':
      return outbox.some((entry) => entry.frame.id === input.frame.id)
        ? outbox
        : [...outbox, newEntry(input.frame, input.at)];
    case 'local.outbox_restored': {
      const known = new Set(outbox.map((entry) => entry.frame.id));
      return [...input.entries.filter((entry) => !known.has(entry.frame.id)), ...outbox];
    }
    case 'local.sent':
      return changeEntry(outbox, input.id, (entry) => ({ ...entry, status: 'sent' }));
    case 'local.disconnected':
      return outbox.some(waitsForConnection) ? outbox.map(withNextConnection) : outbox;
    case 'local.retry':
      return changeEntry(outbox, input.id, (entry) => ({ ...newEntry(entry.frame, entry.at) }));
    case 'local.discard':
      return outbox.filter((entry) => entry.frame.id !== input.id);
  }
}

/** Unanswered, or refused by a server that was about to go. */
function waitsForConnection({ status, code }: OutboxEntry): boolean {
  return status === 'sent' || (status === 'waiting' && code === 'draining');
}

function withNextConnection(entry: OutboxEntry): OutboxEntry {
  return waitsForConnection(entry) ? { ...entry, status: 'waiting', code: null, attempts: 0, retryAtMs: 0 } : entry;
}

export function acknowledge(outbox: readonly OutboxEntry[], ack: Ack): readonly OutboxEntry[] {
  return changeEntry(outbox, ack.id, (entry) => ({ ...entry, status: 'acknowledged', seq: ack.seq }));
}

export function refuse(outbox: readonly OutboxEntry[], error: ErrorFrame, nowMs: number): readonly OutboxEntry[] {
  if (error.id === null) return outbox;
  return changeEntry(outbox, error.id, (entry) => ({
    ...entry,
    status: error.retryable ? 'waiting' : 'failed',
    code: error.code,
    detail: error.message,
    attempts: entry.attempts + 1,
    retryAtMs:
      nowMs +
      (error.retry_after_s !== null
        ? error.retry_after_s * 1_000
        : Math.min(FIRST_RETRY_MS * 2 ** entry.attempts, MAX_RETRY_MS)),
  }));
}

/** Without the entry whose message this event shows. */
export function settleEvent(
  outbox: readonly OutboxEntry[],
  event: LogEvent,
  me: UserId | undefined,
): readonly OutboxEntry[] {
  if (event.kind !== 'message.created' || event.actor.id !== me) return outbox;
  return without(outbox, (entry) => entry.frame.id === event.data.client_id);
}

export function settlePage(
  outbox: readonly OutboxEntry[],
  messages: readonly Message[],
  me: UserId | undefined,
): readonly OutboxEntry[] {
  const seen = new Set(messages.filter((message) => message.actor.id === me).map((message) => message.client_id));
  return without(outbox, (entry) => seen.has(entry.frame.id));
}

/** Without what is acknowledged and already part of what the conversation shows. */
export function settleAcknowledged(
  outbox: readonly OutboxEntry[],
  conversation: ConversationState,
): readonly OutboxEntry[] {
  return without(
    outbox,
    (entry) =>
      entry.frame.conversation === conversation.id &&
      entry.status === 'acknowledged' &&
      (entry.seq ?? 0) <= conversation.cursor,
  );
}

/** What may go out now, oldest first. */
export function due(studio: Studio, nowMs: number): readonly OutboxEntry[] {
  return studio.outbox.filter((entry) => entry.status === 'waiting' && entry.retryAtMs <= nowMs);
}

/** When the next waiting entry may go out, or null. */
export function nextDueMs(studio: Studio): number | null {
  const times = studio.outbox.filter((entry) => entry.status === 'waiting').map((entry) => entry.retryAtMs);
  return times.length === 0 ? null : Math.min(...times);
}

function changeEntry(
  outbox: readonly OutboxEntry[],
  id: ClientId,
  to: (entry: OutboxEntry) => OutboxEntry,
): readonly OutboxEntry[] {
  const index = outbox.findIndex((entry) => entry.frame.id === id);
  const entry = outbox[index];
  return entry ? outbox.with(index, to(entry)) : outbox;
}

function without(outbox: readonly OutboxEntry[], isDone: (entry: OutboxEntry) => boolean): readonly OutboxEntry[] {
  return outbox.some(isDone) ? outbox.filter((entry) => !isDone(entry)) : outbox;
}
