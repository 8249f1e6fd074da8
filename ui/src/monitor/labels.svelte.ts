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

  async ask(digests: string[]): Promise<void> {
    const wanted = [...new Set(digests)].filter((digest) => !this.#asked.has(digest));
    for (const digest of wanted) this.#asked.add(digest);
    for (let n = 0; n < wanted.length; n += AT_ONCE) {
      const answers = await Promise.all(wanted.slice(n, n + AT_ONCE).map((digest) => this.#fetch(digest)));
      this.#known = new Map([...this.#known, ...answers.flat()]);
    }
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
