import { describe, expect, test } from 'vitest';
import { renderBlocks, renderMarkdown } from '../../src/markdown/markdown';
import { mentionedNames } from '../../src/markdown/mentions';

describe('Markdown', () => {
  test('keeps line breaks, as a chat means them', () => {
    expect(renderMarkdown('one\ntwo')).toBe('<p>one<br>two</p>\n');
  });

  test('still counts inside of HTML that is shown as text', () => {
    expect(renderMarkdown('<b>**x**</b>')).toBe('<p>&lt;b&gt;<strong>x</strong>&lt;/b&gt;</p>\n');
    expect(renderMarkdown('<div>\n**x**\n</div>')).toContain('<strong>x</strong>');
    expect(renderMarkdown('<kbd>a & b')).toContain('a &amp; b');
  });

  test('gives code its language and a button to copy it', () => {
    const html = renderMarkdown('```python\n1 < 2\n```');
    expect(html).toContain('<span>python</span>');
    expect(html).toContain('class="copy"');
    expect(html).toContain('1 &lt; 2');
  });

  test('shows a fence that is still open while the answer streams', () => {
    expect(renderMarkdown('```js\nconst a')).toContain('const a');
  });

  test('only the last block of a growing answer changes', () => {
    const before = renderBlocks('# Title\n\nfirst\n\nsec');
    const after = renderBlocks('# Title\n\nfirst\n\nsecond');
    expect(before.slice(0, 2).map(({ html }) => html)).toEqual(after.slice(0, 2).map(({ html }) => html));
  });

  test('survives what breaks naive readers', () => {
    for (const text of [
      '',
      '\n\n',
      '>'.repeat(500),
      '['.repeat(2_000),
      '*'.repeat(3_000),
      '`'.repeat(999),
      '| a\n|-',
      '\u0000',
    ]) {
      expect(() => renderMarkdown(text)).not.toThrow();
    }
  });
});

describe('mentions', () => {
  const mention = (name: string, start: number, kind: 'user' | 'model' = 'user') => ({
    kind,
    id: `u-${name}`,
    start,
    end: start + name.length + 1,
  });

  test('are found by code points, and mine is another colour', () => {
    const message = { text: '👋 @ada and @bo', mentions: [mention('ada', 2), mention('bo', 11)] };
    const html = renderMarkdown(message.text, mentionedNames(message, {}, 'u-ada'));
    expect(html).toContain('<span class="mention mention-me">@ada</span>');
    expect(html).toContain('<span class="mention">@bo</span>');
  });

  test('of the longer of two names win, and names that nobody mentioned stay text', () => {
    const message = { text: '@bob @bo @cy', mentions: [mention('bob', 0), mention('bo', 5)] };
    const html = renderMarkdown(message.text, mentionedNames(message, {}, undefined));
    expect(html).toContain('<span class="mention">@bob</span> <span class="mention">@bo</span> @cy');
  });

  test('are still found after an edit has moved the text', () => {
    const message = { text: 'moved: @ada', mentions: [mention('ada', 0)] };
    expect(mentionedNames(message, { 'u-ada': 'ada' }, undefined).has('ada')).toBe(true);
  });

  test('inside code are code', () => {
    const message = { text: '@ada `@ada`', mentions: [mention('ada', 0)] };
    expect(renderMarkdown(message.text, mentionedNames(message, {}, undefined))).toContain('<code>@ada</code>');
  });
});
