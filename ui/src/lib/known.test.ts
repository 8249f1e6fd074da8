import { describe, expect, it } from "vitest";
import { learned } from "./known";
import { job } from "./testing";

const failed = (id: string, rev: number, ended_no: number) => job(id, { rev, ended_no, status: "failed" });
const isFailed = ({ status }: { status: string }) => status === "failed";

describe("what is known of jobs outside the view", () => {
  it("is the newest record of each, whatever became of it, and what is wanted besides", () => {
    const known = new Map([["a", failed("a", 5, 1)], ["b", failed("b", 6, 2)]]);
    const seen = [job("a", { rev: 9, status: "completed" }), failed("b", 4, 1), failed("c", 7, 3), job("d", { rev: 8 })];
    const now = learned(known, seen, isFailed);
    expect([...now.values()].map(({ id, rev, status }) => [id, rev, status])).toEqual([
      ["a", 9, "completed"], ["b", 6, "failed"], ["c", 7, "failed"],
    ]);
    expect(known.get("a")?.rev, "the former map is as it was").toBe(5);
    expect(learned(now, seen, isFailed)).toBe(now);
  });

  it("has an end", () => {
    const seen = [1, 2, 3, 4].map((n) => failed(`j${n}`, n, n));
    expect([...learned(new Map(), seen, isFailed, 2).keys()]).toEqual(["j4", "j3"]);
  });
});
