import { describe, expect, it } from "vitest";
import { alike } from "./alike";
import { connector, worker } from "./testing";
import type { WorkerNode } from "./tree";
import type { Worker } from "./types";

describe("workers of a machine that have one cause", () => {
  const node = (n: number, more: Partial<Worker> = {}, error = `waiting for ComfyUI at http://127.0.0.1:${8188 + n}/`): WorkerNode => ({
    worker: worker(`m-worker-${n}`, more), attention: 1,
    connectors: [connector(`m-worker-${n}:comfyui`, { worker_id: `m-worker-${n}`, status: "error", error_message: error })],
  });
  const shown = (nodes: WorkerNode[]) => alike(nodes).map(({ first, others }) => [first.worker.id, others.length]);

  it("are one, with how many others", () => {
    expect(shown([node(0), node(1), node(2), node(3)])).toEqual([["m-worker-0", 3]]);
    const silent = { reason: "nothing heard of m-worker-7 since 2026-11-26T22:43:31.102Z" };
    expect(shown([node(0), node(7, silent), node(1), node(2)])).toEqual([["m-worker-0", 2], ["m-worker-7", 0]]);
  });

  it("stand each for itself while they are few, are well, or are at work", () => {
    expect(shown([node(0), node(1)])).toHaveLength(2);
    expect(shown([0, 1, 2].map((n) => ({ ...node(n), attention: 5 })))).toHaveLength(3);
    expect(shown([0, 1, 2].map((n) => ({ ...node(n), attention: 0 }))), "broken records are repaired one by one").toHaveLength(3);
    expect(shown([0, 1, 2].map((n) => node(n, { current_job_ids: ["j"] })))).toHaveLength(3);
    expect(shown([0, 1, 2].map((n) => ({ ...node(n), connectors: [] }))), "nothing is said of them").toHaveLength(3);
  });

  it("say it of their own ports, times, durations and names", () => {
    const said = [
      "not reachable: http://[::1]:{n}/", "no models since 2026-11-26T22:4{n}:31.10{n}Z", "no answer to m-worker-{n}",
      "Status stale (7{n} s old)", "no answer within 1.{n} s", "it took 12{n}ms", "nothing for {n} min",
    ];
    for (const text of said) {
      expect(shown([1, 2, 3].map((n) => node(n, {}, text.replaceAll("{n}", `${n}`)))), text).toEqual([["m-worker-1", 2]]);
    }
  });

  it("differ in what is wrong, in their orders and in what they do", () => {
    expect(shown([node(0), node(1, {}, "out of memory"), node(2)])).toHaveLength(3);
    const lacking = ["sd{n}.safetensors", "sd-v{n}", "sd 1.{n}", "llama:{n}b", "flux:{n}", "cuda:{n}", "llama:{n}.5", "GPU {n}", "http://10.0.0.{n}:8188/", "m-worker-9{n}"];
    for (const what of lacking) {
      expect(shown([1, 2, 3].map((n) => node(n, {}, `it cannot be used: ${what.replace("{n}", `${n}`)}`))), what).toHaveLength(3);
    }
    expect(shown([node(0), node(1, { status: "draining" }), node(2)])).toHaveLength(3);
  });

  it("stay in sight where nothing may move, but come into it when they differ", () => {
    const nodes = [node(0), node(1), node(2), node(3)];
    const folded = (...ids: string[]) => alike(nodes, new Set(ids)).map(({ first, others }) => [first.worker.id, others.length]);
    expect(folded()).toHaveLength(4);
    expect(folded("m-worker-2", "m-worker-3")).toEqual([["m-worker-0", 2], ["m-worker-1", 0]]);
    nodes[3] = { ...node(3), attention: 5 };
    expect(folded("m-worker-1", "m-worker-2", "m-worker-3")).toEqual([["m-worker-0", 2], ["m-worker-3", 0]]);
  });
});
