import { expect, it } from "vitest";
import { Turns } from "./turns";

it("lets a few work at once, in order, whatever becomes of them", async () => {
  const turns = new Turns(2);
  const [began, ends]: [number[], (() => void)[]] = [[], []];
  const all = [0, 1, 2, 3].map((n) => turns.take(() => new Promise<number>((done, fail) => {
    began.push(n);
    ends[n] = () => (n === 0 ? fail(new Error("broken")) : done(n));
  })));
  const settled = Promise.allSettled(all);
  expect(began).toEqual([0, 1]);
  ends[0]!();
  await expect(all[0]).rejects.toThrow("broken");
  await expect.poll(() => began).toEqual([0, 1, 2]);
  ends[2]!();
  await expect.poll(() => began).toEqual([0, 1, 2, 3]);
  ends[1]!();
  ends[3]!();
  expect((await settled).map((each) => each.status)).toEqual(["rejected", "fulfilled", "fulfilled", "fulfilled"]);
  await expect(turns.take(async () => "free again")).resolves.toBe("free again");
});
