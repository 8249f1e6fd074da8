import { describe, expect, it } from "vitest";
import { alertGroups, jobOf, jobOfSubject, placeOfAlert } from "./alerts";
import { alert } from "./testing";

describe("alerts", () => {
  const suspects = (n: number) => Array.from({ length: n }, (_, i) => alert("suspect_worker", `w${i}`));

  it("stand each for itself while they are few", () => {
    const groups = alertGroups([...suspects(3), alert("nobody_able", "c")]);
    expect(groups.map(({ key, folded }) => [key, folded])).toEqual([
      ["suspect_worker:w0", ""], ["suspect_worker:w1", ""], ["suspect_worker:w2", ""], ["nobody_able:c", ""],
    ]);
  });

  it("are one line where many are of one rule, in the place of the first", () => {
    const groups = alertGroups([alert("nobody_able", "c"), ...suspects(200), alert("store_at_risk", "redis")]);
    expect(groups.map(({ key, alerts }) => [key, alerts.length])).toEqual([
      ["nobody_able:c", 1], ["suspect_worker", 200], ["store_at_risk:redis", 1],
    ]);
    expect(groups[1]?.first.subject).toBe("w0");
  });

  it("lead to the job that a command would show", () => {
    const id = "018f4e9e-7c1f-7000-8000-3c5a9e0b1d2f";
    expect(["explain", "job", "cancel"].map((command) => jobOf(`pointsman ${command} ${id}`))).toEqual([id, id, null]);
    expect(jobOf("pointsman doctor")).toBeNull();
  });

  it("lead to the job that they are about", () => {
    const id = "018f4e9e-7c1f-7000-8000-3c5a9e0b1d2f";
    expect([`job/${id}`, "job/queue", "worker/w"].map(jobOfSubject)).toEqual([id, null, null]);
  });

  it("lead to the worker or machine that they are about", () => {
    const about = [
      alert("suspect_worker", "w"), alert("broken_service", "w:comfyui"), alert("inconsistent", "machine/m"),
      alert("inconsistent", "connector/w:comfyui"), alert("inconsistent", "job/j"), alert("nobody_able", "c"),
    ];
    expect(about.map(placeOfAlert)).toEqual(["w", "w", "m", "w", null, null]);
  });

  it("of damaged records are about more than contradictions", () => {
    const broken = Array.from({ length: 4 }, (_, i) => alert("inconsistent", `worker/w${i}`));
    expect(alertGroups(broken)[0]?.folded).toBe("records are damaged or contradict each other");
  });
});
