/**
 * Keeps the reader's place while messages come and go around it.
 *
 * Promises: at the end it stays at the end; anywhere else the row at the top of the view does not move by a pixel, whether
 * a page comes in above, an answer grows, or the keyboard of a phone takes half the screen. Only scrolling up leaves the end.
 */

const NEAR_END_PX = 48; // less than a message: whoever is that close means the end

export class ScrollKeeper {
  readonly #viewport: HTMLElement;
  readonly #content: HTMLElement;
  readonly #onScroll: () => void;
  readonly #observer: ResizeObserver;
  #isAtEnd = true;
  #lastTop = 0;
  #anchor: { readonly row: HTMLElement; readonly offset: number } | null = null;

  constructor(viewport: HTMLElement, content: HTMLElement, onScroll: () => void) {
    this.#viewport = viewport;
    this.#content = content;
    this.#onScroll = onScroll;
    this.#observer = new ResizeObserver(() => this.settle());
    this.#observer.observe(viewport);
    this.#observer.observe(content);
    viewport.addEventListener('scroll', this.#remember, { passive: true });
  }

  stop(): void {
    this.#observer.disconnect();
    this.#viewport.removeEventListener('scroll', this.#remember);
  }

  get isAtEnd(): boolean {
    return this.#isAtEnd;
  }

  /** Pixels of messages above and below what is seen. */
  get above(): number {
    return this.#viewport.scrollTop;
  }

  get below(): number {
    return this.#viewport.scrollHeight - this.#viewport.scrollTop - this.#viewport.clientHeight;
  }

  /** After every change of the content. */
  settle(): void {
    if (this.#isAtEnd) this.#viewport.scrollTop = this.#viewport.scrollHeight;
    else if (this.#anchor?.row.isConnected)
      this.#viewport.scrollTop += this.#offset(this.#anchor.row) - this.#anchor.offset;
    this.#lastTop = this.#viewport.scrollTop;
    this.#keepAnchor();
  }

  toEnd(): void {
    this.#isAtEnd = true;
    this.settle();
    this.#onScroll();
  }

  /** Shows a row a third down the view. */
  toRow(row: HTMLElement): void {
    this.#isAtEnd = false;
    this.#viewport.scrollTop += this.#offset(row) - this.#viewport.clientHeight / 3;
    this.#isAtEnd = this.below < NEAR_END_PX;
    this.#lastTop = this.#viewport.scrollTop;
    this.#keepAnchor();
    this.#onScroll();
  }

  /** The last row of which something is seen. */
  lastSeen(): HTMLElement | null {
    const rows = this.#rows();
    const { clientHeight } = this.#viewport;
    const next = firstWhere(rows, (row) => this.#offset(row) >= clientHeight);
    return rows[next - 1] ?? null;
  }

  readonly #remember = (): void => {
    const top = this.#viewport.scrollTop;
    if (this.below < NEAR_END_PX) this.#isAtEnd = true;
    else if (top < this.#lastTop - 1) this.#isAtEnd = false;
    this.#lastTop = top;
    this.#keepAnchor();
    this.#onScroll();
  };

  #keepAnchor(): void {
    this.#anchor = null;
    if (this.#isAtEnd) return; // nothing to measure for the common reader
    const rows = this.#rows();
    const row = rows[firstWhere(rows, (candidate) => this.#offset(candidate) + candidate.offsetHeight > 0)];
    if (row) this.#anchor = { row, offset: this.#offset(row) };
  }

  #offset(row: HTMLElement): number {
    return row.getBoundingClientRect().top - this.#viewport.getBoundingClientRect().top;
  }

  #rows(): HTMLElement[] {
    return [...this.#content.querySelectorAll<HTMLElement>('[data-message]')];
  }
}

/** Rows stand in order, so nine looks find the one among four hundred. */
function firstWhere(rows: readonly HTMLElement[], isPast: (row: HTMLElement) => boolean): number {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const row = rows[middle];
    if (row && isPast(row)) high = middle;
    else low = middle + 1;
  }
  return low;
}
