import { describe, expect, it } from "vitest";
import { applyGroup, fromSnapshot } from "./fold";
import { connector, machine, put, removed, snapshot, worker } from "./testing";
import type { ViewEvent } from "./types";
import { buildTree, Forest, workersOf } from "./tree";

const view = () => fromSnapshot(snapshot({
  machines: [machine("m10"), machine("m2")],
  workers: [worker("a", { machine_id: "m2" }), worker("b", { machine_id: "m10" })],
  connectors: [connector("a:comfyui", { worker_id: "a" }), connector("b:sim", { worker_id: "b" })],
}));

describe("the tree", () => {
  it("puts workers and connectors where they belong, in the order people count", () => {
    const tree = buildTree(view().records);
    expect(tree.machines.map((m) => m.machine.id)).toEqual(["m2", "m10"]);
    expect(tree.machines[0]?.workers[0]?.connectors[0]?.id).toBe("a:comfyui");
    expect([tree.strayWorkers, tree.strayConnectors]).toEqual([[], []]);
  });

  it("keeps what did not change, so that it is not drawn again", () => {
    const [v, forest] = [view(), new Forest()];
    const before = forest.tree(v.records);
    applyGroup(v, [put(11, "connector", connector("a:comfyui", { worker_id: "a", status: "error" }))],
      { epoch: "e1", seq: 11 });
    const after = forest.tree(v.records);
    expect(after.machines[1]).toBe(before.machines[1]);
    expect(after.machines[0]).not.toBe(before.machines[0]);
    expect(after.machines[0]?.workers[0]?.connectors[0]?.status).toBe("error");
  });

  it("puts what needs a person first, and what said goodbye last", () => {
    const v = fromSnapshot(snapshot({
      machines: ["a", "b", "c", "d", "e"].map((id) => machine(id)),
      workers: [
        worker("a1", { machine_id: "a", presence: { state: "offline", why: "left" } }),
        worker("a2", { machine_id: "a" }),
        worker("b1", { machine_id: "b", suspect_until: "2026-01-01T00:01:00.000Z" }),
        worker("c1", { machine_id: "c", status: "starting" }),
        worker("d1", { machine_id: "d", presence: { state: "offline", why: "silent" } }),
        worker("e1", { machine_id: "e" }),
      ],
      connectors: [connector("e1:comfyui", { worker_id: "e1", status: "error" })],
    }));
    const tree = buildTree(v.records);
    expect(tree.machines.map((m) => m.machine.id)).toEqual(["e", "d", "b", "c", "a"]);
    expect(tree.machines[4]?.workers.map((w) => w.worker.id)).toEqual(["a2", "a1"]);
    const broken = buildTree(v.records, { broken: new Set(["worker/a2"]) });
    expect(broken.machines[0]?.machine.id).toBe("a");
  });

  it("moves nothing while somebody is at work in it", () => {
    const [v, forest] = [view(), new Forest()];
    forest.tree(v.records);
    applyGroup(v, [
      put(11, "machine", machine("m10", { status: "degraded" })), put(11, "machine", machine("m1")),
    ], { epoch: "e1", seq: 11 });
    const ids = (still: boolean) => forest.tree(v.records, { still }).machines.map((m) => m.machine.id);
    expect(ids(true)).toEqual(["m2", "m10", "m1"]);
    expect(ids(false)).toEqual(["m10", "m1", "m2"]);
  });

  it("moves none of those without a machine either", () => {
    const [v, forest] = [view(), new Forest()];
    const strays = (still: boolean) => forest.tree(v.records, { still }).strayWorkers.map((node) => node.worker.id);
    applyGroup(v, ["x", "y"].map((id) => put(11, "worker", worker(id, { machine_id: "gone" }))), { epoch: "e1", seq: 11 });
    expect(strays(false)).toEqual(["x", "y"]);
    applyGroup(v, [put(12, "worker", worker("y", { machine_id: "gone", presence: { state: "offline", why: "silent" } }))], { epoch: "e1", seq: 12 });
    expect(strays(true)).toEqual(["x", "y"]);
    expect(strays(false)).toEqual(["y", "x"]);
  });

  it("loses nothing that has lost its parent", () => {
    const v = view();
    applyGroup(v, [removed(11, "machine", "m2"), removed(11, "worker", "b")], { epoch: "e1", seq: 11 });
    const tree = buildTree(v.records);
    expect(tree.strayWorkers.map((node) => node.worker.id)).toEqual(["a"]);
    expect(tree.strayConnectors.map((c) => c.id)).toEqual(["b:sim"]);
  });

  it("is the same whether it grew or was built at once", () => {
    const [v, forest] = [view(), new Forest()];
    const steps: [ViewEvent[], string[]][] = [
      [[put(11, "worker", worker("a", { machine_id: "m10" }))], []],
      [[removed(12, "machine", "m2"), put(12, "connector", connector("b:sim", { worker_id: "a" }))], ["connector/b:sim"]],
      [[put(13, "machine", machine("m2", { status: "degraded" })), removed(13, "connector", "a:comfyui")], ["machine/m10"]],
      [[removed(14, "worker", "a"), put(14, "worker", worker("c", { machine_id: "m2" }))], ["worker/b"]],
      [[put(15, "machine", machine("m2"))], []],
    ];
    forest.tree(v.records);
    for (const [n, [events, subjects]] of steps.entries()) {
      applyGroup(v, events, { epoch: "e1", seq: 11 + n });
      const broken = new Set(subjects);
      expect(forest.tree(v.records, { broken })).toEqual(buildTree(v.records, { broken }));
    }
  });

  it("goes on after a record that cannot be read", () => {
    const [v, forest] = [view(), new Forest()];
    forest.tree(v.records);
    applyGroup(v, [put(11, "worker", { ...worker("a", { machine_id: "m10" }), presence: null } as never)], { epoch: "e1", seq: 11 });
    expect(() => forest.tree(v.records)).toThrow();
    applyGroup(v, [put(12, "worker", worker("a", { machine_id: "m10" }))], { epoch: "e1", seq: 12 });
    expect(forest.tree(v.records)).toEqual(buildTree(v.records));
  });

  it("of 10,000 machines looks only at what changed", () => {
    const ids = Array.from({ length: 10_000 }, (_, n) => `gpu-${n}`);
    const pairs = ids.flatMap((id) => [0, 1].map((n) => [`${id}-worker-${n}`, id] as const));
    const v = fromSnapshot(snapshot({
      machines: ids.map((id) => machine(id)),
      workers: pairs.map(([id, machine_id]) => worker(id, { machine_id })),
      connectors: pairs.map(([id]) => connector(`${id}:comfyui`, { worker_id: id })),
    }));
    const forest = new Forest();
    const start = performance.now();
    let before = forest.tree(v.records);
    const whole = performance.now() - start;
    const took = ids.slice(0, 10).map((id, n) => {
      applyGroup(v, [put(11 + n, "worker", worker(`${id}-worker-0`, { machine_id: id, status: "busy" }))], { epoch: "e1", seq: 11 + n });
      const began = performance.now();
      const after = forest.tree(v.records);
      const ms = performance.now() - began;
      expect(after.machines.filter((node, at) => node !== before.machines[at])).toHaveLength(1);
      before = after;
      return ms;
    });
    expect(workersOf(before).filter(({ worker }) => worker.status === "busy")).toHaveLength(10);
    // The quickest of ten, against all of it: the machine that tests this may have other things to do.
    expect(Math.min(...took)).toBeLessThan(whole / 4);
  });
});
