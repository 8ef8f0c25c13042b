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

test('a plain paragraph looks the same with and without the detour over HTML', () => {
  for (const text of [
    'just words',
    'a < b & "c"',
    '&amp; stays an entity',
    'trailing  ',
    'two\nlines',
    'see https://example.org',
    'a \\* b',
    "it's",
  ]) {
    const [node, detour] = [document.createElement('div'), document.createElement('div')];
    const blocks = renderBlocks(text);
    paint(node, blocks);
    paint(
      detour,
      blocks.map((block) => ({ ...block, plain: null })),
    );
    expect(node.textContent.trim(), text).toBe(detour.textContent.trim());
    expect(node.querySelectorAll('*').length, text).toBe(detour.querySelectorAll('*').length);
  }
});

test('a shorter text leaves nothing behind', () => {
  const node = document.createElement('div');
  paint(node, renderBlocks('one\n\ntwo\n\nthree'));
  paint(node, renderBlocks('only'));
  expect(node.textContent.trim()).toBe('only');
});
