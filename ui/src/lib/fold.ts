// The view and its one rule: an event replaces the record of its kind and id, or drops it.
// Nothing here does input or output, reads a clock, or knows of the page.

import { Pulse } from "./pulse";
import { isEnded } from "./status";
import type {
  AnyRecord, JobProgress, Kind, QueuesLane, RecordOf, Snapshot, ViewEvent, WaitingJob,
} from "./types";

/** The records of each kind by id. */
export type Records = { [K in Kind]: Map<string, RecordOf[K]> };

/** Everything a viewer holds. It stands at the end of a group, never inside one. */
export interface View {
  epoch: string;
  seq: number;
  fleet: string;
  records: Records;
  /** The newest progress of running jobs, by job. */
  progress: Map<string, JobProgress>;
  /** The jobs whose progress this stream has told: what is held of others is from one before. */
  told: Set<string>;
  pulse: Pulse;
  queues: QueuesLane | null;
}

export function emptyView(): View {
  return {
    epoch: "",
    seq: 0,
    fleet: "",
    records: {
      machine: new Map(), worker: new Map(), connector: new Map(), alert: new Map(), job: new Map(),
    },
    progress: new Map(),
    told: new Set(),
    pulse: new Pulse(),
    queues: null,
  };
}

function byId<R extends { id: string }>(records: R[]): Map<string, R> {
  return new Map(records.map((record) => [record.id, record]));
}

export function fromSnapshot(snapshot: Snapshot): View {
  const view: View = {
    epoch: snapshot.epoch,
    seq: snapshot.seq,
    fleet: snapshot.fleet,
    records: {
      machine: byId(snapshot.machines),
      worker: byId(snapshot.workers),
      connector: byId(snapshot.connectors),
      alert: byId(snapshot.alerts),
      job: byId(snapshot.jobs),
    },
    progress: new Map(),
    told: new Set(),
    pulse: new Pulse(),
    queues: snapshot.lanes.queues ?? null,
  };
  if (snapshot.lanes.pulse) view.pulse.take(snapshot.lanes.pulse);
  applyProgress(view, snapshot.lanes.progress?.values ?? []);
  return view;
}

/** A position in the log, as `Last-Event-ID` carries it: `epoch.seq`. */
interface Position {
  epoch: string;
  seq: number;
}

export function parsePosition(id: string): Position | null {
  const dot = id.lastIndexOf(".");
  const seq = Number(id.slice(dot + 1));
  return dot > 0 && dot < id.length - 1 && Number.isSafeInteger(seq) ? { epoch: id.slice(0, dot), seq } : null;
}

/** Applies one whole group, and moves the view to its end. Doing it twice changes nothing. */
export function applyGroup(view: View, events: ViewEvent[], end: Position): void {
  for (const event of events) {
    const records = view.records[event.kind] as Map<string, AnyRecord> | undefined;
    // A kind that this page does not know yet is none of its business.
    if (!records) continue;
    if (event.record) records.set(event.id, event.record);
    else records.delete(event.id);
    if (event.kind === "job") dropStaleProgress(view, event.id);
  }
  view.epoch = end.epoch;
  view.seq = end.seq;
}

/** Progress belongs to the attempt that the record shows, and goes when that is over. */
function dropStaleProgress(view: View, id: string): void {
  const job = view.records.job.get(id);
  const kept = view.progress.get(id);
  if (kept && (!job || isEnded(job) || job.attempt !== kept.attempt)) {
    view.progress.delete(id);
    view.told.delete(id);
  }
}

/** Takes each value that is no older than the one held, for the attempt that the record shows. */
export function applyProgress(view: View, values: JobProgress[]): void {
  for (const value of values) {
    const job = view.records.job.get(value.job);
    if (!job || isEnded(job) || job.attempt !== value.attempt) continue;
    const held = view.progress.get(value.job);
    if (!held || held.attempt !== value.attempt || value.n >= held.n) {
      view.progress.set(value.job, value);
      view.told.add(value.job);
    }
  }
}

/**
 * The first waiting jobs, in the order they will be claimed, and behind them those that are held. The
 * lane may be half a second behind the records, so a job that has a record runs or has ended: it waits
 * no more.
 */
export function waiting(view: View): WaitingJob[] {
  return (view.queues?.pending ?? []).filter((job) => !view.records.job.has(job.id));
}

/** A view as plain JSON: what tests compare, record by record. */
export interface PlainView {
  epoch: string;
  seq: number;
  fleet: string;
  machines: Record<string, unknown>;
  workers: Record<string, unknown>;
  connectors: Record<string, unknown>;
  alerts: Record<string, unknown>;
  jobs: Record<string, unknown>;
}

export function plain(view: View): PlainView {
  const object = (records: Map<string, unknown>) =>
    Object.fromEntries([...records].sort(([a], [b]) => (a < b ? -1 : 1)));
  const { machine, worker, connector, alert, job } = view.records;
  return {
    epoch: view.epoch,
    seq: view.seq,
    fleet: view.fleet,
    machines: object(machine),
    workers: object(worker),
    connectors: object(connector),
    alerts: object(alert),
    jobs: object(job),
  };
}

/** Where two values of plain JSON differ, as `path: left != right`; empty when they are equal. */
export function differences(left: unknown, right: unknown, path = ""): string[] {
  if (Object.is(left, right)) return [];
  if (!isContainer(left) || !isContainer(right) || Array.isArray(left) !== Array.isArray(right)) {
    return [`${path || "/"}: ${JSON.stringify(left)} != ${JSON.stringify(right)}`];
  }
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...keys].sort().flatMap((key) => differences(left[key], right[key], `${path}/${key}`));
}

function isContainer(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
