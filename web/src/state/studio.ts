/**
 * What the client knows: one frozen value, replaced and never changed.
 *
 * Promises: every part is plain data, so equal knowledge compares equal; whatever grows has a bound that is named here.
 */

import type { SendFrame } from '../protocol/frames';
import type {
  ConversationId,
  ConversationKind,
  Epoch,
  LogEvent,
  Marks,
  Member,
  Message,
  MessageId,
  PresenceState,
  Role,
  RunId,
  Seq,
  User,
  UserId,
  Visibility,
} from '../protocol/words';

/** Messages kept of one conversation: what a browser scrolls smoothly. Older and newer ones are a page away. */
export const MAX_WINDOW = 400;
/** What a window is cut down to, so that cutting happens once in a hundred messages and not with every one. */
export const TRIMMED_WINDOW = 300;
/** Messages kept of a conversation that nobody looks at: two screens full, so coming back is instant. */
export const IDLE_WINDOW = 100;
/** Applied events kept to bring a page up to date that was read before them; a page is seldom later than that. */
export const MAX_RECENT = 100;
/** Events held above a hole; past that the log is read again from the cursor, which is cheaper than keeping them. */
export const MAX_HELD = 500;
/** Quoted messages kept of a conversation; the ones that were asked for first make room. */
export const MAX_QUOTED = 100;
/** Ended runs remembered, so that a late delta does not bring an answer back to life. */
export const MAX_ENDED_RUNS = 100;
/** A typing notice without renewal fades after this; the senders of this client renew every 3 s. */
export const TYPING_MS = 6_000;

export interface Timeline {
  readonly messages: readonly Message[];
  readonly hasOlder: boolean;
  /** The window ends before the newest message: what comes in live is not appended until the gap is paged in. */
  readonly hasNewer: boolean;
  /** The reader is at the end: old messages may go. Otherwise what is on screen must stay. */
  readonly follows: boolean;
}

/** The text of a running answer, part by part. `length` counts code points, as the deltas do. */
export interface Stream {
  readonly run: RunId;
  readonly parts: Readonly<Record<number, StreamPart>>;
  /** Something in between was lost; the server tells all of it again after `subscribe`. */
  readonly isTorn: boolean;
}

export interface StreamPart {
  readonly kind: string;
  readonly text: string;
  readonly length: number;
}

export interface ConversationState {
  readonly id: ConversationId;
  readonly kind: ConversationKind;
  readonly title: string;
  readonly visibility: Visibility;
  readonly role: Role | null;
  readonly peer: User | null;
  readonly createdBy: UserId | null;
  readonly updatedAt: string;
  readonly memberCount: number;
  readonly model: string | null;
  readonly systemPrompt: string | null;

  readonly epoch: Epoch;
  /** Highest seq applied with everything below it. */
  readonly cursor: Seq;
  /** Highest seq known to exist. Above the cursor there is something to fetch. */
  readonly head: Seq;
  readonly held: Readonly<Record<Seq, LogEvent>>;
  readonly recent: readonly LogEvent[];
  /** Only a fresh page helps: the log was reset, or a page was too old to be brought up to date. */
  readonly isStale: boolean;

  readonly read: Seq;
  readonly unread: number;
  /** `unread` includes everything up to here. */
  readonly countedTo: Seq;

  readonly timeline: Timeline | null;
  /** Messages outside the window that are answered inside it, as far as they were asked for. */
  readonly quoted: Readonly<Record<MessageId, Message>>;
  readonly streams: Readonly<Record<MessageId, Stream>>;
  readonly members: readonly Member[] | null;
  /** How far the others have come, from receipts and from the list of members. */
  readonly marks: Readonly<Record<UserId, Marks>>;
  /** How many are here, where there are too many to name; null where everybody is told of. */
  readonly hereCount: number | null;
  readonly blockedByMe: boolean;
  readonly retentionDays: number | null;
  readonly typing: Readonly<Record<UserId, number>>;
}

export type OutboxStatus = 'waiting' | 'sent' | 'acknowledged' | 'failed';

/** A message on its way. Its frame never changes, so sending it again can only be a repeat. */
export interface OutboxEntry {
  readonly frame: SendFrame;
  readonly at: string;
  readonly status: OutboxStatus;
  /** Where it stands in the log, once acknowledged. */
  readonly seq: Seq | null;
  readonly code: string | null;
  readonly detail: string | null;
  readonly retryAtMs: number;
  readonly attempts: number;
}

export interface Studio {
  readonly me: User | null;
  readonly conversations: Readonly<Record<ConversationId, ConversationState>>;
  /** Names of people, from whatever mentioned them. */
  readonly names: Readonly<Record<UserId, string>>;
  readonly presence: Readonly<Record<UserId, PresenceState>>;
  readonly outbox: readonly OutboxEntry[];
  readonly endedRuns: readonly RunId[];
}

export const emptyStudio: Studio = {
  me: null,
  conversations: {},
  names: {},
  presence: {},
  outbox: [],
  endedRuns: [],
};
