import { expect, test } from 'vitest';
import { browserId, uuid7 } from '../../src/connection/ids';

test('an id is the UUIDv7 of RFC 9562, appendix A.6', () => {
  const random = Uint8Array.from([0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f]);
  expect(uuid7(0x017f22e279b0, random)).toBe('017f22e2-79b0-7cc3-98c4-dc0c0c07398f');
});

test('ids sort by age and fit the pattern of client ids', () => {
  const zero = new Uint8Array(10);
  expect(uuid7(1_700_000_000_000, zero) < uuid7(1_700_000_000_001, zero)).toBe(true);
  expect(browserId()).toMatch(/^[A-Za-z0-9._:-]{1,64}$/);
  expect(browserId()).not.toBe(browserId());
});
