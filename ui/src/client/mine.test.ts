import { expect, it, vi } from "vitest";
import { job } from "../lib/testing";

const world = vi.hoisted(() => ({ stored: "[]", heard: [] as ((event: { key: string }) => void)[] }));

vi.hoisted(() => {
  vi.stubGlobal("localStorage", { getItem: () => world.stored, setItem: (_: string, value: string) => { world.stored = value; } });
  vi.stubGlobal("addEventListener", (_: string, hear: (event: { key: string }) => void) => world.heard.push(hear));
});
vi.mock("../lib/live.svelte", () => ({
  picture: { epoch: "e", waiting: [], live: { state: "connecting" }, job: () => null },
}));
vi.mock("../lib/api", () => ({ api: { job: async (id: string) => job(id) }, ApiError: class extends Error {} }));

const { KEPT, mine } = await import("./mine.svelte");

/** Another tab made this the list. */
function otherTab(ids: string[]): void {
  world.stored = JSON.stringify(ids);
  for (const hear of world.heard) hear({ key: "pointsman.jobs" });
}

it("knows nothing of jobs that are not listed any more, whoever took them off the list", async () => {
  mine.start();
  mine.add([job("a"), job("b")]);
  expect(mine.ids).toEqual(["b", "a"]);
  otherTab(["c", "a", "a"]);
  expect(mine.ids, "each once").toEqual(["c", "a"]);
  expect([mine.job("a")?.id, mine.job("b")]).toEqual(["a", null]);
  await mine.refresh("b");
  expect(mine.job("b"), "its answer came late").toBeNull();
  mine.add(Array.from({ length: KEPT }, (_, n) => job(`n${n}`)));
  expect([mine.ids.length, mine.job("a"), mine.job("n0")?.id]).toEqual([KEPT, null, "n0"]);
});
