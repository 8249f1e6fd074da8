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
    const after = buildTree(v.records, before);
    expect(after.machines[1]).toBe(before.machines[1]);
    expect(after.machines[0]).not.toBe(before.machines[0]);
    expect(after.machines[0]?.workers[0]?.connectors[0]?.status).toBe("error");
  });

  it("loses nothing that has lost its parent", () => {
    const v = view();
    applyGroup(v, [removed(11, "machine", "m2"), removed(11, "worker", "b")], { epoch: "e1", seq: 11 });
    const tree = buildTree(v.records);
    expect(tree.strayWorkers.map((node) => node.worker.id)).toEqual(["a"]);
    expect(tree.strayConnectors.map((c) => c.id)).toEqual(["b:sim"]);
  });
});
