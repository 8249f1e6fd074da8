// Records for tests: whole, so that a test says only what matters to it.

import type {
  Alert, Connector, Finding, Job, JobProgress, Kind, Machine, QueuesLane, RecordOf, Snapshot, ViewEvent, Worker,
} from "./types";

const T0 = "2026-01-01T00:00:00.000Z";

export const machine = (id: string, more: Partial<Machine> = {}): Machine => ({
  id, rev: 1, status: "ready", reason: null, action: null, incarnation: null, gpus: [],
  connected_at: T0, ...more,
});

export const worker = (id: string, more: Partial<Worker> = {}): Worker => ({
  id, rev: 1, machine_id: "m", incarnation: "i", status: "idle", reason: null, action: null,
  presence: { state: "ready" }, orders: { drain: false }, services: [], current_job_ids: [], capabilities_digest: "d",
  summary: "", connected_at: T0, last_status_change: T0, jobs_completed: 0, jobs_failed: 0, ...more,
});

export const connector = (id: string, more: Partial<Connector> = {}): Connector => ({
  id, rev: 1, worker_id: "w", machine_id: "m", service_type: "comfyui", status: "idle",
  reported: "idle", timestamp: T0, error_message: null, job_ids: [], ...more,
});

export const job = (id: string, more: Partial<Job> = {}): Job => ({
  id, rev: 1, status: "in_progress", service: "comfyui", priority: 50, run: 1, attempt: 1,
  token: null, failures: 0, losses: 0, max_failures: 3, max_losses: 3, hold: null,
  cancel_requested_at: null, worker_id: "w", machine_id: "m", customer_id: null,
  workflow_id: null, workflow_priority: null, created_at: T0, assigned_at: T0, started_at: T0,
  completed_at: null, ended_no: null, failure: null, cached: false, artifacts: [],
  last_progress: null, place: 1, queued_seq: 1, metadata: {}, ...more,
});

export const alert = (rule: Alert["rule"], subject: string): Alert => ({
  id: `${rule}:${subject}`, rev: 1, rule, subject, severity: "critical", message: "", action: "", raised_at: T0,
});

export const finding = (rule: Finding["rule"], subject: string): Finding => ({
  id: `${rule}:${subject}`, rule, subject, problem: "something is wrong", consequence: "it stays so",
  cure: "restart the worker", mend: "repair",
});

export const progress = (jobId: string, attempt: number, n: number): JobProgress => ({
  job: jobId, attempt, n, percent: null, node: null, step: null, steps: null, message: null,
  last_event_at: null, preview_n: 0,
});

export const queues = (pending: string[]): QueuesLane => ({
  as_of: { seq: 10, at: T0 },
  pending: pending.map((id) => ({ id, service: "comfyui", priority: 50, created_at: T0, class: "c", attempt: 0 })),
  classes: [],
  counts: {
    pending: pending.length, held: 0, assigned: 0, in_progress: 0, completed: 0, failed: 0, cancelled: 0,
    workers: 0, machines: 0, classes: 0,
  },
});

export const snapshot = (more: Partial<Snapshot> = {}): Snapshot => ({
  epoch: "e1", seq: 10, fleet: "default", machines: [], workers: [], connectors: [], alerts: [],
  jobs: [], lanes: { progress: { as_of: { seq: 10, at: T0 }, values: [] } }, at: T0, ...more,
});

const CHANGED: Record<Kind, ViewEvent["event"]> = {
  machine: "machine_state_changed",
  worker: "worker_status_changed",
  connector: "connector_status_changed",
  alert: "alert_raised",
  job: "job_updated",
};

export function put<K extends Kind>(seq: number, kind: K, record: RecordOf[K]): ViewEvent {
  return { seq, at: T0, event: CHANGED[kind], kind, id: record.id, record };
}

export function removed(seq: number, kind: Kind, id: string): ViewEvent {
  return { seq, at: T0, event: CHANGED[kind], kind, id, record: null };
}
