/**
 * The last step before the DOM: HTML in, harmless nodes out.
 *
 * Promises: only the elements, attributes and address schemes named here survive, whatever came. The result is a fragment
 * and not a string, so nothing parses it a second time.
 */

import DOMPurify, { type Config, type DOMPurify as Purifier } from 'dompurify';

const config: Config & { RETURN_DOM_FRAGMENT: true } = {
  ALLOWED_TAGS: [
    'p',
    'br',
    'strong',
    'em',
    'del',
    'a',
    'code',
    'pre',
    'blockquote',
    'ul',
    'ol',
    'li',
    'hr',
    'h1',
    'h2',
    'h3',
    'h4',
    'h5',
    'h6',
    'table',
    'thead',
    'tbody',
    'tr',
    'th',
    'td',
    'div',
    'span',
    'button',
    '#text',
  ],
  ALLOWED_ATTR: ['href', 'title', 'class', 'start', 'align', 'type', 'tabindex'],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** The classes that our own renderer gives; a message cannot dress itself up as a part of the page. */
const classes = new Set(['code', 'code-head', 'copy', 'mention', 'mention-me']);

export function sanitise(html: string): DocumentFragment {
  return purifier().sanitize(html, config);
}

let ready: Purifier | null = null;

function purifier(): Purifier {
  if (ready) return ready;
  ready = DOMPurify(window);
  ready.addHook('afterSanitizeAttributes', (node) => {
    if (node.hasAttribute('class')) keepOwnClasses(node);
    if (node.tagName !== 'A') return;
    node.setAttribute('rel', 'noopener noreferrer');
    node.setAttribute('target', '_blank');
  });
  return ready;
}

function keepOwnClasses(node: Element): void {
  const kept = [...node.classList].filter((name) => classes.has(name));
  if (kept.length === 0) node.removeAttribute('class');
  else node.setAttribute('class', kept.join(' '));
}
