// Workers of a machine with whom the same is wrong: one of them says it for all.

import { mayBeShared } from "./attention";
import { workerLook } from "./status";
import { grouped, type WorkerNode } from "./tree";

export interface Alike {
  first: WorkerNode;
  /** None, or so many that it is worth the while. */
  others: WorkerNode[];
  attention: number;
}

/** So few others each say it for themselves. */
const UNFOLDED = 1;

/**
 * In the order of their first ones. Where nobody may go out of sight, `folded` are the ids of those
 * who were among the others before.
 */
export function alike(nodes: WorkerNode[], folded?: ReadonlySet<string>): Alike[] {
  const places = new Map(nodes.map((node, place) => [node, place]));
  const groups = [...grouped(nodes, cause).values()].flatMap((group): Alike[] => {
    const [first, ...rest] = group;
    const others = rest.length > UNFOLDED ? rest.filter(({ worker }) => folded?.has(worker.id) ?? true) : [];
    const isOther = new Set(others);
    return group.filter((node) => !isOther.has(node))
      .map((node) => ({ first: node, others: node === first ? others : [], attention: node.attention }));
  });
  return groups.sort((a, b) => places.get(a.first)! - places.get(b.first)!);
}

/** What differs between neighbours with whom the same is wrong: times, durations and ports. */
const OWN = /\d{4}-\d\d-\d\dT[\d:.]+Z|\b\d+(\.\d+)? ?(ms|s|min|h)\b|(?<=:\/\/(?:\[[^\]\s]*\]|[^\s/:[]*):)\d+/g;

/** What is wrong with a worker, without what is its own. Its id where it is not to be folded. */
function cause({ worker, connectors, attention }: WorkerNode): string {
  const { id, reason, presence, current_job_ids, suspect_until } = worker;
  const services = connectors.map(({ service_type, status, error_message }) => [service_type, status, error_message]);
  const isSaid = reason || suspect_until || connectors.some(({ error_message }) => error_message);
  if (!isSaid || !mayBeShared(attention) || current_job_ids.length > 0) return id;
  return JSON.stringify([workerLook(worker).word, reason, presence, Boolean(suspect_until), services]).replaceAll(id, "#").replace(OWN, "#");
}
