/**
 * The frames of the socket interface `chat-studio.v1`, both ways.
 *
 * A client frame with an `id` gets exactly one `ack`, `subscribed`, `pong` or `error` that carries it. Durable frames are
 * idempotent by `id`, so sending one again after a lost connection is always safe.
 */

import type {
  ClientId,
  ConversationId,
  ConversationSummary,
  Epoch,
  LogEvent,
  Marks,
  MessageId,
  PresenceState,
  RunId,
  Seq,
  User,
  UserId,
} from './words';

export const SUBPROTOCOL = 'chat-studio.v1';
export const MAX_TEXT_LENGTH = 16_000; // code points, the server's bound for one message
export const MAX_FRAME_BYTES = 65_536; // the server closes 1009 above it
export const MAX_SUBSCRIPTIONS = 500; // conversations one socket may watch

export interface Cursor {
  readonly seq: Seq;
  readonly epoch: Epoch;
}

interface Durable {
  readonly id: ClientId;
  readonly conversation: ConversationId;
}

export type SendFrame = Durable & {
  readonly type: 'send';
  readonly text: string;
  readonly reply_to?: MessageId;
  readonly people_only?: true;
};

/** Frames that end in the log and may be asked for by a button. */
export type CommandFrame =
  | SendFrame
  | (Durable & { readonly type: 'edit'; readonly message: MessageId; readonly text: string })
  | (Durable & { readonly type: 'delete'; readonly message: MessageId })
  | (Durable & { readonly type: 'react'; readonly message: MessageId; readonly emoji: string; readonly on: boolean })
  | (Durable & { readonly type: 'pin'; readonly message: MessageId; readonly on: boolean })
  | (Durable & { readonly type: 'run'; readonly model?: string; readonly message?: MessageId })
  | { readonly type: 'stop'; readonly id: ClientId; readonly run: RunId }
  | { readonly type: 'steer'; readonly id: ClientId; readonly run: RunId; readonly text: string };

export type ClientFrame =
  | CommandFrame
  | {
      readonly type: 'subscribe';
      readonly id: ClientId;
      readonly conversations: Readonly<Record<ConversationId, Cursor | null>>;
    }
  | { readonly type: 'unsubscribe'; readonly id: ClientId; readonly conversations: readonly ConversationId[] }
  | { readonly type: 'read' | 'delivered'; readonly conversation: ConversationId; readonly seq: Seq }
  | { readonly type: 'typing'; readonly conversation: ConversationId; readonly on: boolean }
  | { readonly type: 'ping' };

export interface Welcome {
  readonly type: 'welcome';
  readonly user: User;
  readonly conversations: readonly ConversationSummary[];
}

/** One conversation's answer to `subscribe`; an error stands alone. */
export type SubscribedTo =
  | { readonly head: Seq; readonly epoch: Epoch; readonly reset: boolean; readonly read: Seq }
  | { readonly error: string };

export interface Subscribed {
  readonly type: 'subscribed';
  readonly id: ClientId;
  readonly conversations: Readonly<Record<ConversationId, SubscribedTo>>;
}

export interface Ack {
  readonly type: 'ack';
  readonly id: ClientId;
  readonly seq: Seq | null;
  readonly message: MessageId | null;
}

export interface ErrorFrame {
  readonly type: 'error';
  readonly id: ClientId | null;
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly retry_after_s: number | null;
}

/** Text of a run as it comes; `from` counts code points inside its part. */
export interface Delta {
  readonly type: 'delta';
  readonly conversation: ConversationId;
  readonly run: RunId;
  readonly message: MessageId;
  readonly part: number;
  readonly kind: string;
  readonly from: number;
  readonly text: string;
}

export type ServerFrame =
  | Welcome
  | Subscribed
  | Ack
  | ErrorFrame
  | Delta
  | { readonly type: 'pong' }
  | { readonly type: 'event'; readonly conversation: ConversationId; readonly event: LogEvent }
  | { readonly type: 'conversation.added'; readonly conversation: ConversationSummary }
  | { readonly type: 'conversation.removed'; readonly conversation: ConversationId; readonly code: string }
  | { readonly type: 'typing'; readonly conversation: ConversationId; readonly user: UserId; readonly on: boolean }
  | {
      readonly type: 'presence';
      readonly conversation: ConversationId;
      /** Null in a conversation too large to name everybody: then only `count` tells how many are here. */
      readonly user: UserId | null;
      readonly state: PresenceState;
      readonly count: number | null;
    }
  | (Marks & { readonly type: 'receipt'; readonly conversation: ConversationId; readonly user: UserId })
  | { readonly type: 'heads'; readonly conversations: Readonly<Record<ConversationId, Seq>> }
  | { readonly type: 'reset'; readonly conversation: ConversationId; readonly head: Seq; readonly epoch: Epoch }
  | { readonly type: 'drain'; readonly reconnect_in_ms: number };
