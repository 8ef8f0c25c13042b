/**
 * Who sits here: nobody yet, a person at the door, a person in the studio.
 *
 * A one-time link in the address goes before everything else; after it the ordinary question is who the cookie says I am.
 */

import { Http } from '../api/http';
import { StudioApi, type Policy } from '../api/studio-api';
import { browserClock } from '../connection/clock';
import { StudioClient } from '../connection/client';
import { browserId } from '../connection/ids';
import { Problem, explainError } from '../protocol/problems';
import type { Account } from '../protocol/words';
import type { Kept } from '../state/kept';
import { readLink, type OneTimeLink } from './links';
import { StudioView } from './studio-view.svelte';

export type Phase = 'loading' | 'door' | 'studio' | 'unreachable';

export class Session {
  readonly api = new StudioApi(new Http((address, request) => window.fetch(address, request)));
  readonly kept: Kept;
  phase = $state<Phase>('loading');
  account = $state.raw<Account | null>(null);
  policy = $state.raw<Policy>({ registration: 'closed', needsSetUp: false });
  /** A link that needs a form: a new password, or a new account. */
  link = $state.raw<OneTimeLink | null>(null);
  notice = $state('');
  view = $state.raw<StudioView | null>(null);

  constructor(kept: Kept) {
    this.kept = kept;
  }

  async begin(): Promise<void> {
    this.phase = 'loading';
    const link = readLink(location.hash);
    if (link) history.replaceState(null, '', location.pathname);
    try {
      if (link?.kind === 'sign-in') await this.#redeem(link);
      else if (link) return await this.#openDoor(link);
      await this.enter();
    } catch (error) {
      if (error instanceof Problem && error.code === 'unauthenticated') await this.#openDoor(null);
      else this.phase = 'unreachable';
    }
  }

  /** Signed in by now: the cookie says as whom. Whoever just made an account is shown into the room for newcomers. */
  async enter(isNewcomer = false): Promise<void> {
    this.account = await this.api.me();
    this.link = null;
    this.notice = '';
    this.view?.stop();
    this.view = new StudioView(this.#newClient(this.account), this.kept, this.account);
    this.view.start(isNewcomer);
    this.phase = 'studio';
  }

  async refreshAccount(): Promise<void> {
    this.account = await this.api.me();
  }

  async signOut(): Promise<void> {
    await this.api.signOut().catch(() => undefined); // offline: the page forgets all the same
    this.#leave('');
  }

  async erase(messages: 'keep' | 'erase', currentPassword?: string): Promise<void> {
    await this.api.eraseMe(messages, currentPassword);
    this.#leave('Your account is erased.');
  }

  #leave(notice: string): void {
    this.view?.stop();
    this.view = null;
    this.account = null;
    this.notice = notice;
    history.replaceState(null, '', location.pathname);
    void this.#openDoor(null);
  }

  async #redeem(link: OneTimeLink): Promise<void> {
    try {
      await this.api.redeem(link.token);
    } catch (error) {
      // A used-up link is common (a reload, a second click): the session that it once made may still stand.
      this.notice =
        error instanceof Problem && error.code === 'offline'
          ? ''
          : `This sign-in link does not work any more. ${explainLink(error)}`;
    }
  }

  async #openDoor(link: OneTimeLink | null): Promise<void> {
    this.link = link;
    try {
      this.policy = await this.api.policy();
      this.phase = 'door';
    } catch {
      this.phase = 'unreachable';
    }
  }

  #newClient(account: Account): StudioClient {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    return new StudioClient({
      me: { id: account.id, username: account.username, role: account.role },
      api: this.api,
      socketAddress: `${scheme}//${location.host}/ws`,
      openSocket: (address, subprotocol) => new WebSocket(address, subprotocol),
      clock: browserClock,
      chance: Math.random,
      newId: browserId,
      kept: this.kept,
      onConnection: (state) => this.view?.connectionChanged(state),
      onSignedOut: () => this.#leave('Your session has ended. Please sign in again.'),
    });
  }
}

function explainLink(error: unknown): string {
  if (error instanceof Problem && (error.code === 'not_found' || error.code === 'unauthenticated')) return '';
  return explainError(error);
}
