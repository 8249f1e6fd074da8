// The worlds that the mock can show.

import { randomUUID } from "node:crypto";
import { World, connector, iso, job, machine, worker } from "./world.mjs";

const RTX = { name: "NVIDIA GeForce RTX 4090", memory_gb: 24 };
const H100 = { name: "NVIDIA H100 80GB HBM3", memory_gb: 79.6 };
const T4 = { name: "Tesla T4", memory_gb: 15 };

export function empty() {
  return new World();
}

/** Every status in its colour, jobs in every state. */
export function busy() {
  const world = new World();
  machines(world);
  running(world);
  pending(world);
  ended(world);
  alerts(world);
  return world;
}

function machines(world) {
  const put = (kind, record) => world.commit([`${kind}_registered`, kind, record]);
  put("machine", machine("gpu-box-1", "ready", [RTX, RTX]));
  put("worker", worker("gpu-box-1-worker-0", "gpu-box-1", "idle", { jobs_completed: 1284, jobs_failed: 3 }));
  put("connector", connector("gpu-box-1-worker-0", "gpu-box-1", "comfyui", "idle"));
  put("worker", worker("gpu-box-1-worker-1", "gpu-box-1", "idle", { jobs_completed: 1279, services: [{ name: "comfyui", slots: 1 }, { name: "simulation", slots: 4 }] }));
  put("connector", connector("gpu-box-1-worker-1", "gpu-box-1", "comfyui", "idle"));
  put("connector", connector("gpu-box-1-worker-1", "gpu-box-1", "simulation", "idle"));

  put("machine", machine("gpu-box-2", "degraded", [H100, T4], {
    reason: "1 of 2 services does not answer", action: "look at ComfyUI's log on GPU 1, then restart it",
  }));
  put("worker", worker("gpu-box-2-worker-0", "gpu-box-2", "idle", { jobs_completed: 311, jobs_failed: 1 }));
  put("connector", connector("gpu-box-2-worker-0", "gpu-box-2", "comfyui", "idle"));
  put("worker", worker("gpu-box-2-worker-1", "gpu-box-2", "idle", {
    jobs_completed: 97, jobs_failed: 12, suspect_until: iso(-55), suspect_jobs: ["a", "b", "c"],
  }));
  put("connector", connector("gpu-box-2-worker-1", "gpu-box-2", "comfyui", "error", {
    error_message: "http://127.0.0.1:8189 refused the connection 6 times",
  }));

  put("machine", machine("gpu-box-3", "starting", [RTX], { reason: "waiting for ComfyUI to load its nodes", connected_at: iso(21) }));
  put("worker", worker("gpu-box-3-worker-0", "gpu-box-3", "starting", { connected_at: iso(21) }));
  put("connector", connector("gpu-box-3-worker-0", "gpu-box-3", "comfyui", "connecting"));
  put("connector", connector("gpu-box-3-worker-0", "gpu-box-3", "ollama", "starting"));

  put("machine", machine("spot-eu-4", "disconnected", [RTX], {
    reason: "silent for 5 min, without a goodbye", action: "check the machine and its network; its jobs were given back",
  }));
  put("worker", worker("spot-eu-4-worker-0", "spot-eu-4", "offline", { reason: "no heartbeat for 15 s", presence: { state: "offline", why: "silent" }, jobs_completed: 58 }));
  put("connector", connector("spot-eu-4-worker-0", "spot-eu-4", "comfyui", "unknown", { error_message: "Status stale (74 s old)" }));

  put("machine", machine("spot-eu-5", "stopping", [RTX], { reason: "asked to stop; 1 job goes on to its end" }));
  put("worker", worker("spot-eu-5-worker-0", "spot-eu-5", "draining", { reason: "ordered to take no more jobs", action: "resume it when it should work again", jobs_completed: 402 }));
  put("connector", connector("spot-eu-5-worker-0", "spot-eu-5", "comfyui", "idle"));

  put("machine", machine("spot-us-6", "offline", [RTX], { reason: "said goodbye" }));
  put("worker", worker("spot-us-6-worker-0", "spot-us-6", "offline", { jobs_completed: 12 }));
  put("connector", connector("spot-us-6-worker-0", "spot-us-6", "comfyui", "offline"));
  put("worker", worker("attic-worker-0", "attic", "corrupted", {
    reason: "its record names no machine that exists", action: "pointsman doctor --repair, or let it register again",
  }));
}

function running(world) {
  claim(world, job({ created_at: iso(31) }), "gpu-box-1-worker-0", { percent: 34, node: "12", step: 7, steps: 20, message: "KSampler", preview_n: 1 }, 4);
  claim(world, job({ created_at: iso(98), attempt: 1 }), "gpu-box-2-worker-0", { percent: 71, node: "31", step: null, steps: null, message: "loading a model, GPU 97 %", preview_n: 0, silent: 42 }, 80);
  claim(world, job({ created_at: iso(300), cancel_requested_at: iso(3) }), "spot-eu-5-worker-0", { percent: null, node: "8", step: null, steps: null, message: null, preview_n: 0 }, 200);
}

/** A worker takes a job: its own record, its connector's and the job's change in one step. */
export function claim(world, record, workerId, progress, secondsAgo = 0, status = "in_progress") {
  const by = world.worker(workerId);
  const seat = world.records.connector.get(`${workerId}:${record.service}`);
  const taken = {
    ...record, status, attempt: record.attempt + 1, token: randomUUID(), worker_id: workerId, machine_id: by.machine_id,
    incarnation: by.incarnation, assigned_at: iso(secondsAgo + 0.4), started_at: status === "in_progress" ? iso(secondsAgo) : null,
  };
  world.pending.delete(record.id);
  world.commit(
    ["job_started", "job", taken],
    ["worker_status_changed", "worker", { ...by, status: by.orders.drain ? "draining" : "busy", current_job_ids: [record.id] }],
    ["connector_status_changed", "connector", { ...seat, status: "active", job_ids: [record.id], timestamp: iso() }],
  );
  if (progress) {
    const { silent = 0, ...rest } = progress;
    world.progress.set(record.id, { job: record.id, attempt: taken.attempt, n: 1, last_event_at: iso(silent), frozen: silent > 0, ...rest });
  }
  return taken;
}

/** The job is over, and its worker idle again. */
export function end(world, record, outcome, freeWorker = true) {
  world.progress.delete(record.id);
  world.endedNo += 1;
  const over = { ...record, completed_at: iso(), ended_no: world.endedNo, ...outcome };
  const events = [[`job_${over.status}`, "job", over]];
  for (const old of world.records.job.values()) {
    if (!old.ended_no || old.ended_no > world.endedNo - 200) continue;
    world.old.set(old.id, old);
    events.push(["job_removed", "job", null, old.id]);
  }
  const by = freeWorker && world.worker(record.worker_id);
  if (by) {
    const seat = world.records.connector.get(`${by.id}:${record.service}`);
    const done = over.status === "completed" ? 1 : 0;
    events.push(["worker_status_changed", "worker", {
      ...by, status: by.orders.drain ? "draining" : "idle", current_job_ids: [],
      jobs_completed: by.jobs_completed + done, jobs_failed: by.jobs_failed + (over.status === "failed" ? 1 : 0),
    }]);
    events.push(["connector_status_changed", "connector", { ...seat, status: "idle", job_ids: [], timestamp: iso() }]);
  }
  world.commit(...events);
}

/** A job is done, at once; its worker may say something of the result. */
export function finish(world, id, message = null) {
  end(world, world.records.job.get(id), { status: "completed", last_progress: { attempt: 1, n: 99, percent: 100, message } });
}

/** A machine falls silent, and its workers with it. */
export function lose(world, id) {
  const why = { status: "offline", presence: { state: "offline", why: "silent" }, reason: "no heartbeat for 15 s" };
  const its = [...world.records.worker.values()].filter((worker) => worker.machine_id === id);
  world.commit(
    ...its.map((worker) => ["worker_status_changed", "worker", { ...worker, ...why }]),
    ["machine_state_changed", "machine", { ...world.records.machine.get(id), status: "disconnected" }],
  );
}

/** A worker is suspect, and takes none for so many seconds more. */
export function suspect(world, id, seconds) {
  world.commit(["worker_status_changed", "worker", { ...world.worker(id), suspect_until: iso(-seconds), suspect_jobs: ["a", "b", "c"] }]);
}

/** So many jobs end at once, more than the view keeps. */
export function crowd(world, n, status, age) {
  const failure = status === "failed" ? { kind: "bad_job", code: "asked_to_fail", message: "asked to fail" } : null;
  for (let each = 0; each < n; each += 1) end(world, job({ service: "simulation", created_at: iso(age), assigned_at: iso(1), started_at: iso(1) }), { status, failure }, false);
}

/** All that wait have ended, and so many after them that no viewer saw it. */
export function endUnseen(world) {
  for (const waiting of world.pending.values()) {
    world.endedNo += 1;
    world.seq += 1;
    const artifacts = waiting.service === "comfyui" ? [artifact(0, world.endedNo)] : [];
    world.old.set(waiting.id, { ...waiting, status: "completed", artifacts, rev: world.seq, completed_at: iso(), ended_no: world.endedNo });
  }
  world.pending.clear();
}

export const artifact = (n, seed) => ({
  name: `9-${n}-ComfyUI_${String(seed).padStart(5, "0")}_.png`, size: 412_331 + seed * 977, media_type: "image/png",
  sha256: "0".repeat(64), node: "9", type: "output",
});

function pending(world) {
  for (let n = 0; n < 14; n += 1) {
    const big = n % 5 === 4;
    queue(world, job({
      created_at: iso(240 - n * 11), priority: n === 2 ? 90 : 50, workflow_id: n % 6 === 3 ? "campaign-17" : null,
      requirements: big ? { hardware: { gpu_memory_gb: 141 }, labels: { "site.region": { eq: "eu" } } } : { models: ["sd_xl_base_1.0.safetensors"], node_classes: ["CLIPTextEncode", "CheckpointLoaderSimple", "EmptyLatentImage", "KSampler", "SaveImage", "VAEDecode"] },
      hold: n === 7 ? { reason: "backoff", until: iso(-18) } : null,
    }), big ? "c-h100" : "c-sdxl");
  }
}

export function queue(world, record, kind = `c-${record.service}`) {
  world.seq += 1;
  world.pending.set(record.id, { ...record, rev: world.seq, place: world.seq, class: kind });
}

function ended(world) {
  const failures = [
    { kind: "bad_job", code: "value_not_in_list", message: "sampler_name: 'euler_x' is not one of the samplers", node: "3", node_type: "KSampler" },
    { kind: "service_fault", code: "out_of_memory", message: "CUDA out of memory: tried to allocate 2.20 GiB", node: "8", node_type: "VAEDecode" },
    { kind: "lost", code: "lease_expired", message: "lost 4 times; at most 3 are allowed", workers: ["spot-eu-4-worker-0", "gpu-box-2-worker-1"] },
  ];
  for (let n = 0; n < 36; n += 1) {
    const took = n % 4 === 1 ? 0.06 : 2 + ((n * 37) % 90) / 3;
    const ago = (36 - n) * 26;
    const base = job({
      created_at: iso(ago + took + 5), worker_id: `gpu-box-1-worker-${n % 2}`, machine_id: "gpu-box-1", attempt: n % 9 === 5 ? 2 : 1,
      assigned_at: iso(ago + took + 0.3), started_at: iso(ago + took), token: randomUUID(),
    });
    const failure = n % 7 === 3 ? failures[n % 3] : null;
    end(world, base, failure
      ? { status: "failed", failure, failures: 1, completed_at: iso(ago) }
      : n % 11 === 8
        ? { status: "cancelled", cancel_requested_at: iso(ago + 1), completed_at: iso(ago) }
        : {
            status: "completed", cached: n % 4 === 1, artifacts: [artifact(0, n)], completed_at: iso(ago),
            late_results: n % 13 === 5 ? 1 : undefined,
            past_attempts: n % 9 === 5 ? [{
              run: 1, attempt: 1, token: randomUUID(), worker_id: "spot-eu-4-worker-0", assigned_at: iso(ago + took + 20),
              started_at: iso(ago + took + 19), ended_at: iso(ago + took + 2), late: n % 13 === 5,
              outcome: { outcome: "returned", reason: "lease_expired", message: "the worker stopped renewing its lease" },
            }] : undefined,
          }, false);
  }
}

function alerts(world) {
  world.commit(["alert_raised", "alert", {
    id: "nobody_able:c-h100", rev: 0, rule: "nobody_able", severity: "critical", subject: "c-h100",
    message: "2 jobs wait that no worker can run: they ask for a GPU with at least 141 GiB",
    action: "Add such a machine, or cancel them. Open one of them to see which rule fails where.", raised_at: iso(190),
  }]);
  world.commit(["alert_raised", "alert", {
    id: "suspect_worker:gpu-box-2-worker-1", rev: 0, rule: "suspect_worker", severity: "warning", subject: "gpu-box-2-worker-1",
    message: "gpu-box-2-worker-1 broke 3 different jobs in a row", action: "It takes none until its service answers again.", raised_at: iso(75),
  }]);
}

/** Why a job of the mock waits. */
export function explanation(record) {
  const failing = ["gpu-box-2-worker-0", "gpu-box-2-worker-1"].map((worker) => ({ worker, found: "the largest has 79.6 GiB", only_this: true }))
    .concat([{ worker: "gpu-box-1-worker-0", found: "the largest has 24 GiB", only_this: false }]);
  const big = record.class === "c-h100";
  const able = { total: big ? 0 : 3, idle: 0, busy: big ? 0 : 2, draining: big ? 0 : 1, stopping: 0, paused: 0, not_ready: 0, offline: 0 };
  return {
    job: record.id, status: record.status, hold: record.hold, ahead: big ? 0 : 4,
    answer: big ? "No worker that is there is able to run it: 8 of 8 workers lack a GPU with at least 141 GiB." : "4 jobs are ahead of it. Able to run it: 3 of 9 workers (0 idle, 2 busy, 1 draining, 0 stopping, 0 not ready).",
    explanation: { workers: 9, offline: 1, able, rules: [
      { rule: "service", wanted: "the service comfyui", pass: 9, fail: 0, fail_there: 0, fail_only_this: 0, fail_only_this_there: 0, failing: [] },
      ...(big ? [{ rule: "hardware.gpu_memory_gb", wanted: "a GPU with at least 141 GiB", pass: 0, fail: 9, fail_there: 8, fail_only_this: 2, fail_only_this_there: 2, failing }]
        : [{ rule: "models", wanted: "all of the models ae.safetensors, sd_xl_base_1.0.safetensors", missing: "the model sd_xl_base_1.0.safetensors", pass: 3, fail: 6, fail_there: 5, fail_only_this: 6, fail_only_this_there: 5, failing: failing.map((f) => ({ ...f, found: "it lacks sd_xl_base_1.0.safetensors" })) }]),
    ] },
  };
}
