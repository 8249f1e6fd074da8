import { expect, it, vi } from "vitest";
import { worker } from "../lib/testing";
import type { Worker } from "../lib/types";
import { workerOrders } from "./orders";

vi.mock("../lib/api", () => ({ api: {} }));

const offered = (more: Partial<Worker>) => workerOrders(worker("w", more)).map(({ label }) => label);

it("offers of each worker what it can still be told", () => {
  expect(offered({})).toEqual(["Drain"]);
  expect(offered({ status: "draining", orders: { drain: true } })).toEqual(["Resume"]);
  expect(offered({ status: "draining", stopping: "i" }), "it takes no more already").toEqual([]);
  expect(offered({ status: "draining", stopping: "former" }), "the process before it").toEqual(["Drain"]);
  expect(offered({ status: "draining", stopping: "i", orders: { drain: true } }), "the order outlives it").toEqual(["Resume"]);
  expect(offered({ status: "offline", presence: { state: "offline", why: "left" } })).toEqual(["Drain", "Remove"]);
});
