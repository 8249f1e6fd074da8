// Keeps one stream open: reads it with `fetch`, goes on where it broke off, and while the server
// cannot be reached tries again every few seconds, with jitter. A server that is itself cut off is
// left: behind one address there may be another that is not.

import { refusal } from "./api";
import { type Feed, FeedError, type Part } from "./feed";
import { SseParser } from "./sse";

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 3_000;
/** No byte for so long: the connection is dead even if nobody said so. */
const DEAD_AFTER_MS = 20_000;
/** So long a server may say that it is not live, before it is left. */
const LEFT_AFTER_MS = 15_000;

interface ConnectionOptions {
  url: string;
  token: () => string | null;
  /** Called once for each piece of the stream, with everything it changed. */
  onChange: (parts: Set<Part>) => void;
  fetch?: typeof fetch;
  local?: () => number;
  random?: () => number;
}

export class Connection {
  readonly #feed: Feed;
  readonly #options: ConnectionOptions;
  readonly #local: () => number;
  #attempt = new AbortController();
  #wake: () => void = () => {};
  #failures = 0;
  #lastByte = 0;
  /** Since when the stream says that its server is not live. */
  #cutOff: number | null = null;
  #stopped = false;

  constructor(feed: Feed, options: ConnectionOptions) {
    this.#feed = feed;
    this.#options = options;
    this.#local = options.local ?? (() => performance.now());
  }

  /** Runs until `stop`. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      const refused = await this.#once();
      this.#changed("live");
      if (this.#stopped) return;
      await this.#pause(refused ? Infinity : this.#backoff());
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#attempt.abort();
    this.#wake();
  }

  /** Tries again at once: a token was entered, or the network came back. */
  poke(): void {
    this.#failures = 0;
    this.#wake();
  }

  /** Whatever the stream still says is old: ends it, and tries again at once. */
  renew(reason: string): void {
    this.#attempt.abort(new Error(reason));
    this.poke();
  }

  /** To be called every second: ends a connection that nothing comes through any more, or nothing true. */
  tick(): void {
    const now = this.#local();
    if (this.#lastByte > 0 && now - this.#lastByte > DEAD_AFTER_MS) {
      this.#attempt.abort(new Error(`no byte from the server for ${DEAD_AFTER_MS / 1000} s`));
    }
    const { live } = this.#feed;
    if (this.#cutOff !== null && now - this.#cutOff > LEFT_AFTER_MS && live.state === "not_live") {
      this.#attempt.abort(new Error(live.reason));
    }
  }

  /** One connection, from its request to its end. Says whether the server refused us. */
  async #once(): Promise<boolean> {
    this.#attempt = new AbortController();
    this.#lastByte = this.#local();
    this.#cutOff = null;
    try {
      const response = await this.#request();
      if (response.status === 401 || response.status === 403) {
        this.#feed.refused((await refusal(response)).message);
        return true;
      }
      if (!response.ok || !response.body) throw await refusal(response);
      await this.#read(response.body);
      this.#feed.lost("the server closed the stream");
    } catch (error) {
      this.#feed.lost(this.#reason(error), error instanceof FeedError);
    } finally {
      this.#lastByte = 0;
      this.#cutOff = null;
      this.#attempt.abort();
    }
    return false;
  }

  #request(): Promise<Response> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    const token = this.#options.token();
    if (token) headers["Authorization"] = `Bearer ${token}`;
    const position = this.#feed.position;
    if (position) headers["Last-Event-ID"] = position;
    const get = this.#options.fetch ?? fetch;
    return get(this.#options.url, { headers, signal: this.#attempt.signal, cache: "no-store" });
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    const parser = new SseParser();
    const decoder = new TextDecoder();
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.#lastByte = this.#local();
      this.#attempt.signal.throwIfAborted();
      const parts = new Set<Part>();
      for (const message of parser.push(decoder.decode(value, { stream: true }))) {
        for (const part of this.#feed.accept(message)) parts.add(part);
        if (message.name === "not_live") this.#cutOff ??= this.#lastByte;
        if (this.#feed.live.state === "live") this.#cutOff = null;
      }
      if (this.#feed.live.state === "live") this.#failures = 0;
      if (parts.size > 0) this.#options.onChange(parts);
    }
  }

  #reason(error: unknown): string {
    const { aborted, reason } = this.#attempt.signal;
    if (aborted && reason instanceof Error) return reason.message;
    if (error instanceof TypeError) return "the server cannot be reached";
    return error instanceof Error ? error.message : String(error);
  }

  #backoff(): number {
    const longest = Math.min(FIRST_WAIT_MS * 2 ** this.#failures, LONGEST_WAIT_MS);
    this.#failures += 1;
    return longest * (0.5 + (this.#options.random ?? Math.random)() / 2);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(resolve, ms) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #changed(part: Part): void {
    this.#options.onChange(new Set([part]));
  }
}
