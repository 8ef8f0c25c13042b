/**
 * Ids made by this client: UUIDv7 (RFC 9562, section 5.7), so that unsent messages sort by age.
 *
 * `crypto.randomUUID` is not used: browsers hide it on plain http, where a studio in a home network lives.
 */

export type IdMaker = () => string;

export function uuid7(unixMs: number, random: Uint8Array): string {
  const bytes = Uint8Array.from({ length: 16 }, (_, index) =>
    index < 6 ? Math.floor(unixMs / 2 ** (8 * (5 - index))) % 256 : (random[index - 6] ?? 0),
  );
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

export const browserId: IdMaker = () => uuid7(Date.now(), crypto.getRandomValues(new Uint8Array(10)));
