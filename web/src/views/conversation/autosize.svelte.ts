/** A text field as tall as its text; its style sheet says how tall at most. */

import type { Attachment } from 'svelte/attachments';

export function autosize(text: () => string): Attachment<HTMLTextAreaElement> {
  return (field) => {
    $effect(() => {
      text();
      field.style.height = 'auto';
      field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
    });
  };
}
