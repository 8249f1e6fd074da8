// How urgently something needs a person: the order of machines and workers on the monitor.

import type { Connector, ConnectorStatus, Machine, Worker } from "./types";

/** The lower, the more urgent. */
const BROKEN = 0;
const ERROR = 1;
const SILENT = 2;
const SUSPECT = 3;
const NOT_READY = 4;
const WELL = 5;
/** Said goodbye: nobody has to do anything about it. */
const GONE = 6;

/** Whether somebody should look: what only is not ready yet will be by itself. */
export const needsAttention = (attention: number): boolean => attention < NOT_READY;

/** Whether its neighbours may have the same: a record that is broken is so by itself. */
export const mayBeShared = (attention: number): boolean => attention > BROKEN && attention < WELL;

/**
 * Of a list, sorted by attention, the part that is drawn. While nothing may move, who comes to need
 * attention farther down is drawn there: as many as would be among the first.
 */
export function inSight<T extends { attention: number }>(nodes: T[], drawn: number, still: boolean): T[] {
  const first = nodes.slice(0, drawn);
  if (!still) return first;
  const troubled = (node: T) => needsAttention(node.attention);
  const room = drawn - first.filter(troubled).length;
  return [...first, ...nodes.slice(drawn).filter(troubled).slice(0, room)];
}

export function machineAttention({ status }: Machine, broken: boolean): number {
  if (broken) return BROKEN;
  switch (status) {
    case "degraded": return ERROR;
    case "disconnected": return SILENT;
    case "starting": return NOT_READY;
    case "offline": return GONE;
    case "ready": case "stopping": return WELL;
  }
}

/** The worst of a worker itself and its services. */
export function workerAttention(worker: Worker, connectors: Connector[], broken: boolean): number {
  if (broken || worker.status === "corrupted") return BROKEN;
  const { presence } = worker;
  if (presence.state === "offline") return presence.why === "silent" ? SILENT : GONE;
  const services = connectors.map(({ status }) => CONNECTOR[status]);
  const own = worker.suspect_until ? SUSPECT : worker.status === "starting" ? NOT_READY : WELL;
  return Math.min(own, ...services);
}

/** Of a service whose worker is there. */
const CONNECTOR: Record<ConnectorStatus, number> = {
  error: ERROR,
  offline: ERROR,
  unknown: SILENT,
  starting: NOT_READY,
  connecting: NOT_READY,
  idle: WELL,
  active: WELL,
};
