/** Every REST route that the page uses, as verbs with typed answers. */

import {
  readAccount,
  readConversation,
  readEventPage,
  readMember,
  readMessage,
  readMessagePage,
  readUser,
} from '../protocol/read-words';
import type {
  Account,
  Conversation,
  ConversationId,
  ConversationKind,
  EventPage,
  Member,
  Message,
  MessageId,
  MessagePage,
  Role,
  Seq,
  StudioRole,
  User,
  UserId,
  Visibility,
} from '../protocol/words';
import type { Reader } from '../protocol/reading';
import type { Http } from './http';
import { WebhooksApi } from './webhooks';

export interface Policy {
  readonly registration: 'open' | 'invitation' | 'closed';
  readonly needsSetUp: boolean;
}

export interface NewConversation {
  readonly kind: ConversationKind;
  readonly title?: string;
  readonly visibility?: Visibility;
  readonly members?: readonly UserId[];
  readonly history?: 'joined' | 'all';
}

export interface Session {
  readonly id: string;
  readonly kind: 'browser' | 'program';
  readonly last_used_at: string;
  readonly user_agent: string;
  readonly current: boolean;
}

export interface ManagedAccount extends Account {
  readonly disabled: boolean;
}

export interface OneTimeAddress {
  readonly link: string;
  readonly expires_at: string;
}

export interface Found {
  readonly conversation: ConversationId;
  readonly title: string;
  readonly message: Message;
}

export class StudioApi {
  readonly webhooks: WebhooksApi;
  readonly #http: Http;

  constructor(http: Http) {
    this.webhooks = new WebhooksApi(http);
    this.#http = http;
  }

  policy(): Promise<Policy> {
    return this.#http.get('/api/auth/policy', (body) => ({
      registration: body.oneOf('registration', ['open', 'invitation', 'closed'] as const, 'closed'),
      needsSetUp: body.is('needs_set_up'),
    }));
  }

  me(): Promise<Account> {
    return this.#http.get('/api/auth/me', (body) => body.object('user', readAccount));
  }

  signIn(username: string, password: string): Promise<User> {
    return this.#http.post('/api/auth/login', { username, password }, (body) => body.object('user', readUser));
  }

  register(account: { username: string; password: string; email?: string; invitation?: string }): Promise<User> {
    return this.#http.post('/api/auth/register', account, (body) => body.object('user', readUser));
  }

  redeem(token: string, newPassword?: string): Promise<User> {
    const body = newPassword === undefined ? { token } : { token, new_password: newPassword };
    return this.#http.post('/api/auth/link', body, (answer) => answer.object('user', readUser));
  }

  signOut(): Promise<void> {
    return this.#http.tell('POST', '/api/auth/logout');
  }

  setPassword(newPassword: string, currentPassword?: string): Promise<void> {
    const current = currentPassword === undefined ? {} : { current_password: currentPassword };
    return this.#http.tell('POST', '/api/auth/password', { ...current, new_password: newPassword });
  }

  /** For good. Messages stay as those of a former member, or go, too. */
  eraseMe(messages: 'keep' | 'erase', currentPassword?: string): Promise<void> {
    const current = currentPassword === undefined ? {} : { current_password: currentPassword };
    return this.#http.tell('DELETE', '/api/auth/me', { ...current, messages });
  }

  sessions(): Promise<readonly Session[]> {
    return this.#http.get('/api/auth/sessions', (body) =>
      body.list('sessions', (from) => ({
        id: from.text('id'),
        kind: from.oneOf('kind', ['browser', 'program'] as const, 'browser'),
        last_used_at: from.textOr('last_used_at', ''),
        user_agent: from.textOr('user_agent', ''),
        current: from.is('current'),
      })),
    );
  }

  endSession(id: string): Promise<void> {
    return this.#http.tell('DELETE', `/api/auth/sessions/${encodeURIComponent(id)}`);
  }

  users(query: string, limit = 20): Promise<readonly User[]> {
    return this.#http.get('/api/users', (body) => body.list('users', readUser), { query, limit });
  }

  block(user: UserId): Promise<void> {
    return this.#http.tell('PUT', blockOf(user));
  }

  unblock(user: UserId): Promise<void> {
    return this.#http.tell('DELETE', blockOf(user));
  }

  blocked(): Promise<readonly User[]> {
    return this.#http.get('/api/users/blocked', (body) => body.list('users', readUser));
  }

  accounts(query: string): Promise<readonly ManagedAccount[]> {
    const read = (from: Reader) => ({ ...readAccount(from), disabled: from.is('disabled') });
    return this.#http.get('/api/admin/users', (body) => body.list('users', read), { query, page_size: 100 });
  }

  changeAccount(user: UserId, change: { role?: StudioRole; disabled?: boolean }): Promise<void> {
    return this.#http.tell('PATCH', `/api/admin/users/${encodeURIComponent(user)}`, change);
  }

  resetLink(user: UserId): Promise<OneTimeAddress> {
    return this.#http.post(`/api/admin/users/${encodeURIComponent(user)}/reset-link`, {}, readLink);
  }

  invitation(role: StudioRole): Promise<OneTimeAddress> {
    return this.#http.post('/api/admin/invitations', { role }, readLink);
  }

  /** One page of mine, most recently used first; `pages` tells how many there are. */
  conversations(page: number): Promise<{ conversations: readonly Conversation[]; pages: number }> {
    const query = { page, page_size: 100, sort_by: 'updated_at', sort_order: 'desc' };
    const read = (body: Reader) => ({
      conversations: body.list('conversations', readConversation),
      pages: body.countOr('total_pages', 1),
    });
    return this.#http.get('/api/conversations', read, query);
  }

  conversation(id: ConversationId): Promise<Conversation> {
    return this.#http.get(at(id), readConversation);
  }

  publicRooms(query: string): Promise<readonly Conversation[]> {
    return this.#http.get('/api/conversations/public', (body) => body.list('conversations', readConversation), {
      query: query || undefined,
    });
  }

  create(conversation: NewConversation): Promise<Conversation> {
    return this.#http.post('/api/conversations', conversation, readConversation);
  }

  change(
    id: ConversationId,
    change: { title?: string; visibility?: Visibility; retention_days?: number | null },
  ): Promise<Conversation> {
    return this.#http.patch(at(id), change, readConversation);
  }

  remove(id: ConversationId): Promise<void> {
    return this.#http.tell('DELETE', at(id));
  }

  join(id: ConversationId): Promise<Conversation> {
    return this.#http.post(`${at(id)}/join`, {}, readConversation);
  }

  leave(id: ConversationId): Promise<void> {
    return this.#http.tell('POST', `${at(id)}/leave`, {});
  }

  members(id: ConversationId): Promise<readonly Member[]> {
    return this.#http.get(`${at(id)}/members`, (body) => body.list('members', readMember));
  }

  putMember(id: ConversationId, user: UserId, role: Role): Promise<void> {
    return this.#http.tell('PUT', `${at(id)}/members/${encodeURIComponent(user)}`, { role });
  }

  removeMember(id: ConversationId, user: UserId): Promise<void> {
    return this.#http.tell('DELETE', `${at(id)}/members/${encodeURIComponent(user)}`);
  }

  message(id: ConversationId, message: MessageId): Promise<Message> {
    const read = (body: Reader) => (body.has('message') ? body.object('message', readMessage) : readMessage(body));
    return this.#http.get(`${at(id)}/messages/${encodeURIComponent(message)}`, read);
  }

  messages(id: ConversationId, where: { before?: Seq; after?: Seq; limit: number }): Promise<MessagePage> {
    return this.#http.get(`${at(id)}/messages`, readMessagePage, { ...where });
  }

  events(id: ConversationId, after: Seq, limit = 1_000): Promise<EventPage> {
    return this.#http.get(`${at(id)}/events`, readEventPage, { after, limit });
  }

  search(query: string, conversation?: ConversationId): Promise<readonly Found[]> {
    const read = (from: Reader) =>
      from.list('results', (found) => ({
        conversation: found.text('conversation'),
        title: found.textOr('title', ''),
        message: found.object('message', readMessage),
      }));
    return this.#http.get('/api/search', read, { query, conversation, limit: 30 });
  }
}

function readLink(from: Reader): OneTimeAddress {
  return { link: from.text('link'), expires_at: from.textOr('expires_at', '') };
}

function blockOf(user: UserId): string {
  return `/api/users/${encodeURIComponent(user)}/block`;
}

function at(id: ConversationId): string {
  return `/api/conversations/${encodeURIComponent(id)}`;
}
