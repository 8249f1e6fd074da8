import { describe, expect, it } from "vitest";
import { filterTree, jobsOfShortId, jobsThatMatch, matcher, shortJobId, waitingThatMatch, wholeJobId } from "./filter";
import { fromSnapshot } from "./fold";
import { connector, job, machine, queues, snapshot, worker } from "./testing";
import { buildTree } from "./tree";

const tree = buildTree(fromSnapshot(snapshot({
  machines: [machine("spot-1"), machine("spot-2", { status: "degraded", reason: "1 of 2 services does not answer" }), machine("bare")],
  workers: [
    worker("spot-1-worker-0", { machine_id: "spot-1", capabilities_digest: "eu" }),
    worker("spot-1-worker-1", { machine_id: "spot-1", suspect_until: "2026-01-01T00:01:00.000Z" }),
    worker("spot-2-worker-0", { machine_id: "spot-2" }),
    worker("lost", { machine_id: "nowhere" }),
  ],
  connectors: [connector("spot-2-worker-0:a1111", { worker_id: "spot-2-worker-0", service_type: "a1111", status: "error" })],
})).records);

/** The machines and workers that are left. */
function left(filter: string): string[] {
  const labels = (node: { worker: { capabilities_digest: string } }) =>
    node.worker.capabilities_digest === "eu" ? "site.region = eu" : "";
  const { machines, strayWorkers } = filterTree(tree, filter, labels);
  const workers = [...machines.flatMap((node) => node.workers), ...strayWorkers];
  return [...machines.map((node) => node.machine.id), ...workers.map((node) => node.worker.id)];
}

describe("the filter", () => {
  it("wants every word, in any order and case", () => {
    const matches = matcher(" Busy  gpu-1 ");
    expect([matches("gpu-1 busy"), matches("gpu-1 idle")]).toEqual([true, false]);
    expect(matcher("  ")("anything")).toBe(true);
  });

  it("leaves all as it is when nothing is asked", () => {
    expect(filterTree(tree, "  ", () => "")).toBe(tree);
  });

  it("shows a machine with all its workers, or only with those that match", () => {
    expect(left("degraded")).toEqual(["spot-2", "spot-2-worker-0"]);
    expect(left("spot-1")).toEqual(["spot-1", "spot-1-worker-1", "spot-1-worker-0"]);
    expect(left("spot-1 suspect")).toEqual(["spot-1", "spot-1-worker-1"]);
    expect(left("bare")).toEqual(["bare"]);
    expect(left("lost")).toEqual(["lost"]);
  });

  it("looks at reasons, services and labels", () => {
    expect(left("does not answer")).toEqual(["spot-2", "spot-2-worker-0"]);
    expect(left("a1111")).toEqual(["spot-2", "spot-2-worker-0"]);
    expect(left("region = eu")).toEqual(["spot-1", "spot-1-worker-0"]);
  });

  it("has a word for what somebody should look at", () => {
    expect(left("attention")).toEqual(["spot-2", "spot-1", "spot-2-worker-0", "spot-1-worker-1"]);
  });

  it("finds jobs by what is known of them", () => {
    const failed = job("b", { status: "failed", completed_at: "2026-01-01T00:00:00.000Z", failure: { kind: "bad_job", code: "x", message: "no such sampler" } });
    const jobs = [job("a", { worker_id: "spot-1-worker-0", customer_id: "acme" }), failed];
    expect(jobsThatMatch(jobs, "acme in progress").map(({ id }) => id)).toEqual(["a"]);
    expect(jobsThatMatch(jobs, "sampler").map(({ id }) => id)).toEqual(["b"]);
    expect(waitingThatMatch(queues(["one", "two"]).pending, "two").map(({ id }) => id)).toEqual(["two"]);
  });

  it("knows the whole id of a job", () => {
    const id = "018f4e9e-7c1f-7000-8000-3c5a9e0b1d2f";
    expect(wholeJobId(` ${id.toUpperCase()} `)).toBe(id);
    for (const other of ["", "9e0b1d2f", `${id} x`, id.slice(1), "spot-1"]) expect(wholeJobId(other), other).toBeNull();
  });

  it("knows the id of a job as pages shorten it, and which one that is", () => {
    const [one, other] = ["018f4e9e-7c1f-7000-8000-3c5a9e0b1d2f", "018f4e9e-7c1f-7000-8000-3c5a00000000"];
    expect(shortJobId(" 9E0B1D2F ")).toBe("9e0b1d2f");
    for (const none of ["", "9e0b1d2", "9e0b1d2g", one]) expect(shortJobId(none), none).toBeNull();
    expect(jobsOfShortId("9E0B1D2F", [{ id: other }, { id: one }, { id: one }])).toEqual([one]);
    expect(jobsOfShortId(one.slice(0, 13), [{ id: one }])).toEqual([one]);
    expect(jobsOfShortId("b1d2f", [{ id: one }]), "that may be another one's").toEqual([]);
    expect(jobsOfShortId("9e0b1d2f", [{ id: one }, { id: `x${one}` }]), "two are shortened so").toHaveLength(2);
  });
});
