import { describe, expect, it } from "vitest";
import { brokenSubjects, type Doctor, repair } from "./doctor";
import { alert, finding } from "./testing";
import type { Examination, Mended } from "./types";

const OF_WORKER = finding("unknown_machine", "worker/w");
const ALSO = finding("wrong_status", "worker/w");
const OF_OTHER = finding("wrong_status", "worker/w2");

function doctor(mended: Mended[]): Doctor & { asked: string[][] } {
  const asked: string[][] = [];
  return {
    asked,
    examine: async () => ({ findings: [OF_WORKER, ALSO, OF_OTHER], more: false }),
    mend: async (ids) => (asked.push(ids), mended),
  };
}

/** Finds one thing after the other, and at last what it found last, again and again. */
function looks(...found: Partial<Examination>[]): Doctor & { asked: string[][]; looked: () => number } {
  let looked = 0;
  const it = doctor([{ finding: OF_WORKER, outcome: "repaired" }]);
  const examine = async () => ({ findings: [], more: false, ...found[Math.min(looked++, found.length - 1)] });
  return { ...it, examine, looked: () => looked };
}

describe("a repair", () => {
  it("mends all that is wrong with its subject, and nothing else", async () => {
    const asked = doctor([{ finding: OF_WORKER, outcome: "repaired" }]);
    expect(await repair(asked, "worker/w")).toEqual({ lines: ["repaired: something is wrong"], isDone: true });
    expect(asked.asked).toEqual([[OF_WORKER.id, ALSO.id]]);
  });

  it("says why something is left as it is, and what helps", async () => {
    const { lines, isDone } = await repair(doctor([{ finding: ALSO, outcome: "left", why: "a person must" }]), "worker/w");
    expect(lines[0]).toContain("a person must. What helps: restart the worker");
    expect(isDone).toBe(false);
  });

  it("asks for nothing where nothing is wrong any more", async () => {
    const asked = doctor([]);
    expect(await repair(asked, "machine/m")).toEqual({ lines: ["nothing is wrong with it any more"], isDone: true });
    expect(asked.asked).toEqual([]);
  });

  it("does not say that nothing is wrong where that could not be decided", async () => {
    const busy = looks({ undecided: ["wrong_count:index/meta"] });
    const { lines, isDone } = await repair(busy, "index/meta");
    expect(lines).toEqual([expect.stringMatching(/^undecided: .*changed with every look/)]);
    expect([isDone, busy.looked(), busy.asked]).toEqual([false, 3, []]);
    // What is in doubt of others says nothing of it.
    expect((await repair(busy, "index/other")).isDone).toBe(true);
  });

  it("looks again where it could not be decided at first", async () => {
    const calmer = looks({ undecided: [OF_WORKER.id] }, { findings: [OF_WORKER] });
    expect(await repair(calmer, "worker/w")).toEqual({ lines: ["repaired: something is wrong"], isDone: true });
    const half = looks({ findings: [OF_WORKER], undecided: [ALSO.id] });
    const { lines, isDone } = await repair(half, "worker/w");
    expect([lines[0], lines.length, isDone]).toEqual(["repaired: something is wrong", 2, false]);
  });

  it("does not say that nothing is wrong where more is wrong than is listed", async () => {
    const { lines, isDone } = await repair(looks({ findings: [OF_OTHER], more: true }), "worker/w");
    expect(lines[0]).toContain("pointsman doctor --repair");
    expect(isDone).toBe(false);
    const some = await repair(looks({ findings: [OF_WORKER], more: true }), "worker/w");
    expect([some.lines[0], some.lines.length, some.isDone]).toEqual(["repaired: something is wrong", 2, false]);
  });
});

describe("broken records", () => {
  it("are those that an alert says so of", () => {
    const broken = brokenSubjects([
      alert("inconsistent", "worker/w"), alert("suspect_worker", "v"), alert("inconsistent", "connector/w:sim"),
    ]);
    expect([...broken.keys()]).toEqual(["worker/w", "connector/w:sim"]);
  });
});
