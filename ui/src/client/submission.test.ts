import { describe, expect, it } from "vitest";
import { fieldOf, type Form, FormError, submissions } from "./submission";

const form = (more: Partial<Form> = {}): Form => ({
  service: "comfyui", payload: '{"3":{"class_type":"KSampler","inputs":{"seed":5,"steps":4}}}',
  requirements: "", priority: "50", copies: "1", reseed: true, ...more,
});

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
    expect(submissions(form())).toEqual([{
      service: "comfyui", priority: 50,
      payload: { workflow: { 3: { class_type: "KSampler", inputs: { seed: 5, steps: 4 } } } },
    }]);
    const simulated = submissions(form({
      service: "simulation", payload: '{"steps":3}', requirements: '{"models":["a"]}', priority: "",
    }));
    expect(simulated).toEqual([{ service: "simulation", payload: { steps: 3 }, requirements: { models: ["a"] } }]);
  });

  it("gives every further copy a seed of its own, and changes nothing else", () => {
    let n = 0;
    const all = submissions(form({ copies: "3" }), () => (n += 0.125));
    const inputs = all.map((each) => (each.payload as { workflow: Record<string, { inputs: unknown }> }).workflow["3"]?.inputs);
    expect(inputs).toEqual([{ seed: 5, steps: 4 }, { seed: 2 ** 29, steps: 4 }, { seed: 2 ** 30, steps: 4 }]);
    expect(new Set(submissions(form({ copies: "2", reseed: false })).map((s) => JSON.stringify(s))).size).toBe(1);
  });

  it("leaves judging to the server, but not what cannot be sent", () => {
    expect(submissions(form({ priority: "150" }))[0]?.priority).toBe(150);
    expect(problemOf({ payload: "{" })).toMatchObject({ pointer: "/payload", code: "invalid_json" });
    expect(problemOf({ requirements: "x" })).toMatchObject({ pointer: "/requirements" });
    for (const copies of ["0", "1001", "1.5", "many", ""]) {
      expect(problemOf({ copies }), copies).toMatchObject({ pointer: "/copies" });
    }
  });

  it("knows which field a pointer means, also in a batch", () => {
    expect(["/priority", "/jobs/3/payload/workflow/9", "/requirements/labels", "/metadata", undefined].map(fieldOf))
      .toEqual(["priority", "payload", "requirements", null, null]);
  });
});
