/** Completing `@name` while it is typed. Pure: text and caret in, text and caret out. */

const MAX_OFFERED = 8;

export interface Candidate {
  readonly id: string;
  readonly name: string;
  readonly kind: 'user' | 'model';
}

export interface Asked {
  /** Where the `@` stands. */
  readonly start: number;
  readonly query: string;
}

/** The mention being typed at the caret; an `@` inside a word (an e-mail address) is none. */
export function askedAt(text: string, caret: number): Asked | null {
  const match = /(?:^|[\s([{"'])@([\p{L}\p{N}._\-[\]{}^|\\]{0,32})$/u.exec(text.slice(0, caret));
  if (!match) return null;
  const query = match[1] ?? '';
  return { start: caret - query.length - 1, query };
}

/** Names that begin with the query come first, then those that contain it. */
export function offer(query: string, candidates: readonly Candidate[]): readonly Candidate[] {
  const wanted = query.toLowerCase();
  const rank = ({ name }: Candidate) => {
    const place = name.toLowerCase().indexOf(wanted);
    return place < 0 ? 2 : Math.min(place, 1);
  };
  return candidates
    .filter((candidate) => rank(candidate) < 2)
    .sort((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name))
    .slice(0, MAX_OFFERED);
}

export function complete(text: string, caret: number, { start }: Asked, name: string): { text: string; caret: number } {
  const rest = text.slice(caret).replace(/^ /, '');
  const before = `${text.slice(0, start)}@${name} `;
  return { text: before + rest, caret: before.length };
}
