// Records as they are seldom, and all the same are: what a page must be able to show.

import { randomUUID } from "node:crypto";
import { artifact, busy, end, queue } from "./scenes.mjs";
import { connector, iso, job, machine, worker } from "./world.mjs";

/** A busy fleet, and in it jobs whose last attempt is among the earlier ones, and equal phrases of one class. */
export function odd() {
  const world = busy();
  ended(world, "lost", { losses: 1, max_losses: 0 }, [lost(1)], {
    status: "failed", failure: { kind: "lost", code: "lease_expired", message: "lost 1 times, which is more than max_losses (0)", workers: ["spot-eu-4-worker-0"] },
  });
  ended(world, "late", { losses: 1, late_results: 1 }, [{ ...lost(1), late: true, late_won: true }], { status: "completed" });
  const overtaken = { ...lost(2), worker_id: "gpu-box-1-worker-0", outcome: { outcome: "overtaken" } };
  ended(world, "overtaken", { losses: 1, late_results: 1 }, [{ ...lost(1), late: true, late_won: true }, overtaken], { status: "completed" });
  ended(world, "cancelled", { losses: 0, cancel_requested_at: iso(20) }, [lost(1)], { status: "cancelled" });
  ended(world, "late after its end", { late_results: 1 }, [{ ...lost(1), late: true, late_artifacts: [artifact(0, 7)], outcome: { outcome: "ended_run", status: "failed" } }], {
    status: "failed", failure: { kind: "timeout", code: "total", message: "it took longer than it may" },
  });
  told(world);
  const requirements = { hardware: { gpu_count: 2 }, labels: { GPUs: { gte: 2 } } };
  queue(world, job({ requirements, hold: { reason: "schedule", until: null } }), "c-alike");
  world.commit(["machine_registered", "machine", machine("long-gone", "disconnected", [])]);
  world.commit(["worker_connected", "worker", worker("long-gone-worker-0", "long-gone", "offline", { reason: "nothing heard of it since 2026-11-26T22:43:31.102Z" })]);
  world.commit(["alert_raised", "alert", {
    id: "nobody_able:simulation", rev: 0, rule: "nobody_able", severity: "critical", subject: "simulation", action: "start others", raised_at: iso(9),
    message: "2 jobs for simulation cannot run: no worker for it works: 1 not ready (long-gone-worker-0: suspect, it takes none until 2026-11-26T15:10:00Z)",
  }]);
  world.commit(["alert_raised", "alert", {
    id: "inconsistent:index/meta", rev: 0, rule: "inconsistent", severity: "critical", subject: "index/meta", raised_at: iso(9),
    message: "index/meta: it counts 4 running jobs, and 3 are there", action: "press Repair, or run `pointsman doctor --repair`",
  }]);
  return world;
}

/** What the doctor of a busy store says: what it looked at changed with every look. */
export const examined = { findings: [], more: false, undecided: ["wrong_count:index/meta"] };

/** Jobs of whose end more is to be said than its status. */
function told(world) {
  const last = { attempt: 1, n: 40, percent: 100, node: null, step: null, steps: null, message: null, last_event_at: iso(40), preview_n: 0 };
  const dropped = "ComfyUI dropped the outputs of the nodes 7: Value not in list: sampler_name: 'euler_x' not in the list (node 3)";
  ended(world, "partial", { artifacts: [artifact(0, 11)], last_progress: { ...last, message: dropped } }, [lost(1)], { status: "completed" });
  ended(world, "whole", { last_progress: { ...last, node: "9", step: 20, steps: 20, message: "step 20 of 20" } }, [lost(1)], { status: "completed" });
  const stalled = { ...lost(1), outcome: { outcome: "returned", reason: "stalled", message: "nothing came of it for 300 s" } };
  const token = randomUUID();
  ended(world, "stalled", { attempt: 2, token, failures: 3, worker_id: "gpu-box-1-worker-0" }, [stalled], {
    status: "failed", failure: { kind: "service_fault", code: "execution_error", message: "" },
  });
  ended(world, "lost often", { losses: 4 }, [lost(1)], {
    status: "failed", failure: { kind: "lost", code: "lease_expired", message: "lost 4 times", workers: Array(4).fill("spot-eu-4-worker-0") },
  });
  world.damaged = "019abf3e-0bad-7000-8000-00000000da3a";
  world.commit(["alert_raised", "alert", {
    id: `inconsistent:job/${world.damaged}`, rev: 0, rule: "inconsistent", severity: "critical", subject: `job/${world.damaged}`, raised_at: iso(9),
    message: `job/${world.damaged}: its record cannot be read; nobody can look at it`, action: "press Repair (`pointsman doctor` lists everything)",
  }]);
  world.commit(["connector_status_changed", "connector", connector("nobody-worker-3", "nobody", "comfyui", "unknown")]);
}

/** An attempt that its worker lost. */
const lost = (attempt) => ({
  run: 1, attempt, token: randomUUID(), worker_id: "spot-eu-4-worker-0", assigned_at: iso(60 - attempt), started_at: iso(59 - attempt), ended_at: iso(40 - attempt),
  outcome: { outcome: "returned", reason: "lease_expired", message: "the worker stopped renewing its lease" },
});

/** The record keeps the token of its last attempt, and shows the worker of the one that counts. */
function ended(world, name, more, past, outcome) {
  const [first, last] = [past[0], past.at(-1)];
  end(world, job({
    attempt: last.attempt, token: last.token, worker_id: first.worker_id, machine_id: "spot-eu-4", created_at: iso(70),
    assigned_at: first.assigned_at, started_at: first.started_at, past_attempts: past, metadata: { name }, ...more,
  }), outcome, false);
}

/** A machine whose record says nothing of its GPUs, as none should. */
export function spoil(world) {
  const [machine] = world.records.machine.values();
  world.commit(["machine_state_changed", "machine", { ...machine, gpus: null }]);
}

/** And now it says it again. */
export function mend(world) {
  const [machine] = world.records.machine.values();
  world.commit(["machine_state_changed", "machine", { ...machine, gpus: [] }]);
}

/** The store came back from before all retries and the last `n` endings: a new epoch, and lower revs. */
export function restore(world, n) {
  for (const [id, record] of world.retried) {
    world.pending.delete(id);
    world.records.job.set(id, record);
  }
  world.retried.clear();
  const jobs = [...world.records.job.values(), ...world.old.values()].filter((record) => record.ended_no);
  const after = jobs.sort((a, b) => b.ended_no - a.ended_no).slice(0, n);
  for (const { id } of after) for (const kept of [world.records.job, world.old]) kept.delete(id);
  world.epoch = randomUUID().slice(0, 4);
  world.seq = 100;
  world.endedNo -= after.length;
  const former = (records) => { for (const [id, record] of records) records.set(id, { ...record, rev: 50 }); };
  for (const records of [...Object.values(world.records), world.pending, world.old]) former(records);
  world.lane("resync", { reason: "other_epoch" });
  world.lane("full_state_snapshot", world.snapshot());
}
