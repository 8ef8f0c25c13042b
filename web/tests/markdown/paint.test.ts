// @vitest-environment jsdom
import { expect, test } from 'vitest';
import { renderBlocks } from '../../src/markdown/markdown';
import { paint } from '../../src/markdown/paint';

test('a growing answer replaces its last block and leaves the others as they are', () => {
  const node = document.createElement('div');
  paint(node, renderBlocks('first\n\nsec'));
  const [first, second] = [...node.children].map((place) => place.firstElementChild);
  paint(node, renderBlocks('first\n\nsecond\n\n- third'));
  expect(node.children).toHaveLength(3);
  expect(node.children[0]?.firstElementChild).toBe(first);
  expect(node.children[1]?.firstElementChild).not.toBe(second);
  expect(node.textContent.replaceAll('\n', '')).toBe('firstsecondthird');
});

test('a shorter text leaves nothing behind', () => {
  const node = document.createElement('div');
  paint(node, renderBlocks('one\n\ntwo\n\nthree'));
  paint(node, renderBlocks('only'));
  expect(node.textContent.trim()).toBe('only');
});
