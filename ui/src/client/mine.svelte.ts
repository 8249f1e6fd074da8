// The jobs that were submitted from this browser: their ids are kept in it, for all of its tabs;
// their records come from the live picture or are asked for.

import { untrack } from "svelte";
import { api, ApiError } from "../lib/api";
import { learned } from "../lib/known";
import { picture } from "../lib/live.svelte";
import { isEnded } from "../lib/status";
import type { Job } from "../lib/types";

const KEY = "pointsman.jobs";
export const KEPT = 200;
/** So many are asked for side by side. */
const AT_ONCE = 5;
const ROUND_MS = 2_000;

class Mine {
  /** Newest first. */
  ids = $state.raw<string[]>(load() ?? []);
  /** Whether the browser keeps the list beyond this page. */
  stored = $state(true);
  /** The newest records that were seen, live or asked for. */
  #known = $state.raw(new Map<string, Job>());
  #gone = $state.raw(new Set<string>());
  /** Those that the picture showed when it was last looked at, and of which epoch it was. */
  #shown = new Set<string>();
  #epoch = "";

  start(): void {
    $effect.root(() => {
      $effect(() => this.#look());
    });
    addEventListener("storage", (event) => {
      if (event.key === KEY || event.key === null) this.#list(load() ?? this.ids);
    });
    void this.#rounds();
  }

  add(jobs: Job[]): void {
    // Another tab may have added some a moment ago.
    this.#keep([...new Set([...jobs.map((job) => job.id).reverse(), ...(load() ?? this.ids)])]);
    this.#learn(jobs);
  }

  forgetEnded(): void {
    this.#keep(this.ids.filter((id) => {
      const job = this.job(id);
      return job ? !isEnded(job) : !this.isGone(id);
    }));
  }

  /** The newest record known; null when none came yet. */
  job(id: string): Job | null {
    const live = picture.job(id);
    const known = this.#known.get(id) ?? null;
    return live && (!known || live.rev >= known.rev) ? live : known;
  }

  /** The server does not know it any more. */
  isGone(id: string): boolean {
    return this.#gone.has(id);
  }

  async refresh(id: string): Promise<void> {
    try {
      this.#learn([await api.job(id)]);
    } catch (error) {
      if (error instanceof ApiError && [404, 410].includes(error.problem.status) && this.ids.includes(id)) {
        this.#gone = new Set(this.#gone).add(id);
      }
    }
  }

  /** Keeps what the picture shows, since jobs leave it, and asks at once for those whose end it did not show. */
  #look(): void {
    const { epoch } = picture;
    const shown = this.ids.flatMap((id) => picture.job(id) ?? []);
    untrack(() => {
      if (epoch !== this.#epoch) this.#forget(epoch);
      this.#learn(shown);
      const former = this.#shown;
      this.#shown = new Set(shown.map((job) => job.id));
      void this.#ask(this.#unseen([...former]));
    });
  }

  /** A store that was restored may know less of a job than was known before, or nothing. */
  #forget(epoch: string): void {
    this.#epoch = epoch;
    this.#known = new Map();
    this.#gone = new Set();
  }

  async #rounds(): Promise<void> {
    for (;;) {
      if (picture.live.state === "live") await this.#ask(this.#unseen(this.ids));
      await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
    }
  }

  /** Of these, the ones of which neither the picture nor what is known says how they are now. */
  #unseen(ids: string[]): string[] {
    const waiting = new Set(picture.waiting.map(({ id }) => id));
    return ids.filter((id) => {
      if (picture.job(id) || this.isGone(id)) return false;
      const known = this.#known.get(id);
      return waiting.has(id) ? known?.status !== "pending" : !known || !isEnded(known);
    });
  }

  async #ask(ids: string[]): Promise<void> {
    const left = [...ids];
    const lane = async () => {
      for (let id = left.pop(); id; id = left.pop()) await this.refresh(id);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
  }

  #learn(jobs: Job[]): void {
    this.#known = learned(this.#known, jobs, ({ id }) => this.ids.includes(id));
  }

  /** Nothing is known of jobs that are not listed: the page may be open for weeks. */
  #list(ids: string[]): void {
    this.ids = ids.slice(0, KEPT);
    const listed = new Set(this.ids);
    this.#known = new Map([...this.#known].filter(([id]) => listed.has(id)));
    this.#gone = new Set([...this.#gone].filter((id) => listed.has(id)));
  }

  #keep(ids: string[]): void {
    this.#list(ids);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.ids));
    } catch {
      this.stored = false;
    }
  }
}

/** The list as it is stored; null where it cannot be read. */
function load(): string[] | null {
  try {
    const ids: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(ids) ? [...new Set(ids.filter((id) => typeof id === "string"))].slice(0, KEPT) : [];
  } catch {
    return null;
  }
}

export const mine = new Mine();
