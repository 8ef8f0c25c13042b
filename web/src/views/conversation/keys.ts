/**
 * What a key means in a field where messages are written. Pure, so that the rules can be read and tested in one place.
 *
 * Promise: a key that belongs to an input method (Chinese, Japanese, Korean and others compose letters with Enter) does
 * nothing here. Safari ends the composition before the Enter that ended it, and marks that key only with the code 229.
 */

export type Meaning = 'send' | 'edit-last' | 'leave' | 'next' | 'previous' | 'choose' | 'close-list' | 'type';

export interface Key {
  readonly key: string;
  readonly keyCode: number;
  readonly isComposing: boolean;
  readonly shiftKey: boolean;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly altKey: boolean;
}

export interface Field {
  readonly isEmpty: boolean;
  /** The list of names is open. */
  readonly isCompleting: boolean;
}

const COMPOSING_KEY_CODE = 229;

export function meaning(key: Key, field: Field): Meaning {
  if (key.isComposing || key.keyCode === COMPOSING_KEY_CODE) return 'type';
  if (field.isCompleting) {
    const listed = inList(key);
    if (listed) return listed;
  }
  if (key.key === 'Enter' && !key.shiftKey && !key.altKey) return 'send';
  if (key.key === 'ArrowUp' && field.isEmpty && !hasModifier(key)) return 'edit-last';
  if (key.key === 'Escape') return 'leave';
  return 'type';
}

function inList(key: Key): Meaning | null {
  if (hasModifier(key)) return null;
  switch (key.key) {
    case 'ArrowDown':
      return 'next';
    case 'ArrowUp':
      return 'previous';
    case 'Enter':
    case 'Tab':
      return 'choose';
    case 'Escape':
      return 'close-list';
    default:
      return null;
  }
}

function hasModifier({ shiftKey, ctrlKey, metaKey, altKey }: Key): boolean {
  return shiftKey || ctrlKey || metaKey || altKey;
}
