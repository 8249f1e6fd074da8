import { describe, expect, it } from "vitest";
import { command, FILL_IN } from "./commands";

const join = (server: string) => `pointsman worker --broker ${server}`;

describe("a command to copy", () => {
  it("names the server that the page is from, and the token that is needed where the page has one", () => {
    expect(command(join, "http://box:7777", null)).toBe("pointsman worker --broker http://box:7777");
    expect(command(join, "http://box:7777", "secret")).toBe("POINTSMAN_TOKEN=… pointsman worker --broker http://box:7777");
  });

  it("names no address that the command line does not speak to", () => {
    const line = command(join, "https://h.example", "secret");
    expect(line).not.toContain("https://");
    expect(line).toBe(`POINTSMAN_TOKEN=… pointsman worker --broker ${FILL_IN}`);
  });
});
