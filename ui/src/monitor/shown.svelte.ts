// What of the picture the filter leaves.

import { filterTree, jobsOfShortId, jobsThatMatch, waitingThatMatch } from "../lib/filter";
import { picture } from "../lib/live.svelte";
import type { Tree } from "../lib/tree";
import type { Job, WaitingJob } from "../lib/types";
import { ended } from "./ended.svelte";
import { labels } from "./labels.svelte";
import { route } from "./route.svelte";

class Shown {
  readonly filtered: boolean = $derived(route.filter.trim() !== "");
  readonly tree: Tree = $derived(
    filterTree(picture.tree, route.filter, ({ worker }) => labels.of(worker.capabilities_digest).join(" ")));
  readonly running: Job[] = $derived(jobsThatMatch(picture.running, route.filter));
  readonly waiting: WaitingJob[] = $derived(waitingThatMatch(picture.waiting, route.filter));
  readonly ended: Job[] = $derived(jobsThatMatch(ended.jobs, route.filter));
}

export const shown = new Shown();

/** Of the jobs that this page lists, those whose id is shortened so. */
export const listedOfShortId = (short: string): string[] =>
  jobsOfShortId(short, [...picture.running, ...picture.waiting, ...picture.ended, ...ended.jobs]);
