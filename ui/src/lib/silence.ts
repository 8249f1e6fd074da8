// How long nothing was heard of a running job, where that can be known.

import { ageMs } from "./format";
import type { Job, JobProgress } from "./types";

/**
 * Servers keep progress in memory only, and workers tell the last of each job again every 15 s. A
 * page that has been live for less may lack what the job has said: also where it holds what another
 * stream has told it, before a break, or before a restart of the server.
 */
export const KNOWN_AFTER_MS = 20_000;

/**
 * 0 where it is not known. `told`: this stream told of it, and so of the last that the server knows.
 * Counted up to when the server was heard last: what has been silent since may be the server. Times
 * are milliseconds on the server's clock.
 */
export function silentMs(job: Job, progress: JobProgress | null, told: boolean, liveSince: number | null, heard: number): number {
  if (job.status !== "in_progress" || liveSince === null) return 0;
  if (!told && !isKnown(job, liveSince, heard)) return 0;
  const last = progress?.last_event_at ?? job.started_at;
  return last ? ageMs(last, heard) : 0;
}

function isKnown(job: Job, liveSince: number, heard: number): boolean {
  return Date.parse(job.started_at ?? "") >= liveSince || heard - liveSince > KNOWN_AFTER_MS;
}
