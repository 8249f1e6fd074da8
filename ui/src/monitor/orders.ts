// What operators can order, and the questions that are asked first.

import { api } from "../lib/api";
import { isGone, isStopping } from "../lib/status";
import type { MachineNode } from "../lib/tree";
import type { Worker } from "../lib/types";
import { goTo } from "./go";

export interface Order {
  label: string;
  of?: string;
  question: string;
  yes: string;
  act: () => Promise<unknown>;
  danger?: boolean;
  testid: string;
}

export function workerOrders(worker: Worker): Order[] {
  const { id } = worker;
  const orders: Order[] = [];
  if (worker.orders.drain || worker.suspect_until) {
    const question = worker.orders.drain ? `Let ${id} take jobs again?` : `Let ${id} take jobs again? It is well, and no longer suspect.`;
    orders.push({ label: "Resume", of: id, question, yes: "Resume", act: () => api.resume(id), testid: "resume" });
  }
  // One that stops takes no more jobs already.
  if (!worker.orders.drain && !isStopping(worker)) {
    const question = `Drain ${id}? Its running jobs go on to their end; it takes no more.`;
    orders.push({ label: "Drain", of: id, question, yes: "Drain", act: () => api.drain(id), testid: "drain" });
  }
  if (worker.presence.state === "offline") {
    const question = `Remove ${id} from the monitor? It is gone; should it start again, it registers itself.`;
    orders.push(removal(id, question, () => api.remove(id), "remove"));
  }
  return orders;
}

export function machineOrders({ machine, workers }: MachineNode): Order[] {
  const { id } = machine;
  const gone = isGone(machine);
  const drained = workers.filter(({ worker }) => worker.orders.drain).length;
  const orders: Order[] = [];
  if (drained > 0 || machine.orders?.drain) {
    const question = `Let all workers of ${id} take jobs again?`;
    orders.push({ label: "Resume machine", of: id, question, yes: "Resume all", act: () => api.resumeMachine(id), testid: "resume-machine" });
  }
  if ((drained < workers.length || !machine.orders?.drain) && !gone) {
    const question = `Drain ${id}? The running jobs of its workers go on to their end; they take no more, nor does a worker that comes to it later.`;
    orders.push({ label: "Drain machine", of: id, question, yes: "Drain all", act: () => api.drainMachine(id), testid: "drain-machine" });
  }
  if (gone) {
    const them = workers.length === 0 ? "" : workers.length === 1 ? " and its worker" : ` and its ${workers.length} workers`;
    const question = `Remove ${id}${them} from the monitor? It is gone; should it start again, it registers itself.`;
    orders.push(removal(id, question, () => api.removeMachine(id), "remove-machine"));
  }
  return orders;
}

/** The button goes with what it removes: the keyboard goes on from the head of the list. */
function removal(id: string, question: string, remove: () => Promise<unknown>, testid: string): Order {
  const act = async () => {
    await remove();
    goTo("machines", { scroll: false });
  };
  return { label: "Remove", of: id, question, yes: "Remove", act, danger: true, testid };
}
