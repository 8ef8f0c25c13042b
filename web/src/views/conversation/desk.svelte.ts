/** What the person is about to do in the open conversation; shared by its parts, gone when another one is opened. */

import { createContext } from 'svelte';
import type { Message, MessageId } from '../../protocol/words';

export class Desk {
  replyTo = $state.raw<Message | null>(null);
  editing = $state.raw<MessageId | null>(null);
  /** The row whose tools are shown. */
  active = $state.raw<MessageId | null>(null);
  /** The message that gets the next emoji, and the button beside which to offer them. */
  reactTo = $state.raw<{ readonly message: Message; readonly beside: HTMLElement } | null>(null);
  /** The message whose readers are shown, and the button beside which to show them. */
  seen = $state.raw<{ readonly message: Message; readonly beside: HTMLElement } | null>(null);
  isPanelOpen = $state(false);
  toEnd: () => void = () => {};
  showMessage: (id: MessageId) => void = () => {};

  reply(message: Message): void {
    this.replyTo = message;
    this.focusComposer();
  }

  doneEditing(): void {
    this.editing = null;
    this.focusComposer();
  }

  focusComposer(): void {
    document.getElementById('composer')?.focus();
  }
}

export const [desk, setDesk] = createContext<Desk>();
