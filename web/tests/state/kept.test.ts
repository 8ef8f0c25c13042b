import { expect, test } from 'vitest';
import { Kept, type Keeper } from '../../src/state/kept';
import { newEntry } from '../../src/state/outbox';

class Memory implements Keeper {
  readonly #values = new Map<string, string>();
  get length() {
    return this.#values.size;
  }
  key(index: number) {
    return [...this.#values.keys()][index] ?? null;
  }
  getItem(key: string) {
    return this.#values.get(key) ?? null;
  }
  setItem(key: string, value: string) {
    this.#values.set(key, value);
  }
  removeItem(key: string) {
    this.#values.delete(key);
  }
}

const entry = (id: string) =>
  newEntry(
    { type: 'send', id, conversation: 'c', text: `text of ${id}`, reply_to: 'm', people_only: true },
    '2026-01-01T00:00:00.000Z',
  );

test('an unsent message comes back with its id and all of its frame', () => {
  const storage = new Memory();
  new Kept(storage).keepOutbox('u', [
    { ...entry('k-2'), status: 'sent' },
    { ...entry('k-1'), status: 'failed', code: 'rejected', detail: 'no' },
  ]);
  expect(new Kept(storage).outbox('u')).toEqual([
    { ...entry('k-1'), status: 'failed', code: 'rejected', detail: 'no' },
    entry('k-2'),
  ]);
});

test('what is settled is forgotten, and another tab or another person loses nothing by it', () => {
  const storage = new Memory();
  const [one, other] = [new Kept(storage), new Kept(storage)];
  one.keepOutbox('u', [entry('k-1')]);
  other.keepOutbox('u', [entry('k-2')]);
  other.keepOutbox('u', []);
  one.keepOutbox('v', []);
  expect(new Kept(storage).outbox('u').map(({ frame }) => frame.id)).toEqual(['k-1']);
  expect(new Kept(storage).outbox('v')).toEqual([]);
});

test('drafts are kept apart by person and conversation', () => {
  const kept = new Kept(new Memory());
  kept.keepDraft('u', 'c', 'half a thou');
  expect([kept.draft('u', 'c'), kept.draft('u', 'd'), kept.draft('v', 'c')]).toEqual(['half a thou', '', '']);
  kept.keepDraft('u', 'c', '');
  expect(kept.draft('u', 'c')).toBe('');
});

test('storage that is broken or full costs the memory and not the page', () => {
  const broken = new Proxy({} as Keeper, {
    get: () => {
      throw new Error('denied');
    },
  });
  const kept = new Kept(broken);
  kept.keepOutbox('u', [entry('k')]);
  kept.keepDraft('u', 'c', 'x');
  expect([kept.outbox('u'), kept.draft('u', 'c'), kept.theme()]).toEqual([[], '', 'system']);
  const nonsense = new Memory();
  nonsense.setItem('chat-studio:outbox:u:k', '{"frame": 7}');
  expect(new Kept(nonsense).outbox('u')).toEqual([]);
});
