import { expect, test } from 'vitest';
import { placeFragment, readLink, readPlace } from '../../src/views/links';

test('one-time links are read from the fragment', () => {
  expect(readLink('#sign-in=abc_-D')).toEqual({ kind: 'sign-in', token: 'abc_-D' });
  expect(['#reset=t', '#set-up=t', '#invitation=t'].map((fragment) => readLink(fragment)?.kind)).toEqual([
    'reset',
    'set-up',
    'invitation',
  ]);
  expect(['', '#', '#/c/1', '#sign-in=', '#other=t'].map(readLink)).toEqual([null, null, null, null, null]);
});

test('a place goes into the address and back', () => {
  expect(readPlace(placeFragment('0190-a'))).toBe('0190-a');
  expect([readPlace(placeFragment(null)), readPlace('#/c/a/b'), readPlace('#/c/%E0%A4%A')]).toEqual([
    null,
    null,
    '%E0%A4%A',
  ]);
});
