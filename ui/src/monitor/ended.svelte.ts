// Ended jobs by how they ended: the view has the newest 200 of all; the older ones of one kind are
// asked for, the last ended first, a page at a time.

import { api, asProblem } from "../lib/api";
import { lastEndedFirst, learned } from "../lib/known";
import { picture } from "../lib/live.svelte";
import type { Job, Problem } from "../lib/types";

export const TABS = ["all", "completed", "failed", "cancelled"] as const;
export type Tab = (typeof TABS)[number];

/** As many as the view has; a page has as many, so that what comes after it is new. */
export const NEWEST = 200;
export const MOST = 1_000;

class Ended {
  tab = $state<Tab>("all");
  asking = $state(false);
  problem = $state.raw<Problem | null>(null);
  /** Leads to older ones than those that were asked for; null where there are none. */
  next = $state.raw<string | null>(null);
  #known = $state.raw(new Map<string, Job>());
  #asks = 0;
  /** The store that is looked at, and its newest ending that was seen; null: none yet. */
  #epoch = "";
  #seenTo: number | null = null;
  /** More has ended than this page saw: what lies between, only the server knows. */
  #behind = false;

  readonly jobs: Job[] = $derived.by(() => {
    if (this.tab === "all") return picture.ended;
    // Who was retried may wait again, with no record in the view.
    const waiting = new Set(picture.waiting.map(({ id }) => id));
    return lastEndedFirst(this.#known.values()).filter((job) => job.status === this.tab && !waiting.has(job.id));
  });

  /** There are older ones, and the page keeps no more. */
  readonly isFull: boolean = $derived(this.next !== null && this.#known.size >= MOST);

  /** How many there are in all. */
  readonly total: number = $derived.by(() => {
    const counts = picture.queues?.counts;
    return Math.max(this.jobs.length, this.tab === "all" ? 0 : counts?.[this.tab] ?? 0);
  });

  /**
   * What the view shows is known from then on, also when it leaves the view. Nothing of one store is
   * known of another. A page that is not drawn does not look: more may have ended meanwhile than the view has.
   */
  look(): void {
    const { epoch, running, ended } = picture;
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.#known = new Map();
      this.#seenTo = null;
    }
    const [newest, oldest] = [ended[0]?.ended_no, ended.at(-1)?.ended_no];
    if (this.#seenTo !== null && oldest && oldest > this.#seenTo + 1) this.#behind = true;
    this.#seenTo = newest ?? this.#seenTo ?? 0;
    this.#learn([...running, ...ended]);
    this.#catchUp();
  }

  /** One question at a time, however fast jobs end. */
  #catchUp(): void {
    if (this.#behind && !this.asking && picture.live.state === "live") void this.begin();
  }

  /** What became of a job that is listed: an order, or a question about it, was answered. */
  hear(job: Job): void {
    this.#known = learned(this.#known, [job], () => false);
  }

  /** Asks for the newest of the tab; what was known is forgotten when they come. */
  async begin(): Promise<void> {
    this.next = null;
    this.problem = null;
    this.asking = false;
    this.#behind = false;
    await this.#ask(null);
  }

  /** Goes on where it stands, also after a refusal, until something more is listed or there is no more. */
  async more(): Promise<void> {
    if (!this.asking) await this.#ask(this.next);
  }

  async #ask(cursor: string | null): Promise<void> {
    const { tab } = this;
    const ask = ++this.#asks;
    if (tab === "all") return;
    this.asking = true;
    try {
      if (cursor) this.#learn([...picture.running, ...picture.ended]);
      // A page may be short, as it ends by its bytes, and have nothing that is not listed already: what
      // else ends meanwhile is none of what was asked for.
      let brings: boolean;
      do {
        const page = await api.jobs({ status: tab, order: "ended", limit: NEWEST, ...(cursor && { cursor }) });
        if (ask !== this.#asks) return;
        if (!cursor) this.#known = new Map();
        brings = page.jobs.some(({ id }) => !this.#known.has(id));
        this.#learn([...page.jobs, ...picture.running, ...picture.ended]);
        this.next = cursor = page.next_cursor ?? null;
        this.problem = null;
      } while (cursor && !brings && !this.isFull);
    } catch (error) {
      if (ask === this.#asks) this.problem = asProblem(error);
    } finally {
      if (ask === this.#asks) {
        this.asking = false;
        this.#catchUp();
      }
    }
  }

  #learn(jobs: Job[]): void {
    this.#known = learned(this.#known, jobs, (job) => job.status === this.tab, MOST);
  }
}

export const ended = new Ended();
