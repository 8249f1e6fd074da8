import { expect, it, vi } from "vitest";
import { job } from "../lib/testing";
import { ended } from "./ended.svelte";

const pages = vi.hoisted(() => new Map<string, { jobs: unknown[]; next_cursor: string | null }>());

vi.mock("../lib/api", () => ({
  api: { jobs: async ({ cursor = "" }) => pages.get(cursor) },
  asProblem: (error: unknown) => error,
}));
const picture = vi.hoisted(() => ({
  epoch: "e", running: [], waiting: [], ended: [] as unknown[], queues: null, live: { state: "live" },
}));
vi.mock("../lib/live.svelte", () => ({ picture }));

const failed = (n: number) => job(`${n}`, { status: "failed", ended_no: n });

it("goes on from pages that bring nothing until one does, or there is no more", async () => {
  pages.set("", { jobs: [failed(9), failed(8)], next_cursor: "a" });
  pages.set("a", { jobs: [failed(8)], next_cursor: "b" });
  pages.set("b", { jobs: [], next_cursor: "c" });
  pages.set("c", { jobs: [failed(7)], next_cursor: "d" });
  pages.set("d", { jobs: [], next_cursor: "e" });
  pages.set("e", { jobs: [], next_cursor: null });
  ended.tab = "failed";
  await ended.begin();
  const listed = () => ended.jobs.map(({ id }) => id);
  expect(listed()).toEqual(["9", "8"]);
  await ended.more();
  expect([listed(), ended.next]).toEqual([["9", "8", "7"], "d"]);
  await ended.more();
  expect([listed(), ended.next]).toEqual([["9", "8", "7"], null]);
});

it("brings older ones also where one ends meanwhile", async () => {
  pages.set("", { jobs: [failed(9)], next_cursor: "a" });
  pages.set("a", { jobs: [failed(9)], next_cursor: "b" });
  pages.set("b", { jobs: [failed(7)], next_cursor: null });
  ended.tab = "failed";
  await ended.begin();
  const asked = ended.more();
  picture.ended = [failed(10)];
  await asked;
  expect(ended.jobs.map(({ id }) => id)).toEqual(["10", "9", "7"]);
});
