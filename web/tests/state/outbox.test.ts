import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Input } from '../../src/state/reduce';
import { due, nextDueMs } from '../../src/state/outbox';
import { ModelServer, me } from '../support/model-server';
import { ROOM, play, welcomed } from '../support/studios';

const send = (id: string): Input => ({
  type: 'local.send',
  at: '2026-01-01T00:00:00.000Z',
  frame: { type: 'send', id, conversation: ROOM, text: id },
});
const refusal = (id: string, code: string, retryable: boolean, retry_after_s: number | null = null): Input => ({
  type: 'error',
  id,
  code,
  message: 'why',
  retryable,
  retry_after_s,
});
const created = (clientId: string, seq: number, actor: string = me.id): Input => {
  const server = new ModelServer();
  server.append(
    'message.created',
    { kind: 'user', id: actor, name: 'x' },
    { id: `m-${seq}`, client_id: clientId, text: '' },
  );
  return {
    type: 'event',
    conversation: ROOM,
    event: { ...(server.log[0] as NonNullable<(typeof server.log)[0]>), seq },
  };
};
const ids = (studio: ReturnType<typeof play>) => studio.outbox.map(({ frame, status }) => `${frame.id} ${status}`);

describe('the outbox', () => {
  test('an entry leaves when the log shows its message, whether the acknowledgement came before or after', () => {
    const sent = play(welcomed(0), [send('k'), { type: 'local.sent', id: 'k' }]);
    const ack: Input = { type: 'ack', id: 'k', seq: 1, message: 'm-1' };
    expect(ids(play(sent, [ack]))).toEqual(['k acknowledged']);
    expect(ids(play(sent, [ack, created('k', 1)]))).toEqual([]);
    expect(ids(play(sent, [created('k', 1)]))).toEqual([]);
    expect(ids(play(sent, [created('k', 1), ack]))).toEqual([]);
  });

  test('the acknowledgement of a repeat that the log has shown long ago settles it', () => {
    expect(ids(play(welcomed(9), [send('k'), { type: 'ack', id: 'k', seq: 4, message: 'm' }]))).toEqual([]);
  });

  test("another person's message with the same client id settles nothing", () => {
    expect(ids(play(welcomed(0), [send('k'), created('k', 1, 'u-bo')]))).toEqual(['k waiting']);
  });

  test('what was on its way when the connection broke waits again, under its own id', () => {
    const lost = play(welcomed(0), [
      send('a'),
      send('b'),
      { type: 'local.sent', id: 'a' },
      { type: 'local.disconnected' },
    ]);
    expect(due(lost, 0).map(({ frame }) => frame.id)).toEqual(['a', 'b']);
  });

  test('a retryable refusal waits as long as it was told; another one is for the person to decide', () => {
    const waiting = play(welcomed(0), [send('k'), refusal('k', 'rate_limited', true, 3)], 1_000);
    expect([ids(waiting), nextDueMs(waiting), due(waiting, 3_999), due(waiting, 4_000).length]).toEqual([
      ['k waiting'],
      4_000,
      [],
      1,
    ]);
    const failed = play(welcomed(0), [send('k'), refusal('k', 'rejected', false)]);
    expect(failed.outbox[0]).toMatchObject({ status: 'failed', code: 'rejected', detail: 'why' });
    expect(due(failed, 1e9)).toEqual([]);
    expect(due(play(failed, [{ type: 'local.retry', id: 'k' }]), 0).map(({ frame }) => frame)).toEqual([
      failed.outbox[0]?.frame,
    ]);
    expect(ids(play(failed, [{ type: 'local.discard', id: 'k' }]))).toEqual([]);
  });

  test('a refusal of a server that is about to go is forgotten with it', () => {
    const refused = play(welcomed(0), [send('k'), refusal('k', 'draining', true, 5)]);
    expect(due(refused, 4_999)).toEqual([]);
    const parted = play(refused, [{ type: 'local.disconnected' }]);
    expect(due(parted, 0)).toMatchObject([{ frame: { id: 'k' }, code: null, attempts: 0 }]);
    const busy = play(welcomed(0), [send('k'), refusal('k', 'rate_limited', true, 5), { type: 'local.disconnected' }]);
    expect(due(busy, 4_999)).toEqual([]);
  });

  test('refusals in a row wait ever longer, up to half a minute', () => {
    const often = play(welcomed(0), [
      send('k'),
      ...Array.from({ length: 12 }, () => refusal('k', 'unavailable', true)),
    ]);
    expect(nextDueMs(often)).toBe(30_000);
  });

  test('restoring twice keeps one entry each', () => {
    const kept = play(welcomed(0), [send('a')]).outbox;
    expect(ids(play(welcomed(0), [send('a'), { type: 'local.outbox_restored', entries: kept }]))).toEqual([
      'a waiting',
    ]);
  });

  test('nothing is ever lost: an entry is in the log, acknowledged, thrown away, or still here', () => {
    const names = ['a', 'b', 'c'] as const;
    const step = fc
      .constantFrom(...names)
      .chain((id) =>
        fc.constantFrom<Input[]>(
          [send(id)],
          [{ type: 'local.sent', id }],
          [{ type: 'local.disconnected' }],
          [refusal(id, 'overloaded', true)],
          [refusal(id, 'forbidden', false)],
          [{ type: 'local.retry', id }],
          [{ type: 'reset', conversation: ROOM, head: 9, epoch: 'e2' }],
        ),
      );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (inputs) => {
        const studio = play(welcomed(0), names.map(send).concat(inputs.flat()));
        expect(studio.outbox.map(({ frame }) => frame.id).sort()).toEqual([...names]);
      }),
    );
  });
});
