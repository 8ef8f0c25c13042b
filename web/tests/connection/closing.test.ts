import { expect, test } from 'vitest';
import { afterClose, pauseMs } from '../../src/connection/closing';

test('4000 to 4499, lost sockets, restarts and overload come back', () => {
  for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 4000, 4008, 4012, 4013, 4014, 4499]) {
    expect(afterClose(code).comesBack, String(code)).toBe(true);
  }
});

test('4500 to 4999 do not, and say why', () => {
  for (const code of [4500, 4501, 4502, 4503, 4504, 4507, 4999]) {
    const next = afterClose(code);
    expect(next.comesBack, String(code)).toBe(false);
    expect(!next.comesBack && next.reason.length, String(code)).toBeGreaterThan(10);
  }
});

test('an ended session goes to the door; too many windows do not', () => {
  expect(
    [4500, 4502, 4503, 4501, 4504, 4507].map((code) => 'signsIn' in afterClose(code) && afterClose(code)),
  ).toMatchObject([
    { signsIn: true },
    { signsIn: true },
    { signsIn: true },
    { signsIn: false },
    { signsIn: false },
    { signsIn: false },
  ]);
});

test('whoever was told to slow down does', () => {
  expect([1013, 4013, 1006].map(afterClose)).toMatchObject([
    { leastPauseMs: 5_000 },
    { leastPauseMs: 5_000 },
    { leastPauseMs: 0 },
  ]);
});

test('pauses double up to half a minute, and spread over all of it', () => {
  const most = Array.from({ length: 12 }, (_, attempt) => pauseMs(attempt, () => 0.999999));
  expect(most.slice(0, 4)).toEqual([400, 800, 1_600, 3_200]);
  expect(Math.max(...most)).toBe(30_000);
  most.forEach((_, attempt) => expect(pauseMs(attempt, () => 0)).toBe(50));
  expect(pauseMs(0, () => 0.5)).toBe(225);
});
