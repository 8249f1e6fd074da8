// The wire: records, lanes and events as the server sends them. The shapes are the OpenAPI
// document's, in `schema.ts`; here are their names, and what the document cannot say.

import type { components } from "./schema";

type Schemas = components["schemas"];

/** What the server may leave out, or say is nothing. */
export type Maybe<T> = T | null | undefined;

/** RFC 3339 in UTC with milliseconds, on the store's clock. */
export type Timestamp = Schemas["Timestamp"];

export type MachineStatus = Schemas["MachineStatus"];
export type WorkerStatus = Schemas["WorkerStatus"];
export type ConnectorStatus = Schemas["ConnectorStatus"];
export type JobStatus = Schemas["JobStatus"];

export type Machine = Schemas["Machine"];
export type Worker = Schemas["Worker"];
export type Connector = Schemas["Connector"];
export type Job = Schemas["Job"];
export type Alert = Schemas["Alert"];

export type Capabilities = Schemas["Capabilities"];
export type Condition = Schemas["Condition"];
export type LabelValue = Schemas["LabelValue"];

export type Artifact = Schemas["Artifact"];
export type Failure = Schemas["Failure"];
export type Hold = Schemas["Hold"];
export type PastAttempt = Schemas["PastAttempt"];
export type PastOutcome = Schemas["PastOutcome"];

/** The kinds of records, and what each is. */
export interface RecordOf {
  machine: Machine;
  worker: Worker;
  connector: Connector;
  alert: Alert;
  job: Job;
}
export type Kind = Schemas["RecordKind"];
export type AnyRecord = RecordOf[Kind];

/** One change: the whole record after it, or null when it left the view. */
export type ViewEvent = Omit<Schemas["ViewEvent"], "record"> & { record: AnyRecord | null };

/** The view and its lanes at one position. */
export type Snapshot = Schemas["Snapshot"];

export type JobProgress = Schemas["JobProgress"];
export type ProgressLane = Schemas["ProgressLane"];
export type PulseLane = Schemas["PulseLane"];
export type PulseEntry = Schemas["PulseEntry"];
export type QueuesLane = Schemas["QueuesLane"];
export type WaitingJob = Schemas["WaitingJob"];
/** When, and by what, a connector's status was last confirmed. */
export type Confirmation = Schemas["PulseConnector"];

export type Bookmark = Schemas["Bookmark"];
export type Resync = Schemas["Resync"];
export type NotLive = Schemas["NotLive"];

/** What is wrong with what is stored, and what a repair made of it. */
export type Examination = Schemas["Examination"];
export type Finding = Schemas["Finding"];
export type Mended = Schemas["Mended"];

export type BatchItem = Schemas["BatchItem"];
export type JobsPage = Schemas["JobsPage"];
export type Explained = Schemas["Explained"];
export type Explanation = Schemas["Explanation"];
export type RuleOutcome = Schemas["RuleOutcome"];

/**
 * An error as RFC 9457 describes it, with our stable code, the wrong field and the cure. Pages make
 * some of their own, whose codes are no server's and whose status is 0.
 */
export type Problem =
  & Pick<Schemas["Problem"], "title" | "status">
  & Partial<Omit<Schemas["Problem"], "code">>
  & { code: string };
