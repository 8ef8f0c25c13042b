import { expect, test } from 'vitest';
import { askedAt, complete, offer, type Candidate } from '../../src/views/conversation/completion';

const people: readonly Candidate[] = ['Bob', 'bo', 'ada', 'demo', '[x]^'].map((name) => ({
  id: name,
  name,
  kind: 'user',
}));

test('a name is asked for after an @ at the start of a word', () => {
  expect(askedAt('hi @bo', 6)).toEqual({ start: 3, query: 'bo' });
  expect(askedAt('@', 1)).toEqual({ start: 0, query: '' });
  expect(askedAt('(@김', 3)).toEqual({ start: 1, query: '김' });
  expect(askedAt('ada@bo', 6)).toBeNull();
  expect(askedAt('@bo ', 4)).toBeNull();
  expect(askedAt('@bo', 0)).toBeNull();
});

test('names that begin with it come first', () => {
  expect(offer('bo', people).map(({ name }) => name)).toEqual(['bo', 'Bob']);
  expect(offer('o', people).map(({ name }) => name)).toEqual(['bo', 'Bob', 'demo']);
  expect(offer('[x', people).map(({ name }) => name)).toEqual(['[x]^']);
});

test('the completed name leaves one space and the caret behind it', () => {
  expect(complete('hi @b you', 5, { start: 3, query: 'b' }, 'bo')).toEqual({ text: 'hi @bo you', caret: 7 });
});
