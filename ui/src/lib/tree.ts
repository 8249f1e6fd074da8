// Records put together as the monitor shows them: machines with their workers with their
// connectors, what needs a person first. Whatever has lost its parent is shown all the same, apart.

import { machineAttention, workerAttention } from "./attention";
import type { Records } from "./fold";
import type { Connector, Machine, Worker } from "./types";

export interface WorkerNode {
  worker: Worker;
  connectors: Connector[];
  /** How urgently it needs a person: see `attention.ts`. */
  attention: number;
}

export interface MachineNode {
  machine: Machine;
  workers: WorkerNode[];
  /** Of the machine itself. */
  attention: number;
  /** The most urgent of itself and its workers. */
  worst: number;
}

export interface Tree {
  machines: MachineNode[];
  /** Workers whose machine is not in the view. */
  strayWorkers: WorkerNode[];
  /** Connectors whose worker is not in the view. */
  strayConnectors: Connector[];
}

export const NO_TREE: Tree = { machines: [], strayWorkers: [], strayConnectors: [] };

/** All workers, those without a machine too. */
export function workersOf(tree: Tree): WorkerNode[] {
  return [...tree.machines.flatMap((node) => node.workers), ...tree.strayWorkers];
}

export interface TreeOptions {
  /** Whether an alert says that something is wrong with the record of this subject, `KIND/ID`. */
  broken?: (subject: string) => boolean;
  /** Nodes of it whose records are the very same are kept, so that only what changed is redrawn. */
  former?: Tree;
  /** Everything stays where `former` has it: somebody is at work there. */
  still?: boolean;
}

export function buildTree(records: Records, options: TreeOptions = {}): Tree {
  const { broken = () => false, former = NO_TREE, still = false } = options;
  const isBroken = ({ id, connectors }: { id: string; connectors: Connector[] }) =>
    broken(`worker/${id}`) || connectors.some((connector) => broken(`connector/${connector.id}`));
  const formerNodes = workersOf(former);
  const formerWorkers = new Map(formerNodes.map((node) => [node.worker.id, node]));
  const formerMachines = new Map(former.machines.map((node) => [node.machine.id, node]));

  const allConnectors = sorted(records.connector.values(), (c) => c.id);
  const connectorsOf = grouped(allConnectors, (c) => c.worker_id);
  const workerNodes = [...records.worker.values()].map((worker) => {
    const connectors = connectorsOf.get(worker.id) ?? [];
    const attention = workerAttention(worker, connectors, isBroken({ id: worker.id, connectors }));
    const old = formerWorkers.get(worker.id);
    const kept = old?.worker === worker && old.attention === attention && same(old.connectors, connectors);
    return kept ? old : { worker, connectors, attention };
  });
  const workers = arranged(workerNodes, (node) => node.worker.id, (node) => node.attention, still && formerNodes);
  const byMachine = grouped(workers, (node) => node.worker.machine_id);
  const machineNodes = [...records.machine.values()].map((machine) => {
    const workers = byMachine.get(machine.id) ?? [];
    const attention = machineAttention(machine, broken(`machine/${machine.id}`));
    const old = formerMachines.get(machine.id);
    const kept = old?.machine === machine && old.attention === attention && same(old.workers, workers);
    return kept ? old : { machine, workers, attention, worst: Math.min(attention, ...workers.map((w) => w.attention)) };
  });
  return {
    machines: arranged(machineNodes, (node) => node.machine.id, (node) => node.worst, still && former.machines),
    strayWorkers: workers.filter((node) => !records.machine.has(node.worker.machine_id)),
    strayConnectors: allConnectors.filter((c) => !records.worker.has(c.worker_id)),
  };
}

/** The most urgent first, and then as people count; or as they stood, where they shall stay. */
function arranged<N>(nodes: N[], id: (node: N) => string, urgency: (node: N) => number, stood: N[] | false): N[] {
  const counted = sorted(nodes, id);
  if (!stood) return counted.sort((a, b) => urgency(a) - urgency(b));
  const places = new Map(stood.map((node, place) => [id(node), place]));
  const place = (node: N) => places.get(id(node)) ?? stood.length;
  return counted.sort((a, b) => place(a) - place(b));
}

/** `gpu-2` before `gpu-10`: digits count as numbers. */
function sorted<R>(records: Iterable<R>, id: (record: R) => string): R[] {
  const keyed = [...records].map((record) => ({ record, key: countKey(id(record)) }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return keyed.map(({ record }) => record);
}

const countKey = (id: string): string => id.replace(/\d+/g, (digits) => digits.padStart(12, "0"));

export function grouped<R, K extends string>(items: R[], key: (item: R) => K): Map<K, R[]> {
  const groups = new Map<K, R[]>();
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
