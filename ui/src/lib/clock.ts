// The server's time, as its messages let us know it. Ages are reckoned from this, so a client
// whose clock is wrong shows the same ages as one whose clock is right.

const SAMPLES = 8;
/** The clock on the wall is put right by little at a time; what is more was slept, or set by hand. */
const SLEPT_MS = 5_000;

interface Awake {
  even?: () => number;
  wall?: () => number;
  /** The machine has slept, or its clock was set forward: nothing came meanwhile. */
  onJump: () => void;
}

/**
 * Milliseconds that run evenly, and also while the machine sleeps: `performance.now` stands still
 * then on most systems, and what is a night old would be seconds old. To be looked at every few seconds.
 */
export function awake({ even = () => performance.now(), wall = () => Date.now(), onJump }: Awake): () => number {
  let [lastEven, lastWall, slept] = [even(), wall(), 0];
  return () => {
    const [nowEven, nowWall] = [even(), wall()];
    const more = nowWall - lastWall - (nowEven - lastEven);
    [lastEven, lastWall] = [nowEven, nowWall];
    if (more > SLEPT_MS) {
      slept += more;
      onJump();
    }
    return nowEven + slept;
  };
}

export class ServerClock {
  /** Server time minus local time, of the newest messages; delays only make one too small. */
  #offsets: number[] = [];
  #doubted = false;
  readonly #local: () => number;

  /** `local` must run evenly, such as `awake`. Milliseconds. */
  constructor(local: () => number) {
    this.#local = local;
  }

  /** A message just arrived that the server says it sent `at`. */
  sample(at: string): void {
    const server = Date.parse(at);
    if (Number.isNaN(server)) return;
    if (this.#doubted) this.reset();
    this.#offsets.push(server - this.#local());
    if (this.#offsets.length > SAMPLES) this.#offsets.shift();
  }

  /** Forgets what another server said. */
  reset(): void {
    this.#offsets = [];
    this.#doubted = false;
  }

  /** What is known serves until the next message, which is believed over it. */
  doubt(): void {
    this.#doubted = true;
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
