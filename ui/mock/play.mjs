// Moves the mock's world on: progress, endings, claims, and the periodic lanes.

import { artifact, claim, end } from "./scenes.mjs";
import { iso } from "./world.mjs";

/** `pace` is how many times faster than usual jobs go. */
export function play(world, pace = 1) {
  const timers = [
    setInterval(() => progress(world, pace), 250),
    setInterval(() => finish(world), 400),
    setInterval(() => hand(world), 700),
    setInterval(() => world.lane("queues", world.queues()), 500),
    setInterval(() => world.lane("pulse", world.pulse(true)), 5000),
    setInterval(() => world.lane("bookmark", { epoch: world.epoch, seq: world.seq, at: iso() }), 5000),
  ];
  return () => timers.forEach(clearInterval);
}

function progress(world, pace) {
  const values = [];
  for (const value of world.progress.values()) {
    if (value.frozen || value.percent === null) continue;
    value.percent = Math.min(100, value.percent + 1.2 * pace);
    value.n += 1;
    value.last_event_at = iso();
    if (value.steps) value.step = Math.round((value.percent / 100) * value.steps);
    if (value.node) value.preview_n = Math.floor(value.percent / 8);
    values.push({ ...value, frozen: undefined });
  }
  if (values.length > 0) world.lane("progress", { as_of: world.asOf(), values });
}

function finish(world) {
  for (const value of [...world.progress.values()]) {
    if (value.percent === null || value.percent < 100) continue;
    world.refill?.();
    const job = world.records.job.get(value.job);
    const fail = job.metadata?.fail;
    end(world, job, fail
      ? { status: "failed", failure: { kind: fail.kind ?? "bad_job", code: "asked_to_fail", message: String(fail.message ?? fail) } }
      : { status: "completed", artifacts: job.service === "comfyui" ? [artifact(0, world.endedNo)] : [] });
  }
}

function hand(world) {
  for (const worker of world.records.worker.values()) {
    if (worker.status !== "idle") continue;
    const next = world.waiting().find((job) => !job.hold && job.class !== "c-h100" && able(world, worker, job));
    if (!next) continue;
    const { class: _class, ...record } = next;
    const simulated = record.service === "simulation";
    claim(world, record, worker.id, {
      percent: 0, node: simulated ? null : "3", step: 0, steps: 20, message: simulated ? "simulating" : "KSampler", preview_n: 0,
    });
  }
}

function able(world, worker, job) {
  return world.records.connector.get(`${worker.id}:${job.service}`)?.status === "idle";
}
