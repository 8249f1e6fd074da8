// A large fleet for the mock: whether the pages stay quick and readable with it.

import { claim, queue } from "./scenes.mjs";
import { World, connector, iso, job, machine, worker } from "./world.mjs";

const MACHINES = 50;
const WORKERS = 4;
const GPU = { name: "NVIDIA GeForce RTX 4090", memory_gb: 24 };

/** 50 machines with 4 workers each that have nothing to do. */
export const quiet = () => idle(MACHINES, WORKERS);

/** 5,000 machines with 2 workers each, a few of them in trouble, and a job on every second. */
export function huge() {
  const world = idle(5_000, 2);
  for (const m of [17, 2_500, 4_999]) world.commit(["machine_state_changed", "machine", machine(`gpu-${m}`, "degraded", [GPU])]);
  for (let m = 1; m <= 5_000; m += 2) {
    claim(world, simulated(), `gpu-${String(m).padStart(2, "0")}-worker-0`, { percent: m % 100, node: null, step: 0, steps: 20, message: "simulating", preview_n: 0 }, 1);
  }
  return world;
}

function idle(machines, workers) {
  const world = new World();
  for (let m = 0; m < machines; m += 1) {
    const id = `gpu-${String(m + 1).padStart(2, "0")}`;
    world.commit(["machine_registered", "machine", machine(id, "ready", Array(workers).fill(GPU))]);
    for (let n = 0; n < workers; n += 1) man(world, id, `${id}-worker-${n}`);
  }
  return world;
}

function man(world, machineId, id) {
  world.commit(
    ["worker_connected", "worker", worker(id, machineId, "idle", { services: [{ name: "simulation", slots: 1 }] })],
    ["connector_status_changed", "connector", connector(id, machineId, "simulation", "idle")],
  );
}

/** The same, every one of them at work, and jobs without end. */
export function fleet() {
  const world = quiet();
  world.refill = () => queue(world, simulated());
  let percent = 0;
  for (const { id } of [...world.records.worker.values()]) {
    percent = (percent + 23) % 100;
    claim(world, simulated(), id, { percent, node: null, step: 0, steps: 20, message: "simulating", preview_n: 0 }, percent / 5);
  }
  for (let n = 0; n < 40; n += 1) world.refill();
  return world;
}

const simulated = () => job({ service: "simulation", created_at: iso(30), requirements: {} });

/** One machine with 200 workers that fell silent. */
export function silent() {
  const world = idle(1, MACHINES * WORKERS);
  for (const before of [...world.records.worker.values()]) {
    world.commit(["worker_disconnected", "worker", {
      ...before, status: "offline", presence: { state: "offline", why: "silent" }, reason: "no heartbeat for 15 s",
      action: "look whether its process and machine still run",
    }]);
  }
  return world;
}

/** The same fleet when every worker is suspect, and some machines are in trouble of their own. */
export function outage() {
  const world = fleet();
  for (const before of [...world.records.worker.values()]) {
    const id = before.id;
    world.commit(
      ["worker_status_changed", "worker", { ...before, suspect_until: iso(-55), suspect_jobs: ["a", "b", "c"] }],
      ["alert_raised", "alert", {
        id: `suspect_worker:${id}`, rev: 0, rule: "suspect_worker", severity: "critical", subject: id,
        message: `${id} broke 3 different jobs in a row; it takes none for 60 s, then one to prove itself`,
        action: "look at the machine's services; drain or restart the worker", raised_at: iso(5),
      }],
    );
  }
  return world;
}

/** More machines than are drawn at first, with 4 workers each, whose ComfyUIs are all gone. */
export function unreachable() {
  const world = idle(22, WORKERS);
  for (const { id, connected_at } of [...world.records.machine.values()]) {
    world.commit(["machine_state_changed", "machine", {
      ...machine(id, "degraded", Array(WORKERS).fill(GPU)), connected_at, reason: `${WORKERS} of ${WORKERS} workers have a service in error`, action: "look at the services named below",
    }]);
  }
  for (const [n, before] of [...world.records.connector.values()].entries()) {
    const error_message = `http://127.0.0.1:${8188 + (n % WORKERS)}/ is not reachable: Connection refused (os error 111)`;
    world.commit(["connector_status_changed", "connector", { ...before, status: "error", reported: "error", error_message }]);
  }
  return world;
}
