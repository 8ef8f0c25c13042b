import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { ServerFrame } from '../../src/protocol/frames';
import { Connection, type ConnectionState } from '../../src/connection/socket';
import { FakeClock, FakeNetwork } from '../support/fakes';
import { me } from '../support/model-server';

const welcome = { type: 'welcome', user: me, connection: 'k', heartbeat_s: 25, conversations: [] };

let clock: FakeClock;
let network: FakeNetwork;
let frames: ServerFrame[];
let states: ConnectionState[];
let refused: number;
let connection: Connection;

beforeEach(() => {
  clock = new FakeClock();
  network = new FakeNetwork();
  frames = [];
  states = [];
  refused = 0;
  connection = new Connection({
    address: 'ws://studio/ws',
    openSocket: network.open,
    clock,
    chance: () => 0.5,
    onFrame: (frame) => frames.push(frame),
    onState: (state) => states.push(state),
    onRefused: () => (refused += 1),
  });
  connection.start();
});

const names = () => states.map(({ name }) => name);

describe('a connection', () => {
  test('is open only once welcomed, and sends nothing before', () => {
    network.last.accept();
    expect(connection.send({ type: 'ping' })).toBe(false);
    network.last.say(welcome);
    expect(names()).toEqual(['connecting', 'open']);
    expect(connection.send({ type: 'ping' })).toBe(true);
  });

  test('comes back after a pause, again and again', async () => {
    network.last.accept().say(welcome).end(1006);
    await clock.pass(224);
    expect(network.sockets).toHaveLength(1);
    await clock.pass(1);
    expect(network.sockets).toHaveLength(2);
    network.last.end(1006);
    await clock.pass(600);
    expect(network.sockets).toHaveLength(3);
    network.last.accept().say(welcome);
    expect(connection.isOpen).toBe(true);
    expect(names()).toEqual(['connecting', 'open', 'waiting', 'connecting', 'waiting', 'connecting', 'open']);
  });

  test('tells since when it is away, however many attempts that takes', async () => {
    network.last.accept().say(welcome);
    await clock.pass(5_000);
    const lostMs = clock.nowMs();
    network.last.end(1006);
    await clock.pass(300);
    network.last.end(1006);
    expect(states.at(-1)).toEqual({ name: 'waiting', sinceMs: lostMs });
  });

  test('stays away after a final code', async () => {
    network.last.accept().say(welcome).end(4500);
    await clock.pass(600_000);
    connection.hurry();
    expect(network.sockets).toHaveLength(1);
    expect(states.at(-1)).toMatchObject({ name: 'closed', signsIn: true });
  });

  test('honours when a draining server wants it back', async () => {
    network.last.accept().say(welcome).say({ type: 'drain', reconnect_in_ms: 7_000 }).end(1012);
    await clock.pass(6_999);
    expect(network.sockets).toHaveLength(1);
    await clock.pass(1);
    expect(network.sockets).toHaveLength(2);
  });

  test('works with a draining server until it closes, and counts the slot from when it was told', async () => {
    network.last.accept().say(welcome).say({ type: 'drain', reconnect_in_ms: 3_000 });
    expect(connection.send({ type: 'ping' })).toBe(true);
    await clock.pass(1_000);
    network.last.end(1012);
    await clock.pass(1_999);
    expect(network.sockets).toHaveLength(1);
    await clock.pass(1);
    expect(network.sockets).toHaveLength(2);
  });

  test('counts as away from its slot on, since until then all goes as planned', async () => {
    network.last.accept().say(welcome).say({ type: 'drain', reconnect_in_ms: 3_000 });
    const slotMs = clock.nowMs() + 3_000;
    network.last.end(1012);
    expect(states.at(-1)).toEqual({ name: 'waiting', sinceMs: slotMs });
  });

  test('that is closed after its slot comes back like any other', async () => {
    network.last.accept().say(welcome).say({ type: 'drain', reconnect_in_ms: 500 });
    await clock.pass(5_000);
    network.last.end(1012);
    await clock.pass(224);
    expect(network.sockets).toHaveLength(1);
    await clock.pass(1);
    expect(network.sockets).toHaveLength(2);
  });

  test('comes no sooner than it was told, whoever hurries', async () => {
    network.last.end(1006);
    connection.notBefore(clock.nowMs() + 9_000);
    await clock.pass(8_999);
    connection.hurry();
    expect(network.sockets).toHaveLength(1);
    await clock.pass(1);
    expect(network.sockets).toHaveLength(2);
  });

  test('pings every 20 s and gives up a socket that is silent for 40 s', async () => {
    const dead = network.last.accept().say(welcome);
    await clock.pass(20_000);
    expect(dead.of('ping')).toHaveLength(1);
    await clock.pass(20_000);
    expect(dead.closedWith).toBe(4012);
    dead.say({ type: 'typing', conversation: 'c', user: 'u', on: true });
    expect(frames.map(({ type }) => type)).toEqual(['welcome']);
    await clock.pass(1_000);
    expect(network.sockets).toHaveLength(2);
  });

  test('any frame counts as life', async () => {
    const socket = network.last.accept().say(welcome);
    for (let ping = 0; ping < 10; ping += 1) {
      await clock.pass(19_000);
      socket.say({ type: 'weather' });
    }
    expect(socket.closedWith).toBeUndefined();
  });

  test('hurries when asked, and finds out about a socket that died asleep', async () => {
    network.last.accept().say(welcome).end(1006);
    connection.hurry();
    expect(network.sockets).toHaveLength(2);
    network.last.accept().say(welcome);
    connection.hurry();
    expect(network.last.of('ping')).toHaveLength(1);
  });

  test('gives up a handshake that hangs', async () => {
    const hung = network.last;
    await clock.pass(15_300);
    expect(hung.closedWith).toBe(4012);
    expect(network.sockets).toHaveLength(2);
  });

  test('reports a refused handshake, not a lost connection', async () => {
    network.last.end(1006);
    expect(refused).toBe(1);
    await clock.pass(1_000);
    network.last.accept().end(1006);
    expect(refused).toBe(1);
  });

  test('survives a frame that cannot be read', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    network.last.accept().say(welcome).onmessage?.({ data: 'no json' });
    network.last.say({ type: 'heads', conversations: { c: 4 } });
    expect(frames.map(({ type }) => type)).toEqual(['welcome', 'heads']);
    expect(warn).toHaveBeenCalledOnce();
  });
});
