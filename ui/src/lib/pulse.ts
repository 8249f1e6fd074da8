// Who was heard when, and which status was confirmed when. Of a large fleet the server tells after a
// first whole pulse only what has changed: of all others it is known that they were heard since a time.

import type { Confirmation, Maybe, PulseEntry, PulseLane } from "./types";

/** When something was heard last: then, or, where it is not known that well, since then. */
export interface Heard {
  at: string;
  exact: boolean;
}

export interface Confirmed extends Heard {
  /** What confirmed it, where that is known. */
  source: Maybe<Confirmation["source"]>;
}

/** What was told of one of them. */
interface Told<E> {
  entry: E;
  at: string;
  /** It was silent then: this stands until it is told of again. */
  silent: boolean;
}

class Entries<E extends { id: string }> {
  readonly #told = new Map<string, Told<E>>();
  readonly #time: (entry: E) => Maybe<string>;
  #since = "";

  constructor(time: (entry: E) => Maybe<string>) {
    this.#time = time;
  }

  take(entries: E[], since: string, changes: boolean): void {
    if (!changes) this.#told.clear();
    this.#since = since;
    for (const entry of entries) {
      const at = this.#time(entry);
      if (at) this.#told.set(entry.id, { entry, at, silent: at < since });
      else this.#told.delete(entry.id);
    }
  }

  heard(id: string): (Heard & { entry: E }) | null {
    const told = this.#told.get(id);
    if (!told) return null;
    const exact = told.silent || told.at >= this.#since;
    return { entry: told.entry, at: exact ? told.at : this.#since, exact };
  }
}

export class Pulse {
  readonly #machines = new Entries<PulseEntry>((entry) => entry.heartbeat_at);
  readonly #workers = new Entries<PulseEntry>((entry) => entry.heartbeat_at);
  readonly #connectors = new Entries<Confirmation>((entry) => entry.confirmed_at);

  take({ machines, workers, connectors, heard_since, confirmed_since, changes }: PulseLane): void {
    this.#machines.take(machines, heard_since, changes);
    this.#workers.take(workers, heard_since, changes);
    this.#connectors.take(connectors, confirmed_since, changes);
  }

  heartbeat(kind: "machine" | "worker", id: string): Heard | null {
    const heard = (kind === "machine" ? this.#machines : this.#workers).heard(id);
    return heard && { at: heard.at, exact: heard.exact };
  }

  confirmation(id: string): Confirmed | null {
    const heard = this.#connectors.heard(id);
    return heard && { at: heard.at, exact: heard.exact, source: heard.exact ? heard.entry.source : null };
  }
}
