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

/** All workers, those without a machine too. */
export function workersOf(tree: Tree): WorkerNode[] {
  return [...tree.machines.flatMap((node) => node.workers), ...tree.strayWorkers];
}

interface TreeOptions {
  /** What an alert says something is wrong with: subjects, `KIND/ID`. */
  broken?: ReadonlySet<string>;
  /** Everything stays where it stands: somebody is at work there. */
  still?: boolean;
}

const NOTHING: ReadonlySet<string> = new Set();

/**
 * Keeps the tree of records that change a few at a time, many times a second. A record that is the
 * very same costs a look, a node of which nothing changed is the very same, and lists are put in
 * order only when something in them came, went, or became more or less urgent.
 */
export class Forest {
  readonly #machines = new Map<string, Machine>();
  readonly #workers = new Map<string, Worker>();
  readonly #connectors = new Map<string, Connector>();
  readonly #connectorsOf = new Groups<Connector>();
  readonly #workersOf = new Groups<WorkerNode>();
  readonly #workerNodes = new Map<string, WorkerNode>();
  readonly #machineNodes = new Map<string, MachineNode>();
  #broken = NOTHING;
  #still = false;
  #stood: MachineNode[] = [];
  #strays: WorkerNode[] = [];

  tree(records: Records, options: TreeOptions = {}): Tree {
    try {
      return this.#grow(records, options);
    } catch (error) {
      // What was left half done is no ground to go on from.
      for (const known of [this.#machines, this.#workers, this.#connectors, this.#connectorsOf, this.#workersOf]) known.clear();
      for (const nodes of [this.#workerNodes, this.#machineNodes]) nodes.clear();
      [this.#stood, this.#strays] = [[], []];
      throw error;
    }
  }

  #grow(records: Records, { broken = NOTHING, still = false }: TreeOptions): Tree {
    const touched = this.#changed(records, broken);
    this.#broken = broken;
    for (const id of touched.workers) this.#makeWorker(id, touched.machines);
    // What stood as it was now goes where it belongs.
    if (this.#still && !still) for (const id of this.#machines.keys()) touched.machines.add(id);
    let inOrder = !this.#still || still;
    for (const id of touched.machines) inOrder = this.#makeMachine(id, still) && inOrder;
    this.#still = still;
    this.#stood = inOrder
      ? this.#stood.map((node) => this.#machineNodes.get(node.machine.id) ?? node)
      : arranged([...this.#machineNodes.values()], ({ machine }) => machine, ({ worst }) => worst, still && this.#stood);
    const strays = this.#workersOf.without(this.#machines);
    this.#strays = arranged(strays, ({ worker }) => worker, ({ attention }) => attention, still && this.#strays);
    return {
      machines: this.#stood,
      strayWorkers: this.#strays,
      strayConnectors: sorted(this.#connectorsOf.without(this.#workers), (connector) => connector),
    };
  }

  /** The ids of the workers and machines of which something may have changed. */
  #changed(records: Records, broken: ReadonlySet<string>): { workers: Set<string>; machines: Set<string> } {
    const [workers, machines] = [new Set<string>(), new Set<string>()];
    follow(this.#machines, records.machine, (id) => machines.add(id));
    follow(this.#workers, records.worker, (id) => workers.add(id));
    follow(this.#connectors, records.connector, (id, old, now) => {
      for (const each of [old, now]) if (each) workers.add(each.worker_id);
      if (old && old.worker_id !== now?.worker_id) this.#connectorsOf.delete(old.worker_id, id);
      if (now) this.#connectorsOf.set(now.worker_id, id, now);
    });
    for (const subject of [...broken, ...this.#broken]) {
      if (broken.has(subject) && this.#broken.has(subject)) continue;
      const [kind, id] = [subject.slice(0, subject.indexOf("/")), subject.slice(subject.indexOf("/") + 1)];
      if (kind === "machine") machines.add(id);
      if (kind === "worker") workers.add(id);
      const of = kind === "connector" && this.#connectors.get(id);
      if (of) workers.add(of.worker_id);
    }
    return { workers, machines };
  }

  #makeWorker(id: string, machines: Set<string>): void {
    const [worker, old] = [this.#workers.get(id), this.#workerNodes.get(id)];
    if (old && old.worker.machine_id !== worker?.machine_id) {
      machines.add(old.worker.machine_id);
      this.#workersOf.delete(old.worker.machine_id, id);
    }
    if (!worker) {
      this.#workerNodes.delete(id);
      return;
    }
    const connectors = sorted(this.#connectorsOf.of(id), (connector) => connector);
    const broken = this.#broken.has(`worker/${id}`) || connectors.some((c) => this.#broken.has(`connector/${c.id}`));
    const attention = workerAttention(worker, connectors, broken);
    if (old?.worker === worker && old.attention === attention && same(old.connectors, connectors)) return;
    const node = { worker, connectors, attention };
    this.#workerNodes.set(id, node);
    this.#workersOf.set(worker.machine_id, id, node);
    machines.add(worker.machine_id);
  }

  /** Whether the machine stays where it stands. */
  #makeMachine(id: string, still: boolean): boolean {
    const [machine, old] = [this.#machines.get(id), this.#machineNodes.get(id)];
    if (!machine) {
      this.#machineNodes.delete(id);
      return !old;
    }
    const stood = still && (old?.workers ?? []);
    const workers = arranged(this.#workersOf.of(id), ({ worker }) => worker, (node) => node.attention, stood);
    const attention = machineAttention(machine, this.#broken.has(`machine/${id}`));
    if (old?.machine === machine && old.attention === attention && same(old.workers, workers)) return true;
    const worst = Math.min(attention, ...workers.map((node) => node.attention));
    this.#machineNodes.set(id, { machine, workers, attention, worst });
    return old?.worst === worst;
  }
}

/** The tree of records as they are, once. */
export const buildTree = (records: Records, options: TreeOptions = {}): Tree => new Forest().tree(records, options);

/** Brings `known` to where `now` is; tells of each record that came, went or changed. */
function follow<R>(known: Map<string, R>, now: Map<string, R>, tell: (id: string, old: R | undefined, now: R | undefined) => void): void {
  for (const [id, record] of now) {
    const old = known.get(id);
    if (old === record) continue;
    known.set(id, record);
    tell(id, old, record);
  }
  if (known.size === now.size) return;
  for (const [id, old] of known) {
    if (now.has(id)) continue;
    known.delete(id);
    tell(id, old, undefined);
  }
}

/** Things by their id, by that of their parent. */
class Groups<T> {
  readonly #groups = new Map<string, Map<string, T>>();

  set(parent: string, id: string, thing: T): void {
    const group = this.#groups.get(parent);
    if (group) group.set(id, thing);
    else this.#groups.set(parent, new Map([[id, thing]]));
  }

  delete(parent: string, id: string): void {
    const group = this.#groups.get(parent);
    group?.delete(id);
    if (group?.size === 0) this.#groups.delete(parent);
  }

  clear(): void {
    this.#groups.clear();
  }

  of(parent: string): T[] {
    return [...(this.#groups.get(parent)?.values() ?? [])];
  }

  /** Those whose parent is none of these. */
  without(parents: Map<string, unknown>): T[] {
    const lost: T[] = [];
    for (const [parent, group] of this.#groups) if (!parents.has(parent)) lost.push(...group.values());
    return lost;
  }
}

type Named = { id: string };

/** The most urgent first, and then as people count; or as they stood, where they shall stay. */
function arranged<N>(nodes: N[], record: (node: N) => Named, urgency: (node: N) => number, stood: N[] | false): N[] {
  const counted = sorted(nodes, record);
  if (!stood) return counted.sort((a, b) => urgency(a) - urgency(b));
  const places = new Map(stood.map((node, place) => [record(node).id, place]));
  const place = (node: N) => places.get(record(node).id) ?? stood.length;
  return counted.sort((a, b) => place(a) - place(b));
}

/** `gpu-2` before `gpu-10`: digits count as numbers. */
function sorted<N>(nodes: N[], record: (node: N) => Named): N[] {
  if (nodes.length < 2) return nodes;
  const keyed = nodes.map((node) => ({ node, key: countKey(record(node)) }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return keyed.map(({ node }) => node);
}

/** Making one takes longer than comparing many. */
const countKeys = new WeakMap<Named, string>();

function countKey(record: Named): string {
  let key = countKeys.get(record);
  if (key === undefined) {
    key = record.id.replace(/\d+/g, (digits) => digits.padStart(12, "0"));
    countKeys.set(record, key);
  }
  return key;
}

export function grouped<R, K extends string>(items: R[], key: (item: R) => K): Map<K, R[]> {
  const groups = new Map<K, R[]>();
  for (const item of items) {
    const of = key(item);
    const group = groups.get(of);
    if (group) group.push(item);
    else groups.set(of, [item]);
  }
  return groups;
}

function same<T>(a: T[], b: T[]): boolean {
  return a.length === b.length && a.every((item, n) => item === b[n]);
}
