import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Delta } from '../../src/protocol/frames';
import { applyDelta, reasoningOf, textOf } from '../../src/state/streams';
import type { Stream } from '../../src/state/studio';
import { ModelServer } from '../support/model-server';
import { ROOM, play, room, welcomed } from '../support/studios';

const delta = (from: number, text: string, more: Partial<Delta> = {}): Delta => ({
  type: 'delta',
  conversation: ROOM,
  run: 'r',
  message: 'm',
  part: 0,
  kind: 'text',
  from,
  text,
  ...more,
});

function streamed(deltas: readonly Delta[]): Stream {
  const stream = deltas.reduce<Stream | undefined>(applyDelta, undefined);
  if (!stream) throw new Error('no delta');
  return stream;
}

describe('deltas', () => {
  test('offsets count code points, so an emoji is one', () => {
    expect(textOf(streamed([delta(0, 'a👋🏽'), delta(3, 'b')]))).toBe('a👋🏽b');
  });

  test('in any pieces, repeated and overlapping, give the text', () => {
    const pieces = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }).chain((text) => {
      const length = [...text].length;
      return fc.record({
        text: fc.constant(text),
        cuts: fc.array(fc.tuple(fc.nat(length), fc.nat(length)), { maxLength: 12 }),
      });
    });
    fc.assert(
      fc.property(pieces, ({ text, cuts }) => {
        const points = [...text];
        const cut = cuts.map(([from, length]) => delta(from, points.slice(from, from + length).join('')));
        const stream = streamed([...cut, delta(0, text)]);
        expect(textOf(stream)).toBe(text);
        const partial = cut.length > 0 ? textOf(streamed(cut)) : '';
        expect(text.startsWith(partial)).toBe(true);
      }),
    );
  });

  test('a lost one is noticed, shows nothing garbled, and is mended by a delta from the start', () => {
    const torn = streamed([delta(0, 'one '), delta(8, 'three')]);
    expect([textOf(torn), torn.isTorn]).toEqual(['one ', true]);
    const whole = applyDelta(torn, delta(0, 'one two three'));
    expect([textOf(whole), whole.isTorn]).toEqual(['one two three', false]);
  });

  test('parts of another kind stay apart', () => {
    const stream = streamed([delta(0, 'hm', { kind: 'reasoning' }), delta(0, 'yes', { part: 1 })]);
    expect([textOf(stream), reasoningOf(stream)]).toEqual(['yes', 'hm']);
  });

  test('one that comes after the end does not bring the answer back', () => {
    const server = new ModelServer([
      { do: 'run', who: 0, text: '' },
      { do: 'end', who: 0, pick: 0, text: 'all' },
    ]);
    const [started] = server.log;
    if (started?.kind !== 'run.started') throw new Error('no run');
    const { run, message } = started.data;
    const ended = play(
      welcomed(0),
      server.log.map((event) => ({ type: 'event', conversation: ROOM, event }) as const),
    );
    expect(room(play(ended, [delta(0, 'a', { run, message })])).streams).toEqual({});
  });
});
