/** A message in one line, as a preview shows it: what Markdown means without how it is written. */

import type { Token, Tokens } from 'marked';
import { tokensOf } from './markdown';

const MAX_READ = 1_000; // characters: no preview shows more, and a long message costs no more than a short one

export function plainLine(text: string, maxLength: number): string {
  const line = tokensOf(text.slice(0, MAX_READ)).map(plain).join(' ').replace(/\s+/g, ' ').trim();
  return line.length > maxLength ? `${line.slice(0, maxLength).trimEnd()}…` : line;
}

function plain(token: Token): string {
  switch (token.type) {
    case 'space':
    case 'def':
    case 'hr':
    case 'br':
      return ' ';
    case 'list':
      return (token as Tokens.List).items.map(plain).join(' ');
    case 'table': {
      const { header, rows } = token as Tokens.Table;
      return [header, ...rows].flatMap((row) => row.map((cell) => cell.tokens.map(plain).join(''))).join(' ');
    }
    case 'image':
      return (token as Tokens.Image).text || (token as Tokens.Image).href;
    default:
      if ('tokens' in token && token.tokens) return token.tokens.map(plain).join(isBlock(token) ? ' ' : '');
      return 'text' in token ? withoutEntities(String(token.text)) : token.raw;
  }
}

function isBlock({ type }: Token): boolean {
  return type === 'blockquote' || type === 'list_item';
}

const characters: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };

function withoutEntities(text: string): string {
  return text.replace(/&(amp|lt|gt|quot|#39);/g, (entity, name: string) => characters[name] ?? entity);
}
