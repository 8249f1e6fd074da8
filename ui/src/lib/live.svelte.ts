// The one live picture of a page: the feed, kept open by a connection, as Svelte reads it.
// The records themselves are not reactive; a counter a part says when to look again. However many
// messages come, a frame looks once.

import { access } from "./access.svelte";
import { EVENTS } from "./api";
import { awake } from "./clock";
import { Connection } from "./connection";
import { brokenSubjects } from "./doctor";
import { Feed, type Live, type Part, WOKE } from "./feed";
import { type PlainView, plain, waiting } from "./fold";
import { lastEndedFirst } from "./known";
import type { Heard } from "./pulse";
import { confirmation, isEnded, isRunning, type Standing } from "./status";
import { token } from "./token";
import { Forest, type Tree } from "./tree";
import type { Alert, Connector, Job, JobProgress, QueuesLane, WaitingJob } from "./types";

class LivePicture {
  readonly #local = awake({ onJump: () => this.#woke() });
  readonly #feed = new Feed(this.#local);
  readonly #forest = new Forest();
  #records = $state(0);
  #jobs = $state(0);
  #progress = $state(0);
  #pulse = $state(0);
  #queues = $state(0);
  #live = $state(0);
  /** What changed since the last frame. A hidden page has no frames, and so nothing to draw. */
  #undrawn = new Set<Part | "now">();
  /** Since when it is live without a break, in the server's time; null while it is not. */
  liveSince = $state<number | null>(null);
  /** The server's time, moved on once a second. Milliseconds since 1970. */
  now = $state(Date.now());
  /** When the server was heard last, in its own time: what is newer the page cannot know. */
  heardAt = $state(Date.now());

  readonly #connection = new Connection(this.#feed, {
    url: EVENTS,
    token,
    onChange: (parts) => this.#changed(parts),
    local: this.#local,
  });

  /** Opens the stream, and shows tests the view. */
  start(): void {
    void this.#connection.run();
    setInterval(() => this.#tick(), 1000);
    const poke = () => this.#connection.poke();
    addEventListener("online", poke);
    document.addEventListener("visibilitychange", () => document.hidden || poke());
    window.__pointsman = {
      view: () => plain(this.#feed.view),
      live: () => this.#feed.live,
      lanes: () => ({
        progress: Object.fromEntries(this.#feed.view.progress),
        queues: this.#feed.view.queues,
      }),
    };
  }

  /** Throws why the server does not take it; then all goes on with the one in use. */
  async useToken(value: string, signal: AbortSignal): Promise<void> {
    await access.use(value, signal);
    this.#connection.renew("another token is used");
  }

  #woke(): void {
    this.#feed.woke();
    this.#connection.renew(WOKE);
    this.#changed(["now", "live"]);
  }

  #tick(): void {
    this.#connection.tick();
    this.#changed(this.#feed.tick() ? ["now", "live"] : ["now"]);
  }

  #changed(parts: Iterable<Part | "now">): void {
    if (this.#undrawn.size === 0) requestAnimationFrame(() => this.#draw());
    for (const part of parts) this.#undrawn.add(part);
    // At once: a break that is over before the next frame is one, too.
    if (this.#feed.live.state !== "live") this.liveSince = null;
    else this.liveSince ??= this.#feed.clock.now();
  }

  #draw(): void {
    const parts = this.#undrawn;
    this.#undrawn = new Set();
    if (parts.has("records")) this.#records += 1;
    if (parts.has("jobs")) this.#jobs += 1;
    if (parts.has("jobs") || parts.has("progress")) this.#progress += 1;
    if (parts.has("pulse")) this.#pulse += 1;
    if (parts.has("queues")) this.#queues += 1;
    if (parts.has("live")) this.#live += 1;
    // Not with every message: every age on the page looks at it. A first picture is told its time.
    if (!parts.has("now") && !parts.has("live")) return;
    this.now = this.#feed.clock.now();
    this.heardAt = this.#feed.heardAt;
  }

  readonly live: Live = $derived((void this.#live, this.#feed.live));
  readonly fleet: string = $derived((void this.#live, this.#feed.view.fleet));
  /** Changes when the store was restored or began anew: what was known of before may not be so. */
  readonly epoch: string = $derived((void this.#live, this.#feed.view.epoch));
  readonly hasPicture: boolean = $derived((void this.#live, this.#feed.hasPicture));
  readonly queues: QueuesLane | null = $derived((void this.#queues, this.#feed.view.queues));

  readonly alerts: Alert[] = $derived.by(() => {
    void this.#records;
    const alerts = [...this.#feed.view.records.alert.values()];
    const weight = (alert: Alert) => (alert.severity === "critical" ? 0 : 1);
    return alerts.sort((a, b) => weight(a) - weight(b) || a.raised_at.localeCompare(b.raised_at));
  });

  readonly #broken: Map<string, Alert> = $derived(brokenSubjects(this.alerts));

  /** The alert that says that something is wrong with a record, `KIND/ID`. */
  broken(subject: string): Alert | null {
    return this.#broken.get(subject) ?? null;
  }

  /** Whether somebody is at work among the machines: then none of them moves. */
  still = $state(false);

  readonly tree: Tree = $derived.by(() => {
    void this.#records;
    const broken = new Set(this.#broken.keys());
    return this.#forest.tree(this.#feed.view.records, { broken, still: this.still });
  });

  readonly machines: number = $derived((void this.#records, this.#feed.view.records.machine.size));
  readonly workers: number = $derived((void this.#records, this.#feed.view.records.worker.size));

  /** Waiting jobs in claim order, the first of them, and behind them those that are held. */
  readonly waiting: WaitingJob[] = $derived((void this.#queues, void this.#jobs, waiting(this.#feed.view)));

  /** How many wait, held ones too; null where it is not known. As with the list, who runs by now does not. */
  readonly pending: number | null = $derived.by(() => {
    if (!this.queues) return null;
    const { counts, pending } = this.queues;
    return counts.pending + counts.held - (pending.length - this.waiting.length);
  });

  /** Assigned and running jobs, the longest running first. */
  readonly running: Job[] = $derived.by(() => {
    void this.#jobs;
    const jobs = [...this.#feed.view.records.job.values()].filter(isRunning);
    const since = (job: Job) => job.assigned_at ?? "";
    // Not as a language would have it: that takes a hundred times as long, and there may be thousands.
    return jobs.sort((a, b) => (since(a) < since(b) ? -1 : since(a) > since(b) ? 1 : 0));
  });

  /** Ended jobs, the last ended first. */
  readonly ended: Job[] = $derived.by(() => {
    void this.#jobs;
    return lastEndedFirst([...this.#feed.view.records.job.values()].filter(isEnded));
  });

  heartbeat(kind: "machine" | "worker", id: string): Heard | null {
    void this.#pulse;
    return this.#feed.view.pulse.heartbeat(kind, id);
  }

  /** When, and by what, a connector's status was last confirmed. */
  confirmation(connector: Connector): Standing | null {
    void this.#pulse;
    return confirmation(connector, this.#feed.view.pulse.confirmation(connector.id));
  }

  progress(job: string): JobProgress | null {
    void this.#progress;
    return this.#feed.view.progress.get(job) ?? null;
  }

  /** Whether the stream that is open has told of a job's progress. */
  isTold(job: string): boolean {
    // None is told of any more once the stream is lost.
    void this.#live;
    void this.#progress;
    return this.#feed.view.told.has(job);
  }

  /** The job's record in the view; null when it waits, or ended long ago. */
  job(id: string): Job | null {
    void this.#jobs;
    return this.#feed.view.records.job.get(id) ?? null;
  }
}

export const picture = new LivePicture();

declare global {
  interface Window {
    /** For tests: the folded view as plain JSON, whether it is live, and the lanes. */
    __pointsman?: { view: () => PlainView; live: () => Live; lanes: () => unknown };
  }
}
