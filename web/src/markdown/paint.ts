/**
 * Keeps a node showing a list of blocks, touching only those that changed: while an answer streams, text above the last
 * block can be selected, and a long answer costs no more a frame than its last paragraph.
 */

import type { Block } from './markdown';
import { sanitise } from './sanitise';

const painted = new WeakMap<Element, readonly Block[]>();

export function paint(node: Element, blocks: readonly Block[]): void {
  const before = painted.get(node) ?? [];
  blocks.forEach((block, index) => {
    if (before[index]?.html === block.html) return;
    const place = node.children[index] ?? node.appendChild(newPlace());
    place.replaceChildren(block.plain === null ? sanitise(block.html) : paragraph(block.plain));
  });
  while (node.children.length > blocks.length) node.lastElementChild?.remove();
  painted.set(node, blocks);
}

function paragraph(text: string): Element {
  const place = document.createElement('p');
  place.textContent = text;
  return place;
}

function newPlace(): Element {
  const place = document.createElement('div');
  place.className = 'block';
  return place;
}
