import { describe, expect, test } from 'vitest';
import { meaning, type Key } from '../../src/views/conversation/keys';

const key = (name: string, more: Partial<Key> = {}): Key => ({
  key: name,
  keyCode: 13,
  isComposing: false,
  shiftKey: false,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  ...more,
});
const writing = { isEmpty: false, isCompleting: false };
const listing = { isEmpty: false, isCompleting: true };

describe('the message field', () => {
  test('Enter sends, Shift+Enter breaks the line', () => {
    expect(meaning(key('Enter'), writing)).toBe('send');
    expect(meaning(key('Enter', { ctrlKey: true }), writing)).toBe('send');
    expect(meaning(key('Enter', { shiftKey: true }), writing)).toBe('type');
  });

  test('an Enter that ends the composition of a letter sends nothing, in any browser', () => {
    expect(meaning(key('Enter', { isComposing: true }), writing)).toBe('type');
    expect(meaning(key('Enter', { keyCode: 229 }), writing)).toBe('type'); // Safari: composition is over, the code tells
    expect(meaning(key('Process', { isComposing: true, keyCode: 229 }), writing)).toBe('type');
  });

  test('a key of the input method chooses no name either', () => {
    for (const name of ['Enter', 'Tab', 'ArrowDown', 'Escape'])
      expect(meaning(key(name, { isComposing: true }), listing)).toBe('type');
  });

  test('the arrow up edits the last message only from an empty field', () => {
    expect(meaning(key('ArrowUp'), { isEmpty: true, isCompleting: false })).toBe('edit-last');
    expect(meaning(key('ArrowUp'), writing)).toBe('type');
    expect(meaning(key('ArrowUp', { shiftKey: true }), { isEmpty: true, isCompleting: false })).toBe('type');
  });

  test('an open list of names takes the keys that walk it', () => {
    const meant = ['ArrowDown', 'ArrowUp', 'Enter', 'Tab', 'Escape', 'a'].map((name) => meaning(key(name), listing));
    expect(meant).toEqual(['next', 'previous', 'choose', 'choose', 'close-list', 'type']);
    expect(meaning(key('Enter', { shiftKey: true }), listing)).toBe('type');
  });
});
