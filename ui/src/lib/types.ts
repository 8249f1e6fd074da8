// The wire: records, lanes and events as the server sends them.

/** RFC 3339 in UTC with milliseconds, on the store's clock. */
export type Timestamp = string;

export type MachineStatus =
  | "starting" | "ready" | "degraded" | "stopping" | "offline" | "disconnected";
export type WorkerStatus = "starting" | "idle" | "busy" | "draining" | "offline" | "corrupted";
export type ConnectorStatus =
  | "starting" | "connecting" | "idle" | "active" | "error" | "offline" | "unknown";
export type JobStatus =
  | "pending" | "assigned" | "in_progress" | "completed" | "failed" | "cancelled";

export interface Gpu {
  name: string;
  /** GiB. */
  memory_gb: number;
}

export interface Machine {
  id: string;
  rev: number;
  status: MachineStatus;
  reason: string | null;
  action: string | null;
  incarnation: string | null;
  gpus: Gpu[];
  connected_at: Timestamp;
}

export interface Worker {
  id: string;
  rev: number;
  machine_id: string;
  incarnation: string;
  status: WorkerStatus;
  reason: string | null;
  action: string | null;
  orders: { drain: boolean };
  services: { name: string; slots: number }[];
  current_job_ids: string[];
  capabilities_digest: string;
  summary: string;
  connected_at: Timestamp;
  last_status_change: Timestamp;
  jobs_completed: number;
  jobs_failed: number;
  suspect_until?: Timestamp;
}

export interface Connector {
  id: string;
  rev: number;
  worker_id: string;
  machine_id: string;
  service_type: string;
  status: ConnectorStatus;
  reported: ConnectorStatus;
  timestamp: Timestamp;
  error_message: string | null;
  job_ids: string[];
}

export interface Failure {
  kind: "wrong_worker" | "bad_job" | "service_fault" | "timeout" | "lost" | "cancelled";
  code: string;
  message: string;
  node?: string;
  node_type?: string;
  workers?: string[];
}

export interface Artifact {
  name: string;
  size: number;
  media_type: string;
  sha256: string;
  node: string | null;
  type: "output" | "temp";
}

export interface Progress {
  attempt: number;
  n: number;
  percent: number | null;
  node: string | null;
  step: number | null;
  steps: number | null;
  message: string | null;
  last_event_at: Timestamp | null;
  preview_n: number;
}

export interface Hold {
  reason: "backoff" | "schedule" | "dependency" | "paused";
  until: Timestamp | null;
}

export type PastOutcome =
  | { outcome: "failed"; failure: Failure }
  | { outcome: "returned"; reason: string; message: string }
  | { outcome: "ended_run"; status: JobStatus };

export type PastAttempt = {
  run: number;
  attempt: number;
  token: string;
  worker_id: string;
  assigned_at: Timestamp;
  started_at: Timestamp | null;
  ended_at: Timestamp;
  outcome: PastOutcome;
  late?: boolean;
  late_won?: boolean;
};

export interface Job {
  id: string;
  rev: number;
  status: JobStatus;
  service: string;
  priority: number;
  run: number;
  attempt: number;
  token: string | null;
  failures: number;
  losses: number;
  max_failures: number;
  max_losses: number;
  hold: Hold | null;
  cancel_requested_at: Timestamp | null;
  worker_id: string | null;
  machine_id: string | null;
  customer_id: string | null;
  workflow_id: string | null;
  workflow_priority: number | null;
  created_at: Timestamp;
  assigned_at: Timestamp | null;
  started_at: Timestamp | null;
  completed_at: Timestamp | null;
  ended_no: number | null;
  failure: Failure | null;
  cached: boolean;
  artifacts: Artifact[];
  last_progress: Progress | null;
  requirements?: Record<string, unknown>;
  timeouts?: Record<string, number>;
  past_attempts?: PastAttempt[];
  late_results?: number;
  metadata: unknown;
}

export interface Alert {
  id: string;
  rev: number;
  rule: string;
  severity: "warning" | "critical";
  subject: string;
  message: string;
  action: string;
  raised_at: Timestamp;
}

/** The kinds of records, and what each is. */
export interface RecordOf {
  machine: Machine;
  worker: Worker;
  connector: Connector;
  alert: Alert;
  job: Job;
}
export type Kind = keyof RecordOf;
export type AnyRecord = RecordOf[Kind];

/** One change: the whole record after it, or null when it left the view. */
export interface ViewEvent {
  seq: number;
  at: Timestamp;
  event: string;
  kind: Kind;
  id: string;
  record: AnyRecord | null;
}

/** Which seq and store time a lane value speaks of. */
export interface AsOf {
  seq: number;
  at: Timestamp;
}

/** A running job's newest progress. */
export interface JobProgress extends Progress {
  job: string;
}

export interface ProgressLane {
  as_of: AsOf;
  values: JobProgress[];
}

export interface Heartbeat {
  id: string;
  /** Null when it was not heard since the store was opened. */
  heartbeat_at: Timestamp | null;
}

/** When, and by what, a connector's status was last confirmed. */
export interface Confirmation {
  id: string;
  /** Null when nothing confirmed it since the store was opened. */
  confirmed_at: Timestamp | null;
  source: "report" | "job" | "registration" | null;
}

export interface PulseLane {
  as_of: AsOf;
  workers: Heartbeat[];
  machines: Heartbeat[];
  connectors: Confirmation[];
}

/** A pending job in short. */
export interface PendingJob {
  id: string;
  service: string;
  priority: number;
  workflow_id: string | null;
  customer_id: string | null;
  created_at: Timestamp;
  class: string;
  hold: Hold | null;
}

/** Pending jobs with equal requirements. */
export interface QueueClass {
  class: string;
  service: string;
  requirements: Record<string, unknown>;
  waiting: number;
  held: number;
  oldest_at: Timestamp | null;
  able_workers: number;
}

export interface Counts {
  /** In their queues. */
  pending: number;
  /** Pending, and not in their queues. */
  held: number;
  assigned: number;
  in_progress: number;
  completed: number;
  failed: number;
  cancelled: number;
  workers: number;
  machines: number;
}

export interface QueuesLane {
  as_of: AsOf;
  pending: PendingJob[];
  classes: QueueClass[];
  counts: Counts;
}

/** The view and its lanes at one position. */
export interface Snapshot {
  epoch: string;
  seq: number;
  fleet: string;
  machines: Machine[];
  workers: Worker[];
  connectors: Connector[];
  alerts: Alert[];
  jobs: Job[];
  lanes: {
    progress?: ProgressLane | null;
    pulse?: PulseLane | null;
    queues?: QueuesLane | null;
  };
  at: Timestamp;
}

export interface Bookmark {
  epoch: string;
  seq: number;
  at: Timestamp;
}

export interface Resync {
  reason: "other_epoch" | "beyond_head" | "not_kept" | "too_slow" | "rebuilt";
}

export interface NotLive {
  reason: string;
  since: Timestamp;
}

/** An error as RFC 9457 describes it, with our stable code, the wrong field and the cure. */
export interface Problem {
  type?: string;
  title: string;
  status: number;
  detail?: string;
  code: string;
  pointer?: string;
  cure?: string;
}

/** Rule by rule, how many workers pass or fail it, and which. */
export interface Explanation {
  /** Workers looked at. */
  workers: number;
  /** Workers that pass every rule, by what they could do now. */
  able: Record<"total" | "idle" | "busy" | "draining" | "paused" | "not_ready" | "offline", number>;
  rules: RuleOutcome[];
}

export interface Explained {
  job: string;
  status: JobStatus;
  hold: Hold | null;
  /** One sentence that says why it waits, or that it does not. */
  answer: string;
  /** Waiting jobs that are claimed before it; null when that is not known. */
  ahead: number | null;
  explanation: Explanation;
}

/** What became of one job of a batch. */
export type BatchItem = { job: Job; existed: boolean } | { problem: Problem };

export interface RuleOutcome {
  rule: string;
  /** What is asked, such as `a GPU with at least 24 GiB`. */
  wanted: string;
  pass: number;
  fail: number;
  /** So many more workers would be able without this rule. */
  fail_only_this: number;
  failing: { worker: string; found: string; only_this: boolean }[];
}
