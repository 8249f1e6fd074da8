import { describe, expect, it } from "vitest";
import { readSimulation, writeSimulation } from "./simulation";

const payload = '{"duration_ms":100,"fail":{"kind":"bad_job","message":"no"},"mine":1}';

describe("the fields of a simulation", () => {
  it("show what stands in the payload, however it came there", () => {
    expect(readSimulation(payload)).toEqual({ duration: "100", steps: "", fail: "bad_job" });
    expect(readSimulation('{"duration_ms":"soon","steps":3,"fail":null}')).toEqual({ duration: "soon", steps: "3", fail: "" });
    for (const other of ["", "{", "[]", "null", "4"]) expect(readSimulation(other), other).toBeNull();
  });

  it("change what they say and nothing else", () => {
    const changed = (...change: [Parameters<typeof writeSimulation>[1], string]) => JSON.parse(writeSimulation(payload, ...change));
    expect(changed("steps", "7")).toEqual({ ...JSON.parse(payload), steps: 7 });
    expect(changed("fail", "timeout").fail).toEqual({ kind: "timeout", message: "no" });
    expect(changed("fail", "").fail).toBeNull();
    expect(changed("duration", "")).not.toHaveProperty("duration_ms");
    expect(writeSimulation("{", "steps", "7")).toBe("{");
  });

  it("leave it to the server to refuse what is no number", () => {
    for (const typed of ["abc", "1.5", "-1", "1e3", "9".repeat(20)]) {
      const written = writeSimulation("{}", "duration", typed);
      expect(JSON.parse(written)).toEqual({ duration_ms: typed });
      expect(readSimulation(written)?.duration).toBe(typed);
    }
  });
});
