/**
 * Reading JSON of unknown shape: the small words that the decoders are made of.
 *
 * `Reader` throws `WrongShape` where a field that the client cannot live without is missing or of another type; the
 * `…Or` readers take a default instead. Fields that nobody asks for are never looked at.
 */

export class WrongShape extends Error {
  constructor(field: string, wanted: string, came: unknown) {
    super(`${field} should be ${wanted}, but is ${came === null ? 'null' : typeof came}`);
    this.name = 'WrongShape';
  }
}

export class Reader {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(value: unknown, path = 'value') {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new WrongShape(path, 'an object', value);
    this.#fields = value as Record<string, unknown>;
    this.#path = path;
  }

  text(field: string): string {
    const value = this.#fields[field];
    if (typeof value !== 'string') throw new WrongShape(`${this.#path}.${field}`, 'a string', value);
    return value;
  }

  textOr<Default>(field: string, fallback: Default): string | Default {
    const value = this.#fields[field];
    return typeof value === 'string' ? value : fallback;
  }

  /** A non-negative integer. */
  count(field: string): number {
    const value = this.#fields[field];
    if (!isCount(value)) throw new WrongShape(`${this.#path}.${field}`, 'a non-negative integer', value);
    return value;
  }

  countOr<Default>(field: string, fallback: Default): number | Default {
    const value = this.#fields[field];
    return isCount(value) ? value : fallback;
  }

  numberOr<Default>(field: string, fallback: Default): number | Default {
    const value = this.#fields[field];
    return typeof value === 'number' && Number.isFinite(value) ? value : fallback;
  }

  is(field: string): boolean {
    return this.#fields[field] === true;
  }

  has(field: string): boolean {
    return this.#fields[field] !== undefined;
  }

  oneOf<Word extends string>(field: string, words: readonly Word[], fallback: Word): Word {
    const value = this.#fields[field];
    return words.find((word) => word === value) ?? fallback;
  }

  object<Shape>(field: string, read: (reader: Reader) => Shape): Shape {
    return read(new Reader(this.#fields[field], `${this.#path}.${field}`));
  }

  objectOr<Shape, Default>(field: string, read: (reader: Reader) => Shape, fallback: Default): Shape | Default {
    const value = this.#fields[field];
    return value === undefined || value === null ? fallback : this.object(field, read);
  }

  /** Absent and null read as an empty list. */
  list<Shape>(field: string, read: (reader: Reader) => Shape): Shape[] {
    const value = this.#fields[field] ?? [];
    if (!Array.isArray(value)) throw new WrongShape(`${this.#path}.${field}`, 'a list', value);
    return value.map((item, index) => read(new Reader(item, `${this.#path}.${field}[${index}]`)));
  }

  texts(field: string): string[] {
    const value = this.#fields[field];
    return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
  }

  /** An object whose keys are data, such as conversation ids. */
  entries(field: string): [string, unknown][] {
    const value = this.#fields[field];
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new WrongShape(`${this.#path}.${field}`, 'an object', value);
    }
    return Object.entries(value);
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
