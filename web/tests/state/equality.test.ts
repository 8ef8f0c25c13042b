/**
 * The reducer held against a real server: for every snapshot of a recorded history, the events after it lead to the state
 * at its end.
 *
 * The history is recorded by tests/acceptance/test_state_equality.py, which holds every kind of event and names its file in
 * VITE_RECORDED_HISTORY. Without one these tests are skipped, and say so.
 */

import { describe, expect, test } from 'vitest';
import { readConversation, readEvent, readMember, readMessagePage, readUser } from '../../src/protocol/read-words';
import { Reader } from '../../src/protocol/reading';
import type { Conversation, LogEvent, Member, MessagePage, User } from '../../src/protocol/words';
import type { Input } from '../../src/state/reduce';
import { emptyStudio, type ConversationState } from '../../src/state/studio';
import { play } from '../support/studios';

interface Snapshot {
  readonly conversation: Conversation;
  readonly members: readonly Member[];
  readonly page: MessagePage;
  readonly newest: MessagePage;
}

interface Recorded {
  readonly me: User;
  readonly snapshots: readonly Snapshot[];
  readonly events: readonly LogEvent[];
}

const named = import.meta.env['VITE_RECORDED_HISTORY'] as string | undefined;
const recorded = named ? read(await textOf(named)) : null;

describe.skipIf(recorded === null)('a real history (pytest tests/acceptance/test_state_equality.py)', () => {
  const { snapshots, events } = recorded ?? { snapshots: [], events: [] };
  const last = snapshots.at(-1);

  test('is more than a few events, each of a kind that is known here', () => {
    expect(snapshots.length).toBeGreaterThan(10);
    expect(events.length).toBeGreaterThan(snapshots.length);
    expect(events.filter(({ kind }) => kind === 'unknown')).toEqual([]);
  });

  test.each(snapshots.map((snapshot) => [snapshot.page.head, snapshot] as const))(
    'the snapshot at %i and all events after it are the state at the head',
    (head, snapshot) => {
      const grown = played(snapshot, snapshot.page, events.slice(head));
      expect(grown.timeline?.messages).toEqual(last?.page.messages);
      expect(settings(grown)).toEqual(last && settings(played(last, last.page, [])));
      expect(people(grown.members)).toEqual(people(last?.members));
      expect(grown.memberCount).toBe(last?.conversation.member_count);
      expect([grown.cursor, grown.head]).toEqual([events.length, events.length]);
    },
  );

  test.each(snapshots.map((snapshot) => [snapshot.page.head, snapshot] as const))(
    'so are the newest messages at %i',
    (head, snapshot) => {
      const grown = played(snapshot, snapshot.newest, events.slice(head)).timeline?.messages ?? [];
      const first = grown[0]?.seq ?? Infinity;
      expect(grown).toEqual(last?.page.messages.filter(({ seq }) => seq >= first));
    },
  );
});

function played(snapshot: Snapshot, page: MessagePage, after: readonly LogEvent[]): ConversationState {
  const { conversation, members } = snapshot;
  const inputs: Input[] = [
    { type: 'welcome', user: recorded?.me ?? { id: '', username: '', role: 'member' }, conversations: [conversation] },
    { type: 'local.conversations', conversations: [conversation] },
    { type: 'local.members', conversation: conversation.id, members },
    { type: 'local.page', conversation: conversation.id, place: 'newest', page },
    ...after.map((event): Input => ({ type: 'event', conversation: conversation.id, event })),
  ];
  const state = play(emptyStudio, inputs).conversations[conversation.id];
  if (!state) throw new Error('the conversation is gone');
  return state;
}

/** What the log tells of the settings. */
function settings({ title, visibility, model, role }: ConversationState) {
  return { title, visibility, model, role };
}

/** What the log tells of the members. */
function people(members: readonly Member[] | null | undefined) {
  return members?.map(({ user, role }) => `${user.id} ${user.username} ${role}`).sort();
}

function read(text: string): Recorded {
  const from = new Reader(JSON.parse(text), 'history');
  return {
    me: from.object('me', readUser),
    snapshots: from.list('snapshots', (snapshot) => ({
      conversation: snapshot.object('conversation', readConversation),
      members: snapshot.list('members', readMember),
      page: snapshot.object('page', readMessagePage),
      newest: snapshot.object('newest', readMessagePage),
    })),
    events: from.list('events', readEvent),
  };
}

/** The page's own sources know nothing of files, and so do their types. */
async function textOf(path: string): Promise<string> {
  const files = 'node:fs/promises';
  const { readFile } = (await import(/* @vite-ignore */ files)) as {
    readFile: (path: string, encoding: 'utf8') => Promise<string>;
  };
  return readFile(path, 'utf8');
}
