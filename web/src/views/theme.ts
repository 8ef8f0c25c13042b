/** The theme stands on the root element; without one the system decides. */

import type { Theme } from '../state/kept';

export function applyTheme(theme: Theme): void {
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
