import { expect, test } from 'vitest';
import { layout } from '../../src/state/layout';
import { ModelServer } from '../support/model-server';

const [first] = new ModelServer([{ do: 'send', who: 1, text: 'x' }]).page().messages;
if (!first) throw new Error('no message');
const at = (seq: number, time: string, who = 'u-bo') => ({
  ...first,
  id: `m-${seq}`,
  seq,
  at: new Date(`2026-03-0${time}`).toISOString(),
  actor: { ...first.actor, id: who },
});

test('one author within five minutes is one group; a pause, another author, another day open the next', () => {
  const rows = layout(
    [at(1, '1T10:00'), at(2, '1T10:04'), at(3, '1T10:10'), at(4, '1T10:10', 'u-cy'), at(5, '2T00:01', 'u-cy')],
    null,
    'u-ada',
  );
  expect(rows.map(({ leads }) => leads)).toEqual([true, false, true, true, true]);
  expect(rows.map(({ dayMs }) => dayMs !== null)).toEqual([true, false, false, false, true]);
});

test('"New" stands once, before the first unread message of somebody else', () => {
  const messages = [at(1, '1T10:00'), at(2, '1T10:00', 'u-ada'), at(3, '1T10:01'), at(4, '1T10:01')];
  expect(layout(messages, 1, 'u-ada').map(({ isFirstNew }) => isFirstNew)).toEqual([false, false, true, false]);
  expect(layout(messages, null, 'u-ada').some(({ isFirstNew }) => isFirstNew)).toBe(false);
  expect(layout(messages, 4, 'u-ada').some(({ isFirstNew }) => isFirstNew)).toBe(false);
});
