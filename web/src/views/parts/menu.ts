/** Native popovers, put beside the button that opens them and walked through with the arrow keys. */

const GAP_PX = 6;
const MARGIN_PX = 8;

export function openMenu(menu: HTMLElement, beside: HTMLElement): void {
  menu.showPopover();
  place(menu, beside);
  items(menu)[0]?.focus();
  menu.onkeydown = (event) => walk(menu, event);
  menu.ontoggle = (event) => {
    if ((event as ToggleEvent).newState === 'closed' && beside.isConnected) beside.focus({ preventScroll: true });
  };
}

/** Below the button where there is room, else above; never outside the window. */
function place(menu: HTMLElement, beside: HTMLElement): void {
  const button = beside.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const fitsBelow = button.bottom + GAP_PX + height < window.innerHeight - MARGIN_PX;
  const top = fitsBelow ? button.bottom + GAP_PX : button.top - GAP_PX - height;
  const left = button.right - width;
  menu.style.top = `${Math.max(MARGIN_PX, top)}px`;
  menu.style.left = `${Math.max(MARGIN_PX, Math.min(left, window.innerWidth - width - MARGIN_PX))}px`;
}

function walk(menu: HTMLElement, event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = items(menu);
  const index = all.indexOf(document.activeElement as HTMLElement);
  all.at((index + step) % all.length)?.focus();
}

function items(menu: HTMLElement): HTMLElement[] {
  return [...menu.querySelectorAll<HTMLElement>('button')];
}
