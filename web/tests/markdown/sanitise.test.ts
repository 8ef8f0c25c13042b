// @vitest-environment jsdom
/** What a person or a model may never get into the page, whatever they write. */

import { describe, expect, test } from 'vitest';
import { renderMarkdown } from '../../src/markdown/markdown';
import { sanitise } from '../../src/markdown/sanitise';

const written = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '<svg onload=alert(1)>',
  '<svg><script>alert(1)</script></svg>',
  '<iframe src="javascript:alert(1)"></iframe>',
  '<a href="javascript:alert(1)">x</a>',
  '[x](javascript:alert(1))',
  '[x](JaVaScRiPt:alert(1))',
  '[x](&#106;avascript:alert(1))',
  '[x](java\tscript:alert(1))',
  '[x](\u0001javascript:alert(1))',
  '[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)',
  '[x](vbscript:msgbox(1))',
  '[x](blob:https://example.org/1)',
  '![x](javascript:alert(1))',
  '![x" onerror="alert(1)](https://example.org/a.png)',
  '![x](https://example.org/a.png "t\\" onerror=\\"alert(1)")',
  '[x](https://example.org" onmouseover="alert(1))',
  '[x](https://example.org "t\\" onmouseover=\\"alert(1)")',
  '<https://example.org/"onclick="alert(1)>',
  '<javascript:alert(1)>',
  '```"><img src=x onerror=alert(1)>\ncode\n```',
  '```html\n</code></pre><script>alert(1)</script>\n```',
  '`<img src=x onerror=alert(1)>`',
  '<math><mtext><table><mglyph><style><img src onerror=alert(1)>',
  '<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>',
  '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
  '<style>*{display:none}</style>',
  '<div style="position:fixed;inset:0">over everything</div>',
  '<base href="https://example.org/">',
  '<meta http-equiv="refresh" content="0;url=https://example.org">',
  '<input autofocus onfocus=alert(1)>',
  '<details open ontoggle=alert(1)>',
  '<button formaction="javascript:alert(1)">x</button>',
  '<object data="javascript:alert(1)"></object>',
  '<template><script>alert(1)</script></template>',
  '<xmp><script>alert(1)</script></xmp>',
  '<a\u000chref="javascript:alert(1)">x</a>',
  '<!--><script>alert(1)</script>-->',
  '<?xml version="1.0"?><script>alert(1)</script>',
  '<![CDATA[<script>alert(1)</script>]]>',
  '| a |\n|---|\n| <img src=x onerror=alert(1)> |',
  '@<img src=x onerror=alert(1)>',
  '[a]: javascript:alert(1)\n\n[a]',
  'javascript:alert(1)',
];

function shown(markdown: string): HTMLElement {
  const place = document.createElement('div');
  place.append(sanitise(renderMarkdown(markdown)));
  return place;
}

function expectHarmless(place: HTMLElement): void {
  const forbidden =
    'script,style,iframe,object,embed,svg,math,img,form,input,base,meta,link,template,video,audio,details';
  expect(place.querySelectorAll(forbidden)).toHaveLength(0);
  for (const element of place.querySelectorAll('*')) {
    for (const { name, value } of element.attributes) {
      expect(name).toMatch(/^(href|title|class|start|align|type|tabindex|rel|target)$/);
      if (name === 'href') expect(value).toMatch(/^(https?:|mailto:)/i);
    }
  }
}

describe('nothing harmful gets into the page', () => {
  test.each(written)('as a message: %s', (text) => expectHarmless(shown(text)));

  // Should the renderer ever let HTML through, the last step alone has to hold.
  test.each(written)('as raw HTML: %s', (html) => {
    const place = document.createElement('div');
    place.append(sanitise(html));
    expectHarmless(place);
  });
});

test('raw HTML is shown as it was typed', () => {
  expect(shown('<b>bold?</b> & <script>x</script>').textContent.trim()).toBe('<b>bold?</b> & <script>x</script>');
  expect(shown('<div>\nblock\n</div>').textContent?.replaceAll('\n', '')).toBe('<div>block</div>');
  expect(shown('<!-- note -->').textContent.trim()).toBe('<!-- note -->');
});

test('links open elsewhere and tell nothing about this page', () => {
  const link = shown('https://example.org/a?b=c').querySelector('a');
  expect(link?.getAttribute('rel')).toBe('noopener noreferrer');
  expect(link?.target).toBe('_blank');
  expect(link?.href).toBe('https://example.org/a?b=c');
});

test('a link to an address that is not allowed is text', () => {
  expect(shown('[x](javascript:alert(1))').querySelector('a[href]')).toBeNull();
  expect(shown('[x](/api/auth/logout)').querySelector('a[href]')).toBeNull();
});

test('an image is a link and loads nothing', () => {
  const place = shown('![a cat](https://example.org/cat.png)');
  expect(place.querySelector('a')?.textContent).toBe('a cat');
  expect(place.querySelector('a')?.href).toBe('https://example.org/cat.png');
});

test('a message cannot dress up as a part of the page', () => {
  const place = document.createElement('div');
  place.append(sanitise('<div class="notice code">x</div><span class="jump">y</span>'));
  expect(place.innerHTML).toBe('<div class="code">x</div><span>y</span>');
});
