import { describe, expect, it } from "vitest";
import type { Problem } from "../lib/types";
import { fieldOf, type Form, FormError, Outbox, submissions } from "./submission";

const form = (more: Partial<Form> = {}): Form => ({
  service: "comfyui", payload: '{"3":{"class_type":"KSampler","inputs":{"seed":5,"steps":4}}}',
  requirements: "", priority: "50", copies: "1", reseed: true, ...more,
});

const bare = (more: Partial<Form> = {}, random?: () => number) =>
  submissions(form(more), random).map(({ idempotency_key: _key, ...rest }) => rest);

const problemOf = (more: Partial<Form>) => {
  try {
    submissions(form(more));
  } catch (error) {
    if (error instanceof FormError) return error.problem;
  }
  return null;
};

describe("a submission", () => {
  it("wraps a ComfyUI workflow, and sends other payloads as they are", () => {
    expect(bare()).toEqual([{
      service: "comfyui", priority: 50,
      payload: { workflow: { 3: { class_type: "KSampler", inputs: { seed: 5, steps: 4 } } } },
    }]);
    const simulated = bare({
      service: "simulation", payload: '{"steps":3}', requirements: '{"models":["a"]}', priority: "",
    });
    expect(simulated).toEqual([{ service: "simulation", payload: { steps: 3 }, requirements: { models: ["a"] } }]);
  });

  it("gives every further copy a seed of its own, and changes nothing else", () => {
    let n = 0;
    const all = submissions(form({ copies: "3" }), () => (n += 0.125));
    const inputs = all.map((each) => (each.payload as { workflow: Record<string, { inputs: unknown }> }).workflow["3"]?.inputs);
    expect(inputs).toEqual([{ seed: 5, steps: 4 }, { seed: 2 ** 29, steps: 4 }, { seed: 2 ** 30, steps: 4 }]);
    expect(new Set(bare({ copies: "2", reseed: false }).map((s) => JSON.stringify(s))).size).toBe(1);
  });

  it("has a key of its own, each time and each copy", () => {
    const keys = [...submissions(form({ copies: "3" })), ...submissions(form())].map((each) => each.idempotency_key);
    expect(new Set(keys).size).toBe(4);
    for (const key of keys) expect(key).toMatch(/^[0-9a-f]{32}$/);
  });

  it("is sent again as it was while the form is the same and not all of it is known to be taken", () => {
    const outbox = new Outbox();
    const first = structuredClone(outbox.fill(form({ copies: "3" })));
    expect(outbox.fill(form({ copies: "3" }))).toEqual(first);
    const other = structuredClone(outbox.fill(form({ copies: "3", priority: "51" })));
    expect(other[0]?.idempotency_key).not.toBe(first[0]?.idempotency_key);
    outbox.empty();
    expect(outbox.fill(form({ copies: "3", priority: "51" }))[0]?.idempotency_key).not.toBe(other[0]?.idempotency_key);
  });

  it("may be sent again where nobody knows what became of it, and nowhere else", () => {
    const problem = (code: string): Problem => ({ title: "", status: 0, code, cure: "do something else" });
    const told = (...codes: string[]) => {
      const outbox = new Outbox();
      outbox.fill(form());
      return codes.map((code) => outbox.failed(problem(code)).cure).at(-1);
    };
    const again = /^press Submit again/;
    for (const code of ["unreachable", "outcome_unknown", "http_502"]) expect(told(code)).toMatch(again);
    for (const code of ["store_full", "store_failed", "out_of_range", "http_413"]) expect(told(code)).toBe("do something else");
    // A store that does not answer a repeat says nothing of what was sent before.
    expect(told("unreachable", "store_failed")).toMatch(again);
    expect(told("unreachable", "store_full", "store_failed")).toMatch(again);
    expect(told("store_full", "store_failed")).toBe("do something else");
  });

  it("leaves judging to the server, but not what cannot be sent", () => {
    expect(submissions(form({ priority: "150" }))[0]?.priority).toBe(150);
    expect(problemOf({ payload: "{" })).toMatchObject({ pointer: "/payload", code: "invalid_json" });
    expect(problemOf({ requirements: "x" })).toMatchObject({ pointer: "/requirements" });
    for (const priority of ["8O", "abc", "1,5", "Infinity"]) {
      expect(problemOf({ priority }), priority).toMatchObject({ pointer: "/priority" });
    }
    for (const copies of ["0", "1001", "1.5", "many", ""]) {
      expect(problemOf({ copies }), copies).toMatchObject({ pointer: "/copies" });
    }
  });

  it("knows which field a pointer means, also in a batch", () => {
    expect(["/priority", "/jobs/3/payload/workflow/9", "/requirements/labels", "/metadata", undefined].map(fieldOf))
      .toEqual(["priority", "payload", "requirements", null, null]);
  });
});
