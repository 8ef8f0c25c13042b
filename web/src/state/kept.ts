/**
 * What outlives the page, in the browser's own storage: drafts, unsent messages, the last place, the theme.
 *
 * Promises: each unsent message has a key of its own, so two tabs never lose each other's. Everything of a person is kept under that person's id, so two accounts in one browser never mix. Storage that
 * is full, blocked or holds nonsense costs the memory and never the page.
 */

import { Reader } from '../protocol/reading';
import type { ConversationId, UserId } from '../protocol/words';
import type { SendFrame } from '../protocol/frames';
import { newEntry } from './outbox';
import type { OutboxEntry } from './studio';

export type Keeper = Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'>;
export type Theme = 'system' | 'light' | 'dark';

const PREFIX = 'chat-studio';

export class Kept {
  readonly #storage: Keeper;
  readonly #written = new Map<string, OutboxEntry>();

  constructor(storage: Keeper) {
    this.#storage = storage;
  }

  draft(user: UserId, conversation: ConversationId): string {
    return this.#get(`draft:${user}:${conversation}`) ?? '';
  }

  keepDraft(user: UserId, conversation: ConversationId, text: string): void {
    this.#set(`draft:${user}:${conversation}`, text || null);
  }

  place(user: UserId): ConversationId | null {
    return this.#get(`place:${user}`);
  }

  keepPlace(user: UserId, conversation: ConversationId): void {
    this.#set(`place:${user}`, conversation);
  }

  theme(): Theme {
    const kept = this.#get('theme');
    return kept === 'light' || kept === 'dark' ? kept : 'system';
  }

  keepTheme(theme: Theme): void {
    this.#set('theme', theme === 'system' ? null : theme);
  }

  /** Unsent messages come back waiting, failed ones failed; all under the ids they had, which sort by age. */
  outbox(user: UserId): readonly OutboxEntry[] {
    return this.#names(`outbox:${user}:`)
      .sort()
      .flatMap((name) => readEntry(this.#get(name)));
  }

  keepOutbox(user: UserId, outbox: readonly OutboxEntry[]): void {
    const unsettled = new Map(
      outbox
        .filter(({ status }) => status !== 'acknowledged')
        .map((entry) => [`outbox:${user}:${entry.frame.id}`, entry]),
    );
    for (const [name, entry] of unsettled) {
      if (this.#written.get(name) === entry) continue;
      this.#set(name, JSON.stringify(entry));
      this.#written.set(name, entry);
    }
    for (const name of this.#written.keys()) {
      if (unsettled.has(name) || !name.startsWith(`outbox:${user}:`)) continue;
      this.#set(name, null);
      this.#written.delete(name);
    }
  }

  #names(start: string): string[] {
    try {
      const keys = Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index) ?? '');
      return keys.filter((key) => key.startsWith(`${PREFIX}:${start}`)).map((key) => key.slice(PREFIX.length + 1));
    } catch {
      return [];
    }
  }

  #get(name: string): string | null {
    try {
      return this.#storage.getItem(`${PREFIX}:${name}`);
    } catch {
      return null;
    }
  }

  #set(name: string, value: string | null): void {
    try {
      if (value === null) this.#storage.removeItem(`${PREFIX}:${name}`);
      else this.#storage.setItem(`${PREFIX}:${name}`, value);
    } catch {
      // Full or forbidden storage: the page works on, it only forgets on reload.
    }
  }
}

function readEntry(json: string | null): OutboxEntry[] {
  try {
    const from = new Reader(JSON.parse(json ?? 'null'), 'entry');
    const entry = newEntry(from.object('frame', readFrame), from.textOr('at', ''));
    if (from.textOr('status', '') !== 'failed') return [entry];
    return [{ ...entry, status: 'failed', code: from.textOr('code', null), detail: from.textOr('detail', null) }];
  } catch {
    return [];
  }
}

function readFrame(from: Reader): SendFrame {
  const reply = from.textOr('reply_to', null);
  return {
    type: 'send',
    id: from.text('id'),
    conversation: from.text('conversation'),
    text: from.text('text'),
    ...(reply !== null && { reply_to: reply }),
    ...(from.is('people_only') && { people_only: true as const }),
  };
}
