import { describe, expect, it } from "vitest";
import { awake } from "./clock";

describe("our own clock", () => {
  const begun = { even: 1_000, wall: 1_700_000_000_000, jumps: 0 };
  const clock = () => {
    const at = { ...begun };
    const now = awake({ even: () => at.even, wall: () => at.wall, onJump: () => (at.jumps += 1) });
    const pass = (even: number, wall: number) => {
      at.even += even;
      at.wall += wall;
      return now() - begun.even;
    };
    return { at, pass };
  };

  it("runs evenly, whatever little the clock on the wall is put right by", () => {
    const { at, pass } = clock();
    expect([pass(1_000, 1_004), pass(1_000, 900), pass(1_000, -3_600_000), pass(1_000, 5_900)]).toEqual([1_000, 2_000, 3_000, 4_000]);
    expect(at.jumps).toBe(0);
  });

  it("counts the time that the machine slept, and says so once", () => {
    const { at, pass } = clock();
    expect(pass(1_000, 1_000)).toBe(1_000);
    expect(pass(10, 14 * 3_600_000)).toBe(1_000 + 14 * 3_600_000);
    expect(pass(10, 10)).toBe(1_010 + 14 * 3_600_000);
    expect(at.jumps).toBe(1);
  });

  it("counts no time twice where the even clock has not stood still", () => {
    const { at, pass } = clock();
    expect(pass(3_600_000, 3_600_000)).toBe(3_600_000);
    expect(at.jumps).toBe(0);
  });
});
