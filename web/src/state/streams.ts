/**
 * Running answers: deltas put together by their offsets.
 *
 * Promises: repeated and overlapping deltas change nothing; a lost one marks the stream torn and never garbles its text.
 * When the run has ended its message holds the whole text, and the stream is gone.
 */

import type { Delta } from '../protocol/frames';
import type { Stream, StreamPart } from './studio';

export function applyDelta(stream: Stream | undefined, delta: Delta): Stream {
  const before = stream?.run === delta.run ? stream : { run: delta.run, parts: {}, isTorn: false };
  const part = before.parts[delta.part] ?? { kind: delta.kind, text: '', length: 0 };
  if (delta.from > part.length) return before.isTorn ? before : { ...before, isTorn: true };
  const length = codePoints(delta.text);
  if (delta.from + length <= part.length) return before;
  const next: StreamPart = {
    kind: part.kind,
    text:
      delta.from === part.length ? part.text + delta.text : [...part.text].slice(0, delta.from).join('') + delta.text,
    length: delta.from + length,
  };
  // A delta from the start tells everything so far, so what was torn is whole again.
  return { ...before, parts: { ...before.parts, [delta.part]: next }, isTorn: before.isTorn && delta.from > 0 };
}

/** What the answer says so far. */
export function textOf(stream: Stream): string {
  return joined(stream, 'text');
}

/** What the model thinks aloud, where it does. */
export function reasoningOf(stream: Stream): string {
  return joined(stream, 'reasoning');
}

function joined(stream: Stream, kind: string): string {
  return Object.values(stream.parts)
    .filter((part) => part.kind === kind)
    .map((part) => part.text)
    .join('\n\n');
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
