import { describe, expect, it } from "vitest";
import { applyGroup, fromSnapshot } from "./fold";
import { connector, machine, put, removed, snapshot, worker } from "./testing";
import { buildTree } from "./tree";

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
    const v = view();
    const before = buildTree(v.records);
    applyGroup(v, [put(11, "connector", connector("a:comfyui", { worker_id: "a", status: "error" }))],
      { epoch: "e1", seq: 11 });
    const after = buildTree(v.records, { former: before });
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
    const broken = buildTree(v.records, { broken: (subject) => subject === "worker/a2" });
    expect(broken.machines[0]?.machine.id).toBe("a");
  });

  it("moves nothing while somebody is at work in it", () => {
    const v = view();
    const before = buildTree(v.records);
    applyGroup(v, [
      put(11, "machine", machine("m10", { status: "degraded" })), put(11, "machine", machine("m1")),
    ], { epoch: "e1", seq: 11 });
    const ids = (still: boolean) => buildTree(v.records, { former: before, still }).machines.map((m) => m.machine.id);
    expect(ids(true)).toEqual(["m2", "m10", "m1"]);
    expect(ids(false)).toEqual(["m10", "m1", "m2"]);
  });

  it("loses nothing that has lost its parent", () => {
    const v = view();
    applyGroup(v, [removed(11, "machine", "m2"), removed(11, "worker", "b")], { epoch: "e1", seq: 11 });
    const tree = buildTree(v.records);
    expect(tree.strayWorkers.map((node) => node.worker.id)).toEqual(["a"]);
    expect(tree.strayConnectors.map((c) => c.id)).toEqual(["b:sim"]);
  });
});
