// What a page knows and how far it may be trusted: the view, fed by a stream's messages, and
// whether it is live. No input or output here: `connection.ts` brings the messages.

import { ServerClock } from "./clock";
import {
  applyGroup, applyProgress, emptyView, fromSnapshot, parsePosition, type View,
} from "./fold";
import type { SseEvent } from "./sse";
import type {
  Bookmark, NotLive, ProgressLane, PulseLane, QueuesLane, Resync, Snapshot, ViewEvent,
} from "./types";

/** A page that has heard neither a bookmark nor a pulse for so long says "not live" by itself. */
const SILENCE_MS = 15_000;

/** Whether the picture can be believed now. Times are milliseconds on the server's clock. */
export type Live =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "not_live"; reason: string; since: number }
  | { state: "resyncing"; reason: string; since: number }
  | { state: "refused"; reason: string };

/** What of the picture a message changed, so that pages redraw no more than that. */
export type Part = "records" | "jobs" | "progress" | "pulse" | "queues" | "live";

const RESYNC_MEANS: Record<Resync["reason"], string> = {
  other_epoch: "the store was restored or began anew",
  beyond_head: "this page knew more than the store does now",
  not_kept: "what this page missed is no longer kept",
  too_slow: "this page read more slowly than changes came",
  rebuilt: "the server rebuilt its own picture",
};

/** Why nothing came when local time has jumped. */
export const WOKE = "this computer slept, or its clock was set";

/** The stream said something that cannot be: start again from a snapshot. */
export class FeedError extends Error {}

export class Feed {
  view: View = emptyView();
  live: Live = { state: "connecting" };
  readonly clock: ServerClock;
  readonly #local: () => number;
  #group: ViewEvent[] = [];
  #resumable = false;
  /** Local time of the last snapshot, bookmark or pulse. */
  #heard: number;

  constructor(local: () => number = () => performance.now()) {
    this.#local = local;
    this.#heard = local();
    this.clock = new ServerClock(local);
  }

  /** Where to go on after a break; null starts with a snapshot. */
  get position(): string | null {
    return this.#resumable ? `${this.view.epoch}.${this.view.seq}` : null;
  }

  get hasPicture(): boolean {
    return this.view.epoch !== "";
  }

  /** Takes one message and says what it changed. Throws `FeedError` when it contradicts. */
  accept(message: SseEvent): Part[] {
    const data: unknown = parse(message);
    switch (message.name) {
      case "full_state_snapshot":
        return this.#snapshot(data as Snapshot);
      case "resync":
        return this.#resync(data as Resync);
      case "bookmark":
        return this.#bookmark(data as Bookmark);
      case "not_live":
        return this.#notLive(data as NotLive);
      case "pulse":
        this.view.pulse.take(data as PulseLane);
        return ["pulse", ...this.#hear((data as PulseLane).as_of.at)];
      case "queues":
        this.view.queues = data as QueuesLane;
        return ["queues"];
      case "progress":
        applyProgress(this.view, (data as ProgressLane).values);
        return ["progress"];
      default:
        return this.#event(message, data as ViewEvent);
    }
  }

  #event(message: SseEvent, event: ViewEvent): Part[] {
    if (typeof event.kind === "string") this.#group.push(event);
    if (message.id === null) return [];
    const end = parsePosition(message.id);
    if (!end) throw new FeedError(`the stream's position ${message.id} cannot be read`);
    if (end.epoch !== this.view.epoch) throw new FeedError("the stream changed its epoch");
    const group = this.#group;
    this.#group = [];
    applyGroup(this.view, group, end);
    const parts = new Set<Part>();
    for (const { kind } of group) parts.add(kind === "job" ? "jobs" : "records");
    return [...parts];
  }

  #snapshot(snapshot: Snapshot): Part[] {
    this.view = fromSnapshot(snapshot);
    this.#group = [];
    this.#resumable = true;
    this.clock.reset();
    this.#hear(snapshot.at);
    return ["records", "jobs", "progress", "pulse", "queues", "live"];
  }

  #resync({ reason }: Resync): Part[] {
    this.#group = [];
    this.#resumable = false;
    this.live = { state: "resyncing", reason: RESYNC_MEANS[reason] ?? reason, since: this.clock.now() };
    return ["live"];
  }

  #bookmark({ epoch, seq, at }: Bookmark): Part[] {
    if (epoch !== this.view.epoch) throw new FeedError("the stream changed its epoch");
    // Events of waiting jobs move the log on without a word to viewers; the bookmark says so.
    if (this.#group.length === 0) this.view.seq = Math.max(this.view.seq, seq);
    return this.#hear(at);
  }

  #notLive({ reason, since }: NotLive): Part[] {
    const at = Date.parse(since);
    if (Number.isNaN(at)) throw new FeedError(`the stream's time ${since} cannot be read`);
    this.live = { state: "not_live", reason, since: at };
    return ["live"];
  }

  /** The server has just said that it stands at the log's end. */
  #hear(at: string): Part[] {
    this.clock.sample(at);
    this.#heard = this.#local();
    if (this.live.state === "live") return [];
    this.live = { state: "live" };
    return ["live"];
  }

  /** The connection is gone; what is shown is from before. */
  lost(reason: string, startOver = false): void {
    this.#group = [];
    this.view.told.clear();
    if (startOver) this.#resumable = false;
    if (this.live.state === "not_live") {
      this.live = { ...this.live, reason };
    } else {
      this.live = { state: "not_live", reason, since: this.heardAt };
    }
  }

  /** Local time has jumped, as after a sleep of this machine: what is shown is from before. */
  woke(): void {
    if (this.live.state === "live") {
      this.live = { state: "not_live", reason: WOKE, since: this.heardAt };
    }
    this.clock.doubt();
  }

  refused(reason: string): void {
    this.live = { state: "refused", reason };
  }

  /** To be called every second: notices silence by itself. Says whether something changed. */
  tick(): boolean {
    const silent = this.#local() - this.#heard > SILENCE_MS;
    if (!silent || this.live.state !== "live") return false;
    const reason = `nothing heard from the server for ${SILENCE_MS / 1000} s`;
    this.live = { state: "not_live", reason, since: this.heardAt };
    return true;
  }

  /** When the server was heard last, in its own time. */
  get heardAt(): number {
    return this.clock.now() - (this.#local() - this.#heard);
  }
}

function parse(message: SseEvent): unknown {
  try {
    return JSON.parse(message.data);
  } catch {
    throw new FeedError(`a message of the stream (${message.name}) cannot be read`);
  }
}
