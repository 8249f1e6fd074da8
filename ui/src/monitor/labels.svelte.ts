// The labels of workers, as words. Records name only the digest of what a worker offers, so they
// are asked for when somebody filters, once a digest.

import { api } from "../lib/api";
import { labelChips } from "../lib/format";

const AT_ONCE = 4;
const AGAIN_MS = 10_000;

class Labels {
  #known = $state.raw(new Map<string, string[]>());
  readonly #asked = new Set<string>();

  of(digest: string): string[] {
    return this.#known.get(digest) ?? [];
  }

  /** Asks for the labels of all workers that are there; those of others are forgotten. */
  async ask(digests: string[]): Promise<void> {
    const there = new Set(digests);
    const gone = [...this.#asked].filter((digest) => !there.has(digest));
    for (const digest of gone) this.#asked.delete(digest);
    if (gone.length > 0) this.#known = this.#stillAsked([...this.#known]);
    const wanted = [...there].filter((digest) => !this.#asked.has(digest));
    for (const digest of wanted) this.#asked.add(digest);
    for (let n = 0; n < wanted.length; n += AT_ONCE) {
      const answers = await Promise.all(wanted.slice(n, n + AT_ONCE).map((digest) => this.#fetch(digest)));
      this.#known = this.#stillAsked([...this.#known, ...answers.flat()]);
    }
  }

  #stillAsked(known: [string, string[]][]): Map<string, string[]> {
    return new Map(known.filter(([digest]) => this.#asked.has(digest)));
  }

  /** What cannot be had is asked for again, but not at once. */
  async #fetch(digest: string): Promise<[string, string[]][]> {
    try {
      return [[digest, labelChips((await api.capabilities(digest)).labels)]];
    } catch {
      setTimeout(() => this.#asked.delete(digest), AGAIN_MS);
      return [];
    }
  }
}

export const labels = new Labels();
