// What each status looks like. Colour never stands alone: the word is always beside it.

import type { Connector, ConnectorStatus, Job, Machine, MachineStatus, Worker, WorkerStatus } from "./types";
import { clockTime, words } from "./format";
import type { Confirmed } from "./pulse";

export type Tone = "green" | "blue" | "yellow" | "red" | "grey";

export const MACHINE_TONE: Record<MachineStatus, Tone> = {
  starting: "blue",
  ready: "green",
  degraded: "yellow",
  stopping: "grey",
  offline: "grey",
  disconnected: "red",
};

const WORKER_TONE: Record<WorkerStatus, Tone> = {
  starting: "yellow",
  idle: "green",
  busy: "blue",
  draining: "yellow",
  offline: "grey",
  corrupted: "red",
};

type Process = Pick<Worker, "status" | "stopping" | "incarnation">;

/** Whether its process was told to stop: it takes no more jobs, and leaves. */
export function isStopping({ status, stopping, incarnation }: Process): boolean {
  // An older server keeps what a process said of that in the record of the next one, too.
  return status === "draining" && stopping === incarnation;
}

/** The word and colour of a worker: one that drains as its process was told to stop says so. */
export function workerLook(worker: Process): { word: string; tone: Tone } {
  if (isStopping(worker)) return { word: "stopping", tone: "grey" };
  return { word: worker.status, tone: WORKER_TONE[worker.status] };
}

export const CONNECTOR_TONE: Record<ConnectorStatus, Tone> = {
  starting: "yellow",
  connecting: "yellow",
  idle: "blue",
  active: "green",
  error: "red",
  offline: "grey",
  unknown: "grey",
};

/** So long a suspect worker takes none: what ends further off was begun by a clock that was ahead. */
const SUSPECT_FOR_MS = 60_000;
/** How far the page's time may be behind the server's: it moves on once a second. */
const BEHIND_MS = 5_000;

/** Why a suspect worker gets fewer jobs, in which order that ends, and what mends it; `now` is the server's time. */
export function suspicion(
  { suspect_jobs = [], suspect_until }: Pick<Worker, "suspect_jobs" | "suspect_until">, now: number,
): { reason: string; action: string } | null {
  if (!suspect_until) return null;
  const left = Date.parse(suspect_until) - now;
  const takesNone = left > 0 && left <= SUSPECT_FOR_MS + BEHIND_MS;
  const until = takesNone ? `none until ${clockTime(suspect_until)} at the latest, then ` : "";
  return {
    reason: `suspect: broke ${suspect_jobs.length} different jobs in a row; takes ${until}one at a time until one completes`,
    action: "look at its services; resume it when they are well",
  };
}

/** The word and colour of a job; a running one that is to stop says so. */
export function jobLook(job: Pick<Job, "status" | "cancel_requested_at">): { word: string; tone: Tone } {
  switch (job.status) {
    case "completed":
      return { word: "completed", tone: "green" };
    case "failed":
      return { word: "failed", tone: "red" };
    case "cancelled":
      return { word: "cancelled", tone: "grey" };
    default:
      if (job.cancel_requested_at) return { word: "cancelling", tone: "yellow" };
      return { word: words(job.status), tone: job.status === "pending" ? "grey" : "blue" };
  }
}

/** What its worker says of a job's result: beside a node or a step it says only where the work was last. */
export function remark({ status, last_progress: last }: Pick<Job, "status" | "last_progress">): string | null {
  return status === "completed" && last?.node == null && last?.step == null ? last?.message ?? null : null;
}

export const isGone = ({ status }: Pick<Machine, "status">): boolean => status === "offline" || status === "disconnected";

export const isEnded = (job: Pick<Job, "completed_at">): boolean => !!job.completed_at;
export const isRunning = (job: Pick<Job, "status">): boolean =>
  job.status === "assigned" || job.status === "in_progress";

/** What is known of how old a status is: when it was confirmed last, or only since when it stands. */
export type Standing = Confirmed & { changed?: boolean };

/**
 * When a connector's status was last confirmed: by the pulse, or, as that comes only every 5 s, by
 * a job that was taken since. Any other change since may have been declared for a worker that is
 * silent: then it is known only since when the status stands. So it is when it is unknown, for want
 * of a confirmation: there the last one counts.
 */
export function confirmation(connector: Connector, pulse: Confirmed | null): Standing | null {
  const newer = !pulse || connector.timestamp > pulse.at;
  if (!newer || connector.status === "unknown") return pulse;
  const at = { at: connector.timestamp, exact: true };
  return connector.status === "active" ? { ...at, source: "job" } : { ...at, source: null, changed: true };
}
