/** Times as the reader's own language and clock show them. */

const language = navigator.language;
const time = new Intl.DateTimeFormat(language, { hour: 'numeric', minute: '2-digit' });
const day = new Intl.DateTimeFormat(language, { weekday: 'long', day: 'numeric', month: 'long' });
const dayOfYear = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'long', year: 'numeric' });
const full = new Intl.DateTimeFormat(language, { dateStyle: 'full', timeStyle: 'short' });

const DAY_MS = 86_400_000;

export function clockTime(at: string): string {
  return time.format(new Date(at));
}

/** Without "AM" and "PM", for the narrow margin beside a message whose group tells them. */
export function shortTime(at: string): string {
  const parts = time.formatToParts(new Date(at)).filter(({ type }) => type !== 'dayPeriod');
  return parts
    .map(({ value }) => value)
    .join('')
    .trim();
}

/** "Today, 10:15". */
export function dayAndTime(at: string): string {
  return `${dayName(new Date(at).setHours(0, 0, 0, 0))}, ${clockTime(at)}`;
}

export function fullTime(at: string): string {
  return full.format(new Date(at));
}

/** "Today", "Yesterday", a weekday within this year, else the date with its year. */
export function dayName(dayMs: number, nowMs = Date.now()): string {
  const today = new Date(nowMs).setHours(0, 0, 0, 0);
  const daysAgo = Math.round((today - dayMs) / DAY_MS);
  if (daysAgo === 0) return 'Today';
  if (daysAgo === 1) return 'Yesterday';
  const isThisYear = new Date(dayMs).getFullYear() === new Date(nowMs).getFullYear();
  return (isThisYear ? day : dayOfYear).format(dayMs);
}
