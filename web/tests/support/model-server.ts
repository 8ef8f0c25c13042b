/**
 * The truth to hold the client against: a log of one conversation, and what a snapshot of it at any seq must show.
 *
 * Written apart from the reducers, in another style (it changes its own tables in place), so that one mistake is not made twice.
 */

import fc from 'fast-check';
import { readEvent, readMessagePage } from '../../src/protocol/read-words';
import { Reader } from '../../src/protocol/reading';
import type { LogEvent, MessagePage } from '../../src/protocol/words';

export const people = ['ada', 'bo', 'cy'] as const;
export const me = { id: 'u-ada', username: 'ada', role: 'member' } as const;
export const EPOCH = 'e1';

/** What somebody tries; `pick` chooses among the messages or runs that there are, and is void where there are none. */
export type Step =
  | { do: 'send' | 'run'; who: number; text: string }
  | { do: 'edit' | 'end'; who: number; pick: number; text: string }
  | { do: 'delete'; pick: number }
  | { do: 'react' | 'unreact'; who: number; pick: number; emoji: string }
  | { do: 'pin'; pick: number; on: boolean }
  | { do: 'join' | 'leave'; who: number }
  | { do: 'role'; who: number; role: 'moderator' | 'reader' }
  | { do: 'title' | 'steer' | 'novelty'; text: string };

const who = fc.nat(people.length - 1);
const pick = fc.nat(30);
const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const emoji = fc.constantFrom('👍', '❤️', '🎉');

export const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const), who, text }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('run' as const), who, text }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('edit' as const, 'end' as const), who, pick, text }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), pick }) },
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constantFrom('react' as const, 'unreact' as const), who, pick, emoji }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('pin' as const), pick, on: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('join' as const, 'leave' as const), who }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('role' as const),
        who,
        role: fc.constantFrom('moderator' as const, 'reader' as const),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constantFrom('title' as const, 'steer' as const, 'novelty' as const), text }),
    },
  ),
  { maxLength: 60 },
);

interface Row {
  [field: string]: unknown;
  id: string;
  seq: number;
  text: string;
  deleted_at: string | null;
  reactions: Map<string, Set<string>>;
  run: { id: string; status: string } | null;
}

export class ModelServer {
  readonly log: LogEvent[] = [];
  readonly #raw: { seq: number; kind: string; at: string; actor: object; data: Record<string, unknown> }[] = [];
  #count = 0;

  constructor(tried: readonly Step[] = []) {
    for (const step of tried) this.do(step);
  }

  get head(): number {
    return this.log.length;
  }

  do(step: Step): void {
    const living = [...this.#table(this.head).values()].filter((row) => row.deleted_at === null);
    const chosen = 'pick' in step ? living[step.pick % Math.max(living.length, 1)] : undefined;
    const running = [...this.#table(this.head).values()].filter((row) => row.run?.status === 'running');
    switch (step.do) {
      case 'send':
        return this.append('message.created', this.#person(step.who), {
          id: this.#id('m'),
          client_id: this.#id('k'),
          text: step.text,
        });
      case 'run':
        return this.append('run.started', this.#person(step.who), {
          run: this.#id('r'),
          message: this.#id('m'),
          model: 'demo',
          reply_to: null,
        });
      case 'end': {
        const row = running[step.pick % Math.max(running.length, 1)];
        if (row)
          this.append('run.ended', model, { run: row.run?.id, message: row.id, status: 'finished', text: step.text });
        return;
      }
      case 'edit':
        if (chosen && !chosen.run)
          this.append('message.edited', this.#person(step.who), { id: chosen.id, text: step.text });
        return;
      case 'delete':
        if (chosen) this.append('message.deleted', this.#person(0), { id: chosen.id });
        return;
      case 'react':
      case 'unreact':
        if (chosen)
          this.append(step.do === 'react' ? 'reaction.added' : 'reaction.removed', this.#person(step.who), {
            id: chosen.id,
            emoji: step.emoji,
          });
        return;
      case 'pin':
        if (chosen) this.append('message.pinned', this.#person(0), { id: chosen.id, on: step.on });
        return;
      case 'join':
        return this.append('member.joined', this.#person(step.who), {
          user: `u-${people[step.who]}`,
          username: people[step.who],
          role: 'member',
        });
      case 'leave':
        return this.append('member.left', this.#person(step.who), {
          user: `u-${people[step.who]}`,
          by: `u-${people[step.who]}`,
        });
      case 'role':
        return this.append('member.role', this.#person(0), { user: `u-${people[step.who]}`, role: step.role });
      case 'title':
        return this.append('conversation.updated', this.#person(0), { title: step.text });
      case 'steer':
        return this.append('run.steered', this.#person(0), { run: 'r', text: step.text });
      case 'novelty':
        return this.append('something.new', this.#person(0), { nobody: ['knows', step.text] });
    }
  }

  append(kind: string, actor: object, data: Record<string, unknown>): void {
    const event = {
      seq: this.head + 1,
      kind,
      at: new Date(1_700_000_000_000 + this.head * 1_000).toISOString(),
      actor,
      data,
    };
    this.#raw.push(event);
    this.log.push(readEvent(new Reader(event)));
  }

  /** The page that REST answers when the log ends at `head`. */
  page(head = this.head, where: { before?: number; after?: number; limit?: number } = {}): MessagePage {
    const { limit = 10_000, before = Infinity, after = 0 } = where;
    const rows = [...this.#table(head).values()].filter(({ seq }) => seq < before && seq > after);
    const shown = 'after' in where ? rows.slice(0, limit) : rows.slice(-limit);
    const messages = shown.map((row) => ({
      ...row,
      reactions: [...row.reactions]
        .map(([emoji, users]) => ({ emoji, users: [...users] }))
        .filter(({ users }) => users.length > 0),
    }));
    return readMessagePage(new Reader({ messages, head, epoch: EPOCH, has_more: rows.length > shown.length }));
  }

  #table(head: number): Map<string, Row> {
    const table = new Map<string, Row>();
    for (const { seq, kind, at, actor, data } of this.#raw.slice(0, head)) {
      const row = table.get(String(data.id ?? data.message));
      if (kind === 'message.created')
        table.set(String(data.id), {
          ...blank(),
          ...data,
          id: String(data.id),
          text: String(data.text),
          seq,
          at,
          actor,
        });
      if (kind === 'run.started') {
        const run = { id: String(data.run), model: data.model, status: 'running', reply_to: data.reply_to };
        table.set(String(data.message), { ...blank(), id: String(data.message), seq, at, actor: model, run });
      }
      if (!row) continue;
      const by = (actor as { id: string }).id;
      if (kind === 'run.ended' && row.run) {
        row.run = { ...row.run, status: String(data.status) };
        if (row.deleted_at === null) row.text = String(data.text);
      }
      if (kind === 'message.edited') Object.assign(row, { text: data.text, edited_at: at });
      if (kind === 'message.deleted')
        Object.assign(row, { text: '', deleted_at: at, pinned: false, reactions: new Map() });
      if (kind === 'message.pinned') row.pinned = data.on;
      if (kind === 'reaction.added')
        row.reactions.set(String(data.emoji), (row.reactions.get(String(data.emoji)) ?? new Set()).add(by));
      if (kind === 'reaction.removed') row.reactions.get(String(data.emoji))?.delete(by);
    }
    return table;
  }

  #person(index: number) {
    const name = people[index] ?? 'ada';
    return { kind: 'user', id: `u-${name}`, name };
  }

  #id(kind: string): string {
    return `${kind}-${(this.#count += 1)}`;
  }
}

const model = { kind: 'model', id: 'demo', name: 'demo' };

function blank(): Row {
  return {
    id: '',
    client_id: null,
    seq: 0,
    at: '',
    text: '',
    edited_at: null,
    deleted_at: null,
    reply_to: null,
    thread: null,
    reactions: new Map(),
    attachments: [],
    mentions: [],
    people_only: false,
    pinned: false,
    run: null,
  };
}
