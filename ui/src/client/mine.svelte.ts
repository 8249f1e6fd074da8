// The jobs that were submitted from this browser: their ids are kept in it, their records come
// from the live picture or are asked for.

import { api, ApiError } from "../lib/api";
import { picture } from "../lib/live.svelte";
import { isEnded } from "../lib/status";
import type { Job } from "../lib/types";

const KEY = "pointsman.jobs";
const KEPT = 200;
/** Waiting jobs that are not in the picture are asked for, so many a round. */
const ASKED_A_ROUND = 20;
const ROUND_MS = 2_000;

class Mine {
  /** Newest first. */
  ids = $state.raw<string[]>(load());
  /** Records as they were last asked for. */
  #asked = $state.raw(new Map<string, Job>());
  #gone = $state.raw(new Set<string>());

  start(): void {
    setInterval(() => void this.#round(), ROUND_MS);
    void this.#round();
  }

  add(jobs: Job[]): void {
    this.#keep([...new Set([...jobs.map((job) => job.id).reverse(), ...this.ids])].slice(0, KEPT));
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
    const asked = this.#asked.get(id) ?? null;
    return live && (!asked || live.rev >= asked.rev) ? live : asked;
  }

  /** The server does not know it any more. */
  isGone(id: string): boolean {
    return this.#gone.has(id);
  }

  async refresh(id: string): Promise<void> {
    try {
      this.#learn([await api.job(id)]);
    } catch (error) {
      if (error instanceof ApiError && [404, 410].includes(error.problem.status)) {
        this.#gone = new Set(this.#gone).add(id);
      }
    }
  }

  /** Asks for the oldest of those that the picture does not show and that have not ended. */
  async #round(): Promise<void> {
    if (picture.live.state === "refused") return;
    const open = this.ids.filter((id) => {
      if (picture.job(id) || this.isGone(id)) return false;
      const job = this.#asked.get(id);
      return !job || !isEnded(job);
    });
    for (const id of open.slice(-ASKED_A_ROUND)) await this.refresh(id);
  }

  #learn(jobs: Job[]): void {
    const asked = new Map(this.#asked);
    for (const job of jobs) asked.set(job.id, job);
    this.#asked = asked;
  }

  #keep(ids: string[]): void {
    this.ids = ids;
    localStorage.setItem(KEY, JSON.stringify(ids));
  }
}

function load(): string[] {
  try {
    const ids: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string").slice(0, KEPT) : [];
  } catch {
    return [];
  }
}

export const mine = new Mine();
