// The server's time, as its messages let us know it. Ages are reckoned from this, so a client
// whose clock is wrong shows the same ages as one whose clock is right.

const SAMPLES = 8;

export class ServerClock {
  /** Server time minus local time, of the newest messages; delays only make one too small. */
  #offsets: number[] = [];
  readonly #local: () => number;

  /** `local` must run evenly, such as `performance.now`. Milliseconds. */
  constructor(local: () => number) {
    this.#local = local;
  }

  /** A message just arrived that the server says it sent `at`. */
  sample(at: string): void {
    const server = Date.parse(at);
    if (Number.isNaN(server)) return;
    this.#offsets.push(server - this.#local());
    if (this.#offsets.length > SAMPLES) this.#offsets.shift();
  }

  /** Forgets what another server said. */
  reset(): void {
    this.#offsets = [];
  }

  get known(): boolean {
    return this.#offsets.length > 0;
  }

  /** Milliseconds since 1970 on the server's clock; before the first message our own guess. */
  now(): number {
    if (!this.known) return Date.now();
    return this.#local() + Math.max(...this.#offsets);
  }
}
