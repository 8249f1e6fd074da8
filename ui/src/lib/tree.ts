// Records put together as the monitor shows them: machines with their workers with their
// connectors. Whatever has lost its parent is shown all the same, apart.

import type { Records } from "./fold";
import type { Connector, Machine, Worker } from "./types";

export interface WorkerNode {
  worker: Worker;
  connectors: Connector[];
}

export interface MachineNode {
  machine: Machine;
  workers: WorkerNode[];
}

export interface Tree {
  machines: MachineNode[];
  /** Workers whose machine is not in the view. */
  strayWorkers: WorkerNode[];
  /** Connectors whose worker is not in the view. */
  strayConnectors: Connector[];
}

/**
 * Builds the tree. Nodes of `former` whose records are the very same are kept, so that a page
 * redraws only the cards that changed.
 */
export function buildTree(records: Records, former?: Tree): Tree {
  const connectors = grouped(sorted(records.connector.values()), (c) => c.worker_id);
  const formerWorkers = new Map(
    [...(former?.machines.flatMap((m) => m.workers) ?? []), ...(former?.strayWorkers ?? [])]
      .map((node) => [node.worker.id, node]));
  const workerNodes = sorted(records.worker.values()).map((worker) => {
    const node = { worker, connectors: connectors.get(worker.id) ?? [] };
    const old = formerWorkers.get(worker.id);
    return old?.worker === worker && same(old.connectors, node.connectors) ? old : node;
  });
  const workers = grouped(workerNodes, (node) => node.worker.machine_id);
  const formerMachines = new Map(former?.machines.map((node) => [node.machine.id, node]));
  const machines = sorted(records.machine.values()).map((machine) => {
    const node = { machine, workers: workers.get(machine.id) ?? [] };
    const old = formerMachines.get(machine.id);
    return old?.machine === machine && same(old.workers, node.workers) ? old : node;
  });
  return {
    machines,
    strayWorkers: workerNodes.filter((node) => !records.machine.has(node.worker.machine_id)),
    strayConnectors: sorted(records.connector.values()).filter((c) => !records.worker.has(c.worker_id)),
  };
}

const collator = new Intl.Collator("en", { numeric: true });

function sorted<R extends { id: string }>(records: Iterable<R>): R[] {
  return [...records].sort((a, b) => collator.compare(a.id, b.id));
}

function grouped<R>(items: R[], key: (item: R) => string): Map<string, R[]> {
  const groups = new Map<string, R[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
}

function same<T>(a: T[], b: T[]): boolean {
  return a.length === b.length && a.every((item, n) => item === b[n]);
}
