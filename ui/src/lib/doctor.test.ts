import { describe, expect, it } from "vitest";
import { brokenSubjects, type Doctor, repair } from "./doctor";
import { alert, finding } from "./testing";
import type { Mended } from "./types";

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

describe("a repair", () => {
  it("mends all that is wrong with its subject, and nothing else", async () => {
    const asked = doctor([{ finding: OF_WORKER, outcome: "repaired" }]);
    expect(await repair(asked, "worker/w")).toEqual(["repaired: something is wrong"]);
    expect(asked.asked).toEqual([[OF_WORKER.id, ALSO.id]]);
  });

  it("says why something is left as it is, and what helps", async () => {
    const lines = await repair(doctor([{ finding: ALSO, outcome: "left", why: "a person must" }]), "worker/w");
    expect(lines[0]).toContain("a person must. What helps: restart the worker");
  });

  it("asks for nothing where nothing is wrong any more", async () => {
    const asked = doctor([]);
    expect(await repair(asked, "machine/m")).toEqual(["nothing is wrong with it any more"]);
    expect(asked.asked).toEqual([]);
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
