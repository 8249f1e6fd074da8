// Jobs that a page goes on knowing when they are no longer in the view.

import type { Job } from "./types";

/**
 * What is known after `seen`: of each job the newest record; jobs that are new to it only where
 * they are wanted. The same map where nothing changes. Of more than `most` the newest are kept.
 */
export function learned(
  known: Map<string, Job>, seen: Iterable<Job>, wanted: (job: Job) => boolean, most = Infinity,
): Map<string, Job> {
  const news = [...seen].filter((job) => {
    const held = known.get(job.id);
    return held ? job.rev > held.rev : wanted(job);
  });
  if (news.length === 0) return known;
  const all = new Map(known);
  for (const job of news) all.set(job.id, job);
  if (all.size <= most) return all;
  return new Map(lastEndedFirst(all.values()).slice(0, most).map((job) => [job.id, job]));
}

export function lastEndedFirst(jobs: Iterable<Job>): Job[] {
  return [...jobs].sort((a, b) => (b.ended_no ?? 0) - (a.ended_no ?? 0));
}
