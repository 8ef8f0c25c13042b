/**
 * Requests to the studio's own origin.
 *
 * Out:  the body, read into a known shape; or a `Problem` with the stable code, also where there was no answer at all
 *       (`offline`) or no sensible one (`internal`).
 */

import { Problem } from '../protocol/problems';
import { Reader } from '../protocol/reading';

const TIMEOUT_MS = 20_000; // beyond the server's slowest honest answer

export type Fetch = (address: string, request: RequestInit) => Promise<Response>;
type Query = Readonly<Record<string, string | number | undefined>>;

export class Http {
  readonly #fetch: Fetch;

  constructor(fetch: Fetch) {
    this.#fetch = fetch;
  }

  async get<Shape>(path: string, read: (body: Reader) => Shape, query: Query = {}): Promise<Shape> {
    return read(await this.#body('GET', withQuery(path, query)));
  }

  async post<Shape>(path: string, body: object, read: (body: Reader) => Shape): Promise<Shape> {
    return read(await this.#body('POST', path, body));
  }

  async patch<Shape>(path: string, body: object, read: (body: Reader) => Shape): Promise<Shape> {
    return read(await this.#body('PATCH', path, body));
  }

  /** For the verbs whose answer says nothing. */
  async tell(method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<void> {
    await this.#answer(method, path, body);
  }

  async #body(method: string, path: string, body?: object): Promise<Reader> {
    const answer = await this.#answer(method, path, body);
    try {
      return new Reader(await answer.json(), 'body');
    } catch {
      throw new Problem('internal', 'The answer could not be read.');
    }
  }

  async #answer(method: string, path: string, body?: object): Promise<Response> {
    const answer = await this.#fetch(path, {
      method,
      credentials: 'same-origin',
      headers: { accept: 'application/json', ...(body && { 'content-type': 'application/json' }) },
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body && { body: JSON.stringify(body) }),
    }).catch(() => {
      throw new Problem('offline', '', { retryable: true });
    });
    if (!answer.ok) throw await readProblem(answer);
    return answer;
  }
}

async function readProblem(answer: Response): Promise<Problem> {
  try {
    const from = new Reader(await answer.json(), 'problem');
    return new Problem(from.textOr('code', 'internal'), from.textOr('detail', '') || from.textOr('title', ''), {
      status: answer.status,
      retryable: from.is('retryable'),
      retryAfterS: from.numberOr('retry_after_s', retryAfterS(answer)),
    });
  } catch {
    const { status } = answer; // something between us and the studio speaks another language
    return new Problem('internal', '', { status, retryable: status >= 500, retryAfterS: retryAfterS(answer) });
  }
}

/** The header's seconds; its other form, a date, is nobody's here. */
function retryAfterS({ headers }: Response): number | null {
  const told = headers.get('retry-after');
  return told && /^\d+$/.test(told) ? Number(told) : null;
}

function withQuery(path: string, query: Query): string {
  const asked = Object.entries(query).filter(([, value]) => value !== undefined);
  return asked.length === 0
    ? path
    : `${path}?${new URLSearchParams(asked.map(([key, value]) => [key, String(value)]))}`;
}
