// How long nothing was heard of a running job, where that can be known.

import { ageMs } from "./format";
import type { Job, JobProgress } from "./types";

/**
 * Servers keep progress in memory only, and workers tell the last of each job again every 15 s. A
 * page that has been live for less may lack what the job has said.
 */
export const KNOWN_AFTER_MS = 20_000;

/** 0 where it is not known. Times are milliseconds on the server's clock. */
export function silentMs(job: Job, progress: JobProgress | null, liveSince: number | null, now: number): number {
  if (job.status !== "in_progress") return 0;
  const last = progress?.last_event_at ?? (isKnown(job, liveSince, now) ? job.started_at : null);
  return last ? ageMs(last, now) : 0;
}

function isKnown(job: Job, liveSince: number | null, now: number): boolean {
  if (liveSince === null) return false;
  return Date.parse(job.started_at ?? "") >= liveSince || now - liveSince > KNOWN_AFTER_MS;
}
