import { describe, expect, it } from "vitest";
import { bytes, gpuLines, headline, labelChips, localTimes, moment, requirementChips, shortId, span, tallied, whereabouts, wholeSpan } from "./format";
import { progress } from "./testing";

describe("figures", () => {
  it("says spans as people do", () => {
    const said = [60, 1_000, 4_240, 48_900, 200_000, 1_500_000, 7_500_000, 300_000_000];
    expect(said.map(span)).toEqual([
      "0.06 s", "1.0 s", "4.2 s", "48 s", "3 min 20 s", "25 min", "2 h 05 min", "3 d 11 h",
    ]);
    expect(wholeSpan(-5)).toBe("0 s");
    expect(wholeSpan(9_990)).toBe("9 s");
    expect(span(999)).toBe("1.0 s");
  });

  it("says where a running job is, as far as is known", () => {
    const at = { ...progress("j", 1, 1), node: "3", step: 7, steps: 20, message: "KSampler" };
    expect(whereabouts(at)).toEqual(["node 3, step 7 of 20", "KSampler"]);
    expect(whereabouts({ ...at, node: null, message: null })).toEqual(["step 7 of 20"]);
    expect(whereabouts({ ...at, node: null, steps: null })).toEqual(["KSampler"]);
    expect(whereabouts({ ...at, message: "silent for 30 s" })).toEqual(["node 3, step 7 of 20"]);
    expect(whereabouts(null)).toEqual([]);
  });

  it("says the moments in a text as it says others, and leaves what is none", () => {
    const [at, whole] = ["2026-11-26T22:43:31.102Z", "2026-11-26T15:10:00Z"];
    expect(localTimes(`silent since ${at}, until ${whole}.`)).toBe(`silent since ${moment(at)}, until ${moment(whole)}.`);
    for (const other of ["2026-13-45T99:99:99Z", "box-2026-11-26", "2026-11-26T22:43", ""]) expect(localTimes(other)).toBe(other);
  });

  it("takes a message's first line as its title, unless that has no end", () => {
    expect(headline("out of memory\n  at node 3\n  at node 4", "bad job")).toEqual({ title: "out of memory", rest: "  at node 3\n  at node 4" });
    expect(headline("", "bad job")).toEqual({ title: "bad job", rest: "" });
    const long = "x".repeat(301);
    expect(headline(long, "bad job")).toEqual({ title: "bad job", rest: long });
  });

  it("says bytes", () => {
    expect([0, 1023, 1024, 1_500_000, 200 * 1024 ** 2].map(bytes)).toEqual([
      "0 B", "1023 B", "1.0 KiB", "1.4 MiB", "200 MiB",
    ]);
  });

  it("shortens ids to the end, where neighbours differ", () => {
    expect(shortId("018f4e9e-7c1f-7000-8000-3c5a9e0b1d2f")).toBe("9e0b1d2f");
  });

  it("puts GPUs of a kind together", () => {
    const gpu = { name: "RTX 4090", memory_gb: 24 };
    expect(gpuLines([gpu, gpu, { name: "T4", memory_gb: 15.75 }])).toEqual([
      "2 × RTX 4090, 24 GiB", "T4, 15.8 GiB",
    ]);
  });

  it("says what a class asks", () => {
    const asked = {
      hardware: { gpu_memory_gb: 24 }, models: ["a", "b", "c", "d"], customer: { isolation: "strict" }, prefer: { models: ["e"] },
    };
    expect(requirementChips(asked)).toEqual(["GPU ≥ 24 GiB", "4 models", "strict isolation", "preferably models: e"]);
    expect(requirementChips({ must_not: { workers: ["w"], labels: { zone: { eq: "c" } } } })).toEqual([
      "not zone = c", "without workers: w",
    ]);
  });

  it("names all that is asked where there is room, each under the phrase that counts them", () => {
    const asked = { models: ["a", "b", "c"], must_not: { workers: ["w", "x", "y"] } };
    expect(requirementChips(asked)).toEqual(["3 models", "without 3 workers"]);
    expect(requirementChips(asked, Infinity)).toEqual(["models: a, b, c", "without workers: w, x, y"]);
  });

  it("says conditions on labels in words", () => {
    const labels = {
      "site.region": { eq: "eu" }, tier: { gte: 2, lt: 5 }, zone: { in: ["a", "b"] }, features: { all: ["x"] }, age: { eq: "2" },
    };
    expect(requirementChips({ labels })).toEqual([
      "site.region = eu", "tier ≥ 2 and < 5", "zone one of a, b", "features holds all of x", 'age = "2"',
    ]);
    expect(labelChips({ tier: 2, spot: true, note: "two words" })).toEqual(["tier = 2", "spot = true", 'note = "two words"']);
  });

  it("says a name once, with how often it stands there", () => {
    expect(tallied(["box-1", "box-2", "box-1", "box-1"])).toBe("box-1 (3 times), box-2");
  });
});
