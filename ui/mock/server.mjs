// A stand-in for the server, for looking at the pages while working on them: the same routes and
// the same stream, over a world that is made up. Serves `dist` as the real server does.
//
//   node mock/server.mjs [--port 7781] [--scene busy|empty|quiet|fleet|huge|silent|outage|unreachable|odd] [--token SECRET] [--pace 1]
//
// Beside SECRET there is SECRET-view, which may see and no more.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import * as fleets from "./fleet.mjs";
import * as odd from "./odd.mjs";
import { play } from "./play.mjs";
import { landscape } from "./png.mjs";
import * as scenes from "./scenes.mjs";
import { iso, job as newJob } from "./world.mjs";

const { values: options } = parseArgs({
  options: { port: { type: "string", default: "7781" }, scene: { type: "string", default: "busy" }, token: { type: "string" }, pace: { type: "string", default: "1" } },
});
const DIST = new URL("../dist", import.meta.url).pathname;
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const world = ({ ...scenes, ...fleets, odd: odd.odd }[options.scene] ?? scenes.busy)();
const streams = new Set();
/** Jobs by the idempotency key of their submission. */
const byKey = new Map();
let trouble = null;
play(world, Number(options.pace));

const server = createServer((request, response) => {
  route(request, response).catch((error) => problem(response, 500, "internal", String(error)));
});
server.listen(Number(options.port), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});

async function route(request, response) {
  const url = new URL(request.url, "http://mock");
  const parts = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  if (parts[0] === "mock") return control(parts[1], url, response);
  if (parts[0] !== "api") return file(url.pathname, response);
  if (options.token) {
    const secret = request.headers.authorization?.replace("Bearer ", "");
    const mayOnlySee = secret === `${options.token}-view`;
    if (secret !== options.token && !mayOnlySee) return problem(response, 401, "unauthorized", "This server answers only requests with a token.", { cure: "send one as Authorization: Bearer" });
    if (mayOnlySee && request.method !== "GET") return problem(response, 403, "forbidden", "the token has the role view; submit or admin is needed", { cure: "use a token with the role that the detail names" });
  }
  const [, , kind, id, action] = parts;
  if (kind === "events") return stream(request, response);
  if (kind === "snapshot") return send(response, 200, world.snapshot());
  if (kind === "capabilities") return send(response, 200, { labels: { "site.region": "eu", tier: 2 } });
  if (kind === "workers" || kind === "machines") return operate(kind.slice(0, -1), id, request.method === "DELETE" ? "remove" : action, response);
  if (kind === "doctor") return send(response, 200, odd.examined);
  if (kind === "jobs" && request.method === "POST" && (!id || id === "batch")) return submit(request, response);
  if (kind === "jobs" && !id) return list(url.searchParams, response);
  if (kind === "jobs" && id) return oneJob(request, response, id, action);
  problem(response, 404, "not_found", `nothing at ${url.pathname}`);
}

/**
 * Trouble on demand: /mock/cut, /mock/not_live, /mock/live, /mock/resync, /mock/silence, /mock/spoil, /mock/mend;
 * many endings: /mock/crowd?n=300&status=failed&age=3600 (submitted so many seconds ago), /mock/end_all; a store from before them: /mock/restore?n=300;
 * one thing that happens: /mock/finish?id=JOB&says=TEXT, /mock/lose?id=MACHINE, /mock/suspect?id=WORKER&n=SECONDS.
 */
function control(what, url, response) {
  const n = Number(url.searchParams.get("n"));
  if (what === "end_all") scenes.endUnseen(world);
  if (what === "crowd") scenes.crowd(world, n, url.searchParams.get("status") ?? "completed", Number(url.searchParams.get("age") ?? 0));
  if (what === "restore") odd.restore(world, n);
  if (what === "finish" || what === "lose") scenes[what](world, url.searchParams.get("id"), url.searchParams.get("says"));
  if (what === "suspect") scenes.suspect(world, url.searchParams.get("id"), n);
  if (what === "spoil") odd.spoil(world);
  if (what === "mend") odd.mend(world);
  if (what === "cut") for (const out of streams) out.destroy();
  if (what === "not_live") trouble = { reason: "the store does not answer", since: iso(23) };
  if (what === "live" || what === "silence") trouble = what === "silence" ? "silence" : null;
  if (what === "not_live") world.lane("not_live", trouble);
  if (what === "resync") world.lane("resync", { reason: "too_slow" });
  if (what === "resync") setTimeout(() => world.lane("full_state_snapshot", world.snapshot()), 3000);
  send(response, 200, { done: what });
}

function stream(_request, response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  const write = (event, data, id) =>
    response.write(`${id ? `id: ${id}\n` : ""}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  const tell = (event, data, id) => {
    if (trouble && ["pulse", "bookmark"].includes(event)) return trouble.reason && write("not_live", trouble, null);
    if (trouble !== "silence") write(event, data, id);
  };
  write("full_state_snapshot", world.snapshot(), `${world.epoch}.${world.seq}`);
  world.listeners.add(tell);
  streams.add(response);
  response.on("close", () => { world.listeners.delete(tell); streams.delete(response); });
}

/** Drain, resume or remove a worker, or a machine with its workers. */
function operate(kind, id, what, response) {
  const record = world.records[kind].get(id);
  if (!record) return problem(response, 404, `${kind}_not_found`, `there is no ${kind} ${id}`);
  const workers = [...world.records.worker.values()].filter((each) => (kind === "worker" ? each.id : each.machine_id) === id);
  if (what === "remove") return remove(kind, record, workers, response);
  for (const worker of workers) order(worker, what === "drain");
  send(response, 200, world.records[kind].get(id));
}

/** Who resumes a worker says that it is well: it is not suspect any more. */
function order({ suspect_until, suspect_jobs, ...worker }, drain) {
  const status = drain ? "draining" : worker.current_job_ids.length ? "busy" : "idle";
  const suspect = drain ? { suspect_until, suspect_jobs } : {};
  world.commit(["worker_status_changed", "worker", { ...worker, ...suspect, orders: { drain }, status }]);
  if (!drain && suspect_until) world.commit(["alert_cleared", "alert", null, `suspect_worker:${worker.id}`]);
}

function remove(kind, record, workers, response) {
  if (!["offline", "disconnected"].includes(record.status)) {
    return problem(response, 409, "not_gone", `${record.id} is still there: stop it first`);
  }
  const ids = new Set(workers.map((worker) => worker.id));
  const connectors = [...world.records.connector.values()].filter((each) => ids.has(each.worker_id));
  world.commit(
    ...connectors.map(({ id }) => ["connector_status_changed", "connector", null, id]),
    ...[...ids].map((id) => ["worker_removed", "worker", null, id]),
    ...(kind === "machine" ? [["machine_removed", "machine", null, record.id]] : []),
  );
  response.writeHead(204);
  response.end();
}

async function submit(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const asked = JSON.parse(Buffer.concat(chunks).toString());
  const all = asked.jobs ?? [asked];
  for (const each of all) {
    if (each.service === "comfyui" && each.payload?.workflow?.nodes) {
      return problem(response, 422, "ui_format_workflow", "The workflow is in the editor's format", {
        pointer: "/payload/workflow", cure: "in ComfyUI choose Workflow → Export (API), and submit that file",
      });
    }
    if (each.priority > 100) return problem(response, 422, "out_of_range", "priority is 150", { pointer: "/priority", cure: "use 0 to 100; higher goes first" });
  }
  const results = all.map((each) => {
    const known = byKey.get(each.idempotency_key);
    if (known) return { job: world.job(known), existed: true };
    const record = newJob({ service: each.service, priority: each.priority ?? 50, requirements: each.requirements ?? {}, metadata: each.payload.fail ? { fail: each.payload.fail } : null });
    scenes.queue(world, record);
    if (each.idempotency_key) byKey.set(each.idempotency_key, record.id);
    return { job: world.pending.get(record.id), existed: false };
  });
  if (asked.jobs) return send(response, 200, { results });
  send(response, results[0].existed ? 200 : 201, results[0].job);
}

/** Ended jobs of one status, the last submitted or the last ended first; the cursor is how many came before. */
function list(asked, response) {
  const [from, limit] = [Number(asked.get("cursor") ?? 0), Number(asked.get("limit") ?? 100)];
  const all = world.ended(asked.get("status"));
  if (asked.get("order") !== "ended") all.sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at));
  send(response, 200, { jobs: all.slice(from, from + limit), next_cursor: from + limit < all.length ? String(from + limit) : null });
}

async function oneJob(request, response, id, action) {
  const record = world.job(id);
  if (id === world.damaged) return problem(response, 503, "store_damaged", `what is stored is damaged: job:${id}: priority is "x"; see \`pointsman doctor\``, { cure: "repair it with `pointsman doctor --repair`" });
  if (!record) return problem(response, 404, "not_found", `there is no job ${id}`, { cure: "ended jobs are kept for a while only" });
  if (action === "preview") return picture(response, landscape(seedOf(id), 128, 1 - (world.progress.get(id)?.percent ?? 0) / 100));
  if (action === "artifacts") return picture(response, landscape(seedOf(id)));
  if (action === "result") return send(response, 200, { outputs: { 9: { images: record.artifacts.map((a) => a.name) } } });
  if (action === "explain") return send(response, 200, scenes.explanation(record));
  if (action === "cancel") return cancel(record, response);
  if (action === "retry") {
    world.commit(["job_retried", "job", null, id]);
    world.old.delete(id);
    world.retried.set(id, record);
    scenes.queue(world, { ...record, status: "pending", run: record.run + 1, completed_at: null, failure: null, artifacts: [], worker_id: null });
    return send(response, 200, world.pending.get(id));
  }
  send(response, 200, record);
}

function cancel(record, response) {
  if (record.status === "pending") {
    world.pending.delete(record.id);
    scenes.end(world, record, { status: "cancelled", cancel_requested_at: iso() }, false);
    return send(response, 200, world.records.job.get(record.id));
  }
  world.commit(["job_updated", "job", { ...record, cancel_requested_at: iso() }]);
  setTimeout(() => scenes.end(world, world.records.job.get(record.id), { status: "cancelled" }), 1500);
  send(response, 202, world.records.job.get(record.id));
}

const seedOf = (id) => parseInt(id.slice(-4), 16) % 360;

async function file(path, response) {
  const name = path === "/" ? "/index.html" : path === "/client" ? "/client.html" : normalize(path);
  try {
    const body = await readFile(join(DIST, name));
    response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream" });
    response.end(body);
  } catch {
    problem(response, 404, "not_found", `nothing at ${path}`);
  }
}

function picture(response, body) {
  response.writeHead(200, { "content-type": "image/png" });
  response.end(body);
}

function send(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function problem(response, status, code, detail, more = {}) {
  response.writeHead(status, { "content-type": "application/problem+json" });
  response.end(JSON.stringify({ type: `/problems/${code}`, title: detail, status, detail, code, ...more }));
}
