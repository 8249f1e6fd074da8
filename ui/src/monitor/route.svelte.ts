// What is open and what is filtered, kept in the address.

import { readPlace, writePlace } from "../lib/address";

const SETTLED_MS = 300;

class Route {
  job = $state<string | null>(readPlace(location.hash).job);
  filter = $state(readPlace(location.hash).filter ?? "");
  #settling: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    addEventListener("hashchange", () => this.#follow());
  }

  close(): void {
    this.job = null;
    history.pushState(null, "", this.#address());
  }

  /** What the filter finds, with nothing open above it. */
  show(filter: string): void {
    this.job = null;
    this.filter = filter;
    history.pushState(null, "", this.#address());
  }

  /** A shortened id becomes the whole one, also in the address. */
  complete(job: string): void {
    this.job = job;
    this.#write();
  }

  /** Whoever types makes no history; the address follows when they pause. */
  narrow(filter: string): void {
    this.filter = filter;
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#write(), SETTLED_MS);
  }

  /** Links to jobs say nothing of the filter: it stays as it is. */
  #follow(): void {
    const { job, filter } = readPlace(location.hash);
    this.job = job;
    if (filter === null) this.#write();
    else this.filter = filter;
  }

  #write(): void {
    history.replaceState(null, "", this.#address());
  }

  #address(): string {
    return location.pathname + writePlace({ job: this.job, filter: this.filter });
  }
}

export const route = new Route();
