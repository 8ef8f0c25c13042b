import { expect, test } from 'vitest';
import { plainLine } from '../../src/markdown/plain';

const line = (text: string) => plainLine(text, 80);

test('a preview says what is meant, without how it is written', () => {
  expect(line('Twelve are **signed up**, two with a _flat_ `tyre`')).toBe('Twelve are signed up, two with a flat tyre');
  expect(line('# Title\n\n- one\n- [two](https://example.org)\n\n> three\n\n```js\nfour()\n```')).toBe(
    'Title one two three four()',
  );
  expect(line('| a | b |\n|---|---|\n| 1 | **2** |')).toBe('a b 1 2');
  expect(line('first\nsecond  ![a cat](cat.png)')).toBe('first second a cat');
});

test('what is no Markdown stays as it was typed', () => {
  for (const text of ['a < b && c > d', '<b>not bold</b>', '2 * 3 * 4', 'snake_case_name', 'it\'s "quoted"', '@bo @[x]^']) {
    expect(line(text)).toBe(text);
  }
});

test('a long text is cut, and little of it is read', () => {
  expect(plainLine('word '.repeat(10_000), 12)).toBe('word word wo…');
  expect(plainLine('', 12)).toBe('');
});
