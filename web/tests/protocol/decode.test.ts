import { describe, expect, test } from 'vitest';
import { decodeFrame } from '../../src/protocol/decode';
import { WrongShape } from '../../src/protocol/reading';

const decode = (frame: object) => decodeFrame(JSON.stringify(frame));
const happening = {
  type: 'event',
  conversation: 'c',
  seq: 3,
  at: '2026-01-01T00:00:00.000Z',
  actor: { kind: 'user', id: 'u', name: 'ada' },
};

describe('server frames', () => {
  test('of an unknown type are ignored', () => {
    expect(decode({ type: 'weather', sunny: true })).toBeNull();
  });

  test('with unknown fields are read without them', () => {
    expect(decode({ type: 'drain', reconnect_in_ms: 5, why: 'upgrade' })).toEqual({
      type: 'drain',
      reconnect_in_ms: 5,
    });
  });

  test('an event of an unknown kind keeps its place in the order', () => {
    expect(decode({ ...happening, kind: 'poll.opened', data: { question: '?' } })).toMatchObject({
      event: { kind: 'unknown', seq: 3 },
    });
  });

  test('a message has defaults for what a server leaves out', () => {
    expect(decode({ ...happening, kind: 'message.created', data: { id: 'm', text: 'hi' } })).toMatchObject({
      event: {
        kind: 'message.created',
        data: {
          id: 'm',
          text: 'hi',
          client_id: null,
          reply_to: null,
          mentions: [],
          attachments: [],
          people_only: false,
        },
      },
    });
  });

  test('a change names only what changed, and null clears', () => {
    const frame = decode({ ...happening, kind: 'conversation.updated', data: { model: null } });
    expect(frame).toMatchObject({ event: { data: { model: null } } });
    expect(frame?.type === 'event' && Object.keys(frame.event.data ?? {})).toEqual(['model']);
  });

  test("a failed run's error is a sentence, whichever way it is written", () => {
    const ended = (error: unknown) =>
      decode({ ...happening, kind: 'run.ended', data: { run: 'r', message: 'm', status: 'failed', text: '', error } });
    for (const error of ['no key', { code: 'model_error', message: 'no key' }])
      expect(ended(error)).toMatchObject({ event: { data: { error: 'no key' } } });
  });

  test('an answer to `subscribe` may be an error of its own', () => {
    const frame = decode({
      type: 'subscribed',
      id: 's',
      conversations: { a: { error: 'not_found' }, b: { head: 1, epoch: 'e', first: 1, reset: false, read: 0 } },
    });
    expect(frame).toMatchObject({ conversations: { a: { error: 'not_found' }, b: { head: 1, reset: false } } });
  });

  test('presence names one person, or tells only how many are here', () => {
    const one = { type: 'presence', conversation: 'c', user: 'u', state: 'online' };
    expect(decode(one)).toEqual({ ...one, count: null });
    const many = { type: 'presence', conversation: 'c', count: 214 };
    expect(decode(many)).toMatchObject({ conversation: 'c', user: null, count: 214 });
  });

  test('what is read was delivered, also where nobody says so', () => {
    expect(decode({ type: 'receipt', conversation: 'c', user: 'u', read: 4 })).toMatchObject({ delivered: 4, read: 4 });
  });

  test('a broken shape of a known type is a fault, and says which field', () => {
    expect(() => decode({ ...happening, seq: -1, kind: 'x', data: {} })).toThrow(WrongShape);
    expect(() => decode({ ...happening, kind: 'message.created', data: { text: 'no id' } })).toThrow(
      'frame.data.id should be a string',
    );
    expect(() => decodeFrame('{')).toThrow(SyntaxError);
    expect(() => decodeFrame('[]')).toThrow(WrongShape);
  });
});
