/** The webhooks of a conversation: programs elsewhere that are told what happens in it. */

import type { Reader } from '../protocol/reading';
import type { ConversationId } from '../protocol/words';
import type { Http } from './http';

export interface Webhook {
  readonly id: string;
  readonly url: string;
  readonly description: string;
  readonly enabled: boolean;
  readonly disabled_reason: string | null;
  readonly failing_since: string | null;
  readonly waiting: number;
  readonly dead_letters: number;
}

/** Without `kinds` it is told everything. */
export interface NewWebhook {
  readonly url: string;
  readonly description: string;
  readonly kinds?: readonly string[];
}

/** What came of a ping; `status` is the receiver's, null where it gave none. */
export interface WebhookTest {
  readonly delivered: boolean;
  readonly status: number | null;
  readonly detail: string | null;
}

export class WebhooksApi {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  all(conversation: ConversationId): Promise<readonly Webhook[]> {
    return this.#http.get(of(conversation), (body) => body.list('webhooks', readWebhook));
  }

  /** The secret, which the server never tells again. */
  create(conversation: ConversationId, webhook: NewWebhook): Promise<string> {
    return this.#http.post(of(conversation), webhook, (body) => body.text('secret'));
  }

  enable(conversation: ConversationId, webhook: string): Promise<void> {
    return this.#http.tell('PATCH', `${of(conversation)}/${webhook}`, { enabled: true });
  }

  test(conversation: ConversationId, webhook: string): Promise<WebhookTest> {
    return this.#http.post(`${of(conversation)}/${webhook}/test`, {}, (body) => ({
      delivered: body.is('delivered'),
      status: body.countOr('status', null),
      detail: body.textOr('detail', null),
    }));
  }

  remove(conversation: ConversationId, webhook: string): Promise<void> {
    return this.#http.tell('DELETE', `${of(conversation)}/${webhook}`);
  }
}

function readWebhook(from: Reader): Webhook {
  return {
    id: from.text('id'),
    url: from.textOr('url', ''),
    description: from.textOr('description', ''),
    enabled: from.is('enabled'),
    disabled_reason: from.textOr('disabled_reason', null),
    failing_since: from.textOr('failing_since', null),
    waiting: from.countOr('waiting', 0),
    dead_letters: from.countOr('dead_letters', 0),
  };
}

function of(conversation: ConversationId): string {
  return `/api/conversations/${encodeURIComponent(conversation)}/webhooks`;
}
