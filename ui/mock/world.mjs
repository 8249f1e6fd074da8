// The mock's store: records by kind, a log of changes, and the lanes.

import { randomUUID } from "node:crypto";

export const iso = (secondsAgo = 0) => new Date(Date.now() - secondsAgo * 1000).toISOString();

export class World {
  epoch = randomUUID().slice(0, 4);
  seq = 1000;
  endedNo = 0;
  records = { machine: new Map(), worker: new Map(), connector: new Map(), alert: new Map(), job: new Map() };
  pending = new Map();
  /** Ended jobs that left the view. */
  old = new Map();
  /** The ends of jobs that were retried since. */
  retried = new Map();
  progress = new Map();
  listeners = new Set();

  /** One atomic step: events of one seq, told to every viewer. */
  commit(...events) {
    this.seq += 1;
    const lines = events.map(([event, kind, record, id = record?.id]) => {
      if (record) this.records[kind].set(id, { ...record, rev: this.seq });
      else this.records[kind].delete(id);
      return { seq: this.seq, at: iso(), event, kind, id, record: this.records[kind].get(id) ?? null };
    });
    for (const tell of this.listeners) {
      lines.forEach((line, n) => tell(line.event, line, n === lines.length - 1 ? `${this.epoch}.${this.seq}` : null));
    }
  }

  lane(name, data) {
    for (const tell of this.listeners) tell(name, data, null);
  }

  asOf() {
    return { seq: this.seq, at: iso() };
  }

  job(id) {
    return this.records.job.get(id) ?? this.pending.get(id) ?? this.old.get(id);
  }

  /** Ended jobs of one status, the newest first. */
  ended(status) {
    const jobs = [...this.records.job.values(), ...this.old.values()].filter((job) => job.status === status);
    return jobs.sort((a, b) => b.ended_no - a.ended_no);
  }

  worker(id) {
    return this.records.worker.get(id);
  }

  snapshot() {
    const all = (kind) => [...this.records[kind].values()];
    return {
      epoch: this.epoch, seq: this.seq, fleet: "default", machines: all("machine"), workers: all("worker"),
      connectors: all("connector"), alerts: all("alert"), jobs: all("job"),
      lanes: { progress: { as_of: this.asOf(), values: [...this.progress.values()] }, pulse: this.pulse(), queues: this.queues() }, at: iso(),
    };
  }

  /** Those that are there are heard; the status of the others was last confirmed long ago. Of a large fleet `changes` are only these. */
  pulse(changes = false) {
    const { machine, worker, connector } = this.records;
    const few = changes && machine.size + worker.size + connector.size > 500;
    const heard = (records, gone) => [...records.values()].filter((r) => !few || gone(r))
      .map((r) => ({ id: r.id, heartbeat_at: iso(gone(r) ? 340 : Math.random() * 4) }));
    const confirmed = ({ id, status }) => status === "unknown"
      ? { id, confirmed_at: iso(74), source: "report" }
      : { id, confirmed_at: iso(status === "offline" ? 340 : Math.random() * 6), source: status === "active" ? "job" : "report" };
    return {
      as_of: this.asOf(), heard_since: iso(15), confirmed_since: iso(30), changes: few,
      machines: heard(machine, (m) => ["offline", "disconnected"].includes(m.status)),
      workers: heard(worker, (w) => w.status === "offline"),
      connectors: [...connector.values()].filter((c) => !few || ["offline", "unknown"].includes(c.status)).map(confirmed),
    };
  }

  /** Pending jobs in the order of claims, behind them those that are held. */
  waiting() {
    const held = (job) => Number(Boolean(job.hold));
    return [...this.pending.values()].sort((a, b) => held(a) - held(b) || b.priority - a.priority || a.place - b.place);
  }

  queues() {
    const pending = this.waiting();
    const classes = new Map();
    for (const job of pending) {
      const kind = classes.get(job.class) ?? {
        class: job.class, service: job.service, requirements: job.requirements,
        customer: job.customer_id, waiting: 0, held: 0,
        oldest_at: job.created_at, oldest_job: job.id, able_workers: job.class === "c-h100" ? 0 : 3,
      };
      kind[job.hold ? "held" : "waiting"] += 1;
      if (job.created_at < kind.oldest_at) [kind.oldest_at, kind.oldest_job] = [job.created_at, job.id];
      classes.set(job.class, kind);
    }
    const jobs = [...this.records.job.values(), ...this.old.values()];
    const n = (status) => jobs.filter((job) => job.status === status).length;
    return {
      as_of: this.asOf(),
      pending: pending.slice(0, 200).map(({ id, service, priority, workflow_id, customer_id, created_at, class: kind, attempt, hold }) =>
        ({ id, service, priority, workflow_id, customer_id, created_at, class: kind, attempt, hold })),
      classes: [...classes.values()],
      counts: {
        pending: pending.filter((job) => !job.hold).length, held: pending.filter((job) => job.hold).length, assigned: n("assigned"),
        in_progress: n("in_progress"), completed: n("completed"), failed: n("failed"), cancelled: n("cancelled"),
        workers: this.records.worker.size, machines: this.records.machine.size,
      },
    };
  }
}

export const machine = (id, status, gpus, more = {}) => ({
  id, rev: 0, status, reason: null, action: null, incarnation: randomUUID(), gpus, connected_at: iso(8000), ...more,
});

export const worker = (id, machineId, status, more = {}) => ({
  id, rev: 0, machine_id: machineId, incarnation: randomUUID(), status, reason: null, action: null,
  presence: status === "offline" ? { state: status, why: "left" } : { state: "ready" }, orders: { drain: status === "draining" },
  services: [{ name: "comfyui", slots: 1 }], current_job_ids: [], capabilities_digest: "5f1c", summary: "comfyui 0.27.0 on one GPU",
  connected_at: iso(8000), last_status_change: iso(40), jobs_completed: 0, jobs_failed: 0, ...more,
});

export const connector = (workerId, machineId, service, status, more = {}) => ({
  id: `${workerId}:${service}`, rev: 0, worker_id: workerId, machine_id: machineId, service_type: service, status,
  reported: status, timestamp: iso(35), error_message: null, job_ids: [], ...more,
});

export const job = (more = {}) => ({
  id: `019abf3e-${randomUUID().slice(9)}`, rev: 0, status: "pending", service: "comfyui", priority: 50, run: 1,
  attempt: 0, token: null, failures: 0, losses: 0, max_failures: 3, max_losses: 3, place: 0, queued_seq: 0,
  hold: null, cancel_requested_at: null, worker_id: null, machine_id: null, customer_id: null, workflow_id: null,
  workflow_priority: null, created_at: iso(), assigned_at: null, started_at: null, completed_at: null,
  ended_no: null, failure: null, cached: false, artifacts: [], last_progress: null, metadata: null, ...more,
});
