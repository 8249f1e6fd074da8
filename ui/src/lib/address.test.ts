import { describe, expect, it } from "vitest";
import { readPlace, writePlace } from "./address";

describe("the address", () => {
  it("is read as it was written", () => {
    const places = [
      { job: "018f-a", filter: "spot eu & more?" }, { job: null, filter: "50 %" }, { job: "018f-a", filter: null },
    ];
    for (const place of places) expect(readPlace(writePlace(place))).toEqual(place);
    expect(writePlace({ job: null, filter: "" })).toBe("");
  });

  it("says nothing of what is not in it", () => {
    for (const hash of ["", "#", "#/", "#machines", "#/job/a b"]) {
      expect(readPlace(hash), hash).toEqual({ job: null, filter: null });
    }
  });
});
