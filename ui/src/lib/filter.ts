// The monitor's one filter: what of the picture holds all of the words that were typed.

import { needsAttention } from "./attention";
import { gpuLines, words } from "./format";
import { jobLook, workerLook } from "./status";
import type { MachineNode, Tree, WorkerNode } from "./tree";
import type { Job, Maybe, WaitingJob } from "./types";

/** Stands in the text of what somebody should look at; the tally of it types this word. */
export const ATTENTION = "attention";

const wordsOf = (filter: string): string[] => filter.toLowerCase().split(/\s+/).filter(Boolean);

/** Whether a text holds all words of the filter, in any order, of any case. */
export function matcher(filter: string): (text: string) => boolean {
  const wanted = wordsOf(filter);
  return (text) => {
    const lower = text.toLowerCase();
    return wanted.every((word) => lower.includes(word));
  };
}

/** The same of what is found in a record. One that cannot be read is left: in its place it is shown as broken. */
function holder(filter: string): (text: () => string) => boolean {
  const matches = matcher(filter);
  return (text) => {
    try {
      return matches(text());
    } catch {
      return true;
    }
  };
}

/** Whether a text holds one of the words: what to show as the reason of a match. */
export function holdsOne(filter: string, text: string): boolean {
  return wordsOf(filter).some((word) => text.toLowerCase().includes(word));
}

const JOB_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The filter, where it is the whole id of a job: then that job can be asked for, listed or not. */
export function wholeJobId(filter: string): string | null {
  const id = filter.trim().toLowerCase();
  return JOB_ID.test(id) ? id : null;
}

const SHORT_ID = /^[0-9a-f]{8}$/;
/** What is shorter may be of many jobs that are not listed. */
const SHORTEST = 8;

/** The filter, where it is the id of a job as pages shorten it: see `shortId`. */
export function shortJobId(filter: string): string | null {
  const short = filter.trim().toLowerCase();
  return SHORT_ID.test(short) ? short : null;
}

/** The jobs whose id begins or ends so, as whoever shortens one leaves its beginning or its end. */
export function jobsOfShortId(short: string, jobs: Iterable<{ id: string }>): string[] {
  const part = short.toLowerCase();
  if (part.length < SHORTEST) return [];
  const ids = new Set<string>();
  for (const { id } of jobs) if (id.startsWith(part) || id.endsWith(part)) ids.add(id);
  return [...ids];
}

/**
 * The machines that match, with those of their workers that do: a word may stand in either. What
 * matches by the machine alone comes with all of its workers. `labels` are a worker's, as text.
 */
export function filterTree(tree: Tree, filter: string, labels: (node: WorkerNode) => string): Tree {
  if (!filter.trim()) return tree;
  const holds = holder(filter);
  const textOf = (node: WorkerNode) => `${workerText(node)} ${labels(node)}`;
  const machines = tree.machines.flatMap((node) => {
    const workers = node.workers.filter((worker) => holds(() => `${machineText(node)} ${textOf(worker)}`));
    if (workers.length === 0 && !holds(() => machineText(node))) return [];
    return [workers.length === node.workers.length ? node : { ...node, workers }];
  });
  return {
    machines,
    strayWorkers: tree.strayWorkers.filter((node) => holds(() => textOf(node))),
    strayConnectors: tree.strayConnectors.filter((c) => holds(() => joined(c.id, c.status, c.error_message))),
  };
}

export const jobsThatMatch = (jobs: Job[], filter: string): Job[] => having(jobs, filter, jobText);
export const waitingThatMatch = (jobs: WaitingJob[], filter: string): WaitingJob[] => having(jobs, filter, waitingText);

function having<R>(records: R[], filter: string, text: (record: R) => string): R[] {
  if (!filter.trim()) return records;
  const holds = holder(filter);
  return records.filter((record) => holds(() => text(record)));
}

function machineText({ machine, attention }: MachineNode): string {
  return joined(machine.id, machine.status, machine.reason, ...gpuLines(machine.gpus), look(attention));
}

function workerText({ worker, connectors, attention }: WorkerNode): string {
  const services = connectors.map((c) => joined(c.service_type, c.status, c.error_message));
  return joined(
    worker.id, workerLook(worker).word, worker.reason, worker.summary, worker.suspect_until && "suspect", look(attention),
    ...worker.services.map((service) => service.name), ...services,
  );
}

function jobText(job: Job): string {
  const { failure } = job;
  return joined(
    job.id, job.service, jobLook(job).word, job.worker_id, job.machine_id, job.customer_id, job.workflow_id,
    failure?.kind, failure?.code, failure?.message, failure?.node_type, job.cached && "cached",
  );
}

function waitingText({ id, service, customer_id, workflow_id, hold }: WaitingJob): string {
  return joined(id, service, "pending", customer_id, workflow_id, hold && `held ${words(hold.reason)}`);
}

const look = (attention: number) => needsAttention(attention) && ATTENTION;

function joined(...parts: (Maybe<string> | false)[]): string {
  return parts.filter(Boolean).join(" ");
}
