/**
 * What went wrong, by stable code, in words for the person in front of the screen.
 *
 * The same codes come as `error` frames and as HTTP problem details. `forbidden`, `rejected`, `conflict` and `bad_frame`
 * carry a reason that the server wrote for the reader, so it is shown; for the rest our own sentence is clearer.
 */

export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  readonly retryable: boolean;
  readonly retryAfterS: number | null;

  constructor(
    code: string,
    detail: string,
    more: { status?: number; retryable?: boolean; retryAfterS?: number | null } = {},
  ) {
    super(detail || code);
    this.name = 'Problem';
    this.code = code;
    this.status = more.status ?? 0;
    this.retryable = more.retryable ?? false;
    this.retryAfterS = more.retryAfterS ?? null;
  }
}

const sentences: Readonly<Record<string, string>> = {
  bad_json: 'The studio could not read that.',
  unauthenticated: 'You are signed out. Please sign in again.',
  not_found: 'That is no longer there.',
  too_large: 'That is too long to send.',
  rate_limited: 'A little too fast. Please wait a moment.',
  overloaded: 'The studio is very busy. Please try again.',
  draining: 'The studio is restarting. Please try again in a moment.',
  unavailable: 'The studio cannot reach its database. Please try again in a moment.',
  budget_exceeded: 'The budget for answers is used up.',
  model_error: 'The model could not answer.',
  internal: 'Something broke in the studio. Please try again.',
  offline: 'No connection to the studio.',
  timed_out: 'The studio did not answer in time.',
};

/** For the codes that carry a reason, where none came. */
const unexplained: Readonly<Record<string, string>> = {
  forbidden: 'You may not do that here.',
};

/** `detail` is the server's own reason, shown for the codes that have no sentence of ours. */
export function explain(code: string, detail = ''): string {
  return sentences[code] ?? (detail ? asSentence(detail) : (unexplained[code] ?? 'Something went wrong.'));
}

/** "no cake today" → "No cake today." */
function asSentence(reason: string): string {
  const sentence = reason.charAt(0).toUpperCase() + reason.slice(1);
  return /[.!?…]$/.test(sentence) ? sentence : `${sentence}.`;
}

export function explainError(error: unknown): string {
  if (error instanceof Problem) return explain(error.code, error.message);
  return explain('internal');
}
