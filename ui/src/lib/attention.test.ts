import { expect, it } from "vitest";
import { inSight } from "./attention";

const [TROUBLED, WELL] = [0, 5];
const list = (...attention: number[]) => attention.map((attention, place) => ({ attention, place }));
const places = (...given: Parameters<typeof inSight<{ attention: number; place: number }>>) =>
  inSight(...given).map(({ place }) => place);

it("draws who comes to need attention farther down while nothing may move", () => {
  const nodes = list(TROUBLED, WELL, WELL, TROUBLED, WELL);
  expect(places(nodes, 2, false)).toEqual([0, 1]);
  expect(places(nodes, 2, true)).toEqual([0, 1, 3]);
});

it("draws no more of them than would be among the first", () => {
  expect(places(list(...Array(200).fill(TROUBLED)), 3, true)).toEqual([0, 1, 2]);
  expect(places(list(WELL, ...Array(200).fill(TROUBLED)), 3, true)).toEqual([0, 1, 2, 3]);
});
