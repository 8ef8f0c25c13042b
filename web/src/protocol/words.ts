/**
 * The nouns of the product as they stand on the wire and in REST bodies.
 *
 * Ids are UUIDv7 strings, times are RFC 3339 UTC strings, a `seq` counts the events of one conversation from 1.
 * `null` is what the server says for "none"; a missing optional field means "not told".
 */

export type UserId = string;
export type ConversationId = string;
export type MessageId = string;
export type RunId = string;
export type ClientId = string;
export type Seq = number;
export type Epoch = string;

export type StudioRole = 'admin' | 'member' | 'guest';
export type Role = 'owner' | 'moderator' | 'member' | 'reader';
export type ConversationKind = 'room' | 'private' | 'assistant';
export type Visibility = 'public' | 'private';
export type PresenceState = 'online' | 'offline';
export type RunStatus = 'running' | 'finished' | 'stopped' | 'failed' | 'interrupted';
export type ActorKind = 'user' | 'model' | 'plugin' | 'system';

export interface User {
  readonly id: UserId;
  readonly username: string;
  readonly role: StudioRole;
}

/** The signed-in person, as `/api/auth/me` tells it. */
export interface Account extends User {
  readonly email: string | null;
  readonly has_password: boolean;
}

export interface Actor {
  readonly kind: ActorKind;
  readonly id: string;
  readonly name: string;
}

/** Offsets count code points of the text; the server found them. */
export interface Mention {
  readonly kind: 'user' | 'model';
  readonly id: string;
  readonly start: number;
  readonly end: number;
}

export interface Attachment {
  readonly id: string;
  readonly name: string;
  readonly size: number;
  readonly media_type: string;
}

export interface Reaction {
  readonly emoji: string;
  readonly users: readonly UserId[];
}

export interface Run {
  readonly id: RunId;
  readonly model: string;
  readonly status: RunStatus;
  readonly reply_to: MessageId | null;
  readonly error: string | null;
}

export interface Message {
  readonly id: MessageId;
  readonly client_id: ClientId | null;
  readonly seq: Seq;
  readonly at: string;
  readonly actor: Actor;
  readonly text: string;
  readonly edited_at: string | null;
  readonly deleted_at: string | null;
  readonly reply_to: MessageId | null;
  readonly thread: MessageId | null;
  readonly reactions: readonly Reaction[];
  readonly attachments: readonly Attachment[];
  readonly mentions: readonly Mention[];
  readonly people_only: boolean;
  readonly pinned: boolean;
  readonly run: Run | null;
}

/** One line of the conversation list. `role` is mine there; `peer` is the other person of a private chat. */
export interface ConversationSummary {
  readonly id: ConversationId;
  readonly kind: ConversationKind;
  readonly title: string;
  readonly visibility: Visibility;
  readonly role: Role | null;
  readonly head: Seq;
  readonly epoch: Epoch;
  readonly read: Seq;
  readonly unread: number;
  readonly peer: User | null;
  /** I take no private messages from the peer. */
  readonly blocked_by_me: boolean;
}

/** What REST tells beyond the summary. */
export interface Conversation extends ConversationSummary {
  readonly created_by: UserId | null;
  readonly updated_at: string;
  readonly member_count: number;
  readonly model: string | null;
  readonly system_prompt: string | null;
  /** Messages older than that many days go; null keeps them. */
  readonly retention_days: number | null;
}

/** How far somebody has come; both only ever grow, and what is read was delivered. */
export interface Marks {
  readonly delivered: Seq;
  readonly read: Seq;
}

export interface Member extends Marks {
  readonly user: User;
  readonly role: Role;
  readonly presence: PresenceState;
}

/** One snapshot: `head` is the seq up to which these messages are true. */
export interface MessagePage {
  readonly messages: readonly Message[];
  readonly head: Seq;
  readonly epoch: Epoch;
  readonly has_more: boolean;
}

export interface EventPage {
  readonly events: readonly LogEvent[];
  readonly head: Seq;
  readonly epoch: Epoch;
}

interface Happening {
  readonly seq: Seq;
  readonly at: string;
  readonly actor: Actor;
}

/** Everything durable. A kind that this client does not know is `unknown`: it still has its place in the order. */
export type LogEvent = Happening & EventBody;

export type EventBody =
  | { readonly kind: 'message.created'; readonly data: MessageCreated }
  | {
      readonly kind: 'message.edited';
      readonly data: { readonly id: MessageId; readonly text: string; readonly redacted: boolean };
    }
  | { readonly kind: 'message.deleted'; readonly data: { readonly id: MessageId } }
  | {
      readonly kind: 'reaction.added' | 'reaction.removed';
      readonly data: { readonly id: MessageId; readonly emoji: string };
    }
  | { readonly kind: 'message.pinned'; readonly data: { readonly id: MessageId; readonly on: boolean } }
  | {
      readonly kind: 'member.joined';
      readonly data: { readonly user: UserId; readonly username: string; readonly role: Role };
    }
  | { readonly kind: 'member.left'; readonly data: { readonly user: UserId; readonly by: UserId } }
  | { readonly kind: 'member.role'; readonly data: { readonly user: UserId; readonly role: Role } }
  | { readonly kind: 'conversation.updated'; readonly data: ConversationChange }
  | { readonly kind: 'conversation.deleted'; readonly data: Record<string, never> }
  | { readonly kind: 'run.started'; readonly data: RunStarted }
  | { readonly kind: 'run.steered'; readonly data: { readonly run: RunId; readonly text: string } }
  | { readonly kind: 'run.ended'; readonly data: RunEnded }
  | { readonly kind: 'unknown'; readonly data: null };

export interface MessageCreated {
  readonly id: MessageId;
  readonly client_id: ClientId | null;
  readonly text: string;
  readonly reply_to: MessageId | null;
  readonly thread: MessageId | null;
  readonly attachments: readonly Attachment[];
  readonly mentions: readonly Mention[];
  readonly people_only: boolean;
}

/** Only what changed; an explicit null clears. */
export interface ConversationChange {
  readonly title?: string;
  readonly visibility?: Visibility;
  readonly model?: string | null;
  readonly system_prompt?: string | null;
  readonly retention_days?: number | null;
}

/** Creates the model's message at this seq. */
export interface RunStarted {
  readonly run: RunId;
  readonly message: MessageId;
  readonly model: string;
  readonly reply_to: MessageId | null;
}

/** `text` is the whole answer and outranks every delta. */
export interface RunEnded {
  readonly run: RunId;
  readonly message: MessageId;
  readonly status: Exclude<RunStatus, 'running'>;
  readonly text: string;
  readonly error: string | null;
}
