/**
 * The text of a message into HTML that may be put into the page.
 *
 * Promises: raw HTML is text like any other and is shown as it was typed. Nothing is loaded from anywhere: an image is a
 * link to it. What leaves here is still unclean to whoever trusts nobody: `sanitise.ts` is the last step before the DOM.
 */

import { Marked, type Token, type TokenizerAndRendererExtension, type Tokens } from 'marked';

/** One top-level block. While an answer streams only the last ones change. */
export interface Block {
  readonly html: string;
  /** The text of a paragraph that holds nothing else, as most messages are: it needs no HTML at all. */
  readonly plain: string | null;
}

/** The names that a message mentions, and whether that is the reader. Names are compared without case. */
export type MentionedNames = ReadonlyMap<string, { readonly isMe: boolean }>;

const NAME_CHARACTER = /[\p{L}\p{N}._\-[\]{}^|\\]/u;
const MAX_NAME_LENGTH = 32;

export function renderBlocks(text: string, mentioned: MentionedNames = new Map()): readonly Block[] {
  const marked = markedFor(mentioned);
  const tokens = marked.lexer(text);
  return tokens.filter(isVisible).map((token) => ({ html: marked.parser([token]), plain: plainText(token) }));
}

export function renderMarkdown(text: string, mentioned: MentionedNames = new Map()): string {
  return renderBlocks(text, mentioned)
    .map(({ html }) => html)
    .join('');
}

/** What a text consists of, where nobody needs its HTML. */
export function tokensOf(text: string): readonly Token[] {
  return plain.lexer(text);
}

function isVisible(token: Token): boolean {
  return token.type !== 'space' && token.type !== 'def';
}

function plainText(token: Token): string | null {
  if (token.type !== 'paragraph' || token.raw.includes('&')) return null; // an entity is the parser's to read
  const [only, ...others] = token.tokens ?? [];
  return only?.type === 'text' && others.length === 0 && only.raw === token.raw ? only.raw : null;
}

const plain = newMarked(new Map());

function markedFor(mentioned: MentionedNames): Marked {
  return mentioned.size === 0 ? plain : newMarked(mentioned);
}

function newMarked(mentioned: MentionedNames): Marked {
  return new Marked({
    gfm: true,
    breaks: true, // a line break in a chat is meant
    extensions: [mention(mentioned)],
    tokenizer: {
      // Without tokens for HTML, blocks or tags, the text stays text and Markdown inside it still counts.
      html: () => undefined,
      tag: () => undefined,
    },
    renderer: {
      html: ({ text }) => escape(text),
      image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
      code: ({ text, lang }) => codeBlock(text, lang),
      checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
    },
  });
}

function codeBlock(code: string, info: string | undefined): string {
  const language = info?.match(/^[\w+#.-]+/)?.[0] ?? '';
  return (
    `<div class="code"><div class="code-head"><span>${escape(language)}</span>` +
    `<button type="button" class="copy">Copy</button></div>` +
    `<pre tabindex="0"><code>${escape(code)}\n</code></pre></div>`
  );
}

type MentionToken = Tokens.Generic & { readonly name: string; readonly isMe: boolean };

function mention(mentioned: MentionedNames): TokenizerAndRendererExtension {
  return {
    name: 'mention',
    level: 'inline',
    start: (text) => {
      const index = text.indexOf('@');
      return index < 0 ? undefined : index;
    },
    tokenizer(text) {
      const name = mentionedAt(text, mentioned);
      if (name === null) return undefined;
      const isMe = mentioned.get(name.toLowerCase())?.isMe ?? false;
      return { type: 'mention', raw: `@${name}`, name, isMe };
    },
    renderer(token) {
      const { name, isMe } = token as MentionToken;
      return `<span class="mention${isMe ? ' mention-me' : ''}">@${escape(name)}</span>`;
    },
  };
}

/** The longest mentioned name that stands at the start of `text`, after its `@`. */
function mentionedAt(text: string, mentioned: MentionedNames): string | null {
  if (!text.startsWith('@')) return null;
  let name = '';
  let found: string | null = null;
  for (const character of text.slice(1, 1 + 2 * MAX_NAME_LENGTH)) {
    if (!NAME_CHARACTER.test(character)) break;
    name += character;
    if (mentioned.has(name.toLowerCase())) found = name;
  }
  return found;
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character);
}
