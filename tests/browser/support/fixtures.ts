// What every test has: programs that end with it, a data directory of its own, the pages.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test as base } from "@playwright/test";
import { type Launch, Program } from "./program";

/** What each role says when it is there. */
const READY: Record<string, RegExp> = {
  up: /^monitor: (http\S+?)\/?$/,
  server: /^monitor: (http\S+?)\/?$/,
  worker: /^worker: (\S+)$/,
  "comfyui-sim": /^comfyui: (http\S+?)\/?$/,
};

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

export interface Fixtures {
  /** Starts a program that ends with the test. */
  launch: (launch: Launch) => Promise<Program>;
  /** Starts a role of the program under test, which POINTSMAN names, and waits until it is there. */
  pointsman: (role: string, ...args: string[]) => Promise<Program>;
  /** Starts the pages over a world that is made up. */
  mock: (...args: string[]) => Promise<Program>;
  /** An empty directory that goes with the test. */
  dataDir: string;
}

export const test = base.extend<Fixtures>({
  launch: async ({}, use, info) => {
    const programs: Program[] = [];
    await use(async (launch) => {
      const program = await Program.start(launch);
      programs.push(program);
      return program;
    });
    for (const program of programs.reverse()) await program.stop();
    if (info.status !== info.expectedStatus) {
      const said = programs.map((program) => program.lines.slice(-200).join("\n")).join("\n---\n");
      await info.attach("programs", { body: said, contentType: "text/plain" });
    }
  },
  pointsman: async ({ launch }, use) => {
    const command = process.env["POINTSMAN"] ?? join(ROOT, "target/debug/pointsman");
    await use((role, ...args) => {
      const ready = READY[role];
      return launch({ command, args: [role, ...args], ...(ready && { ready }) });
    });
  },
  mock: async ({ launch }, use) => {
    const script = join(ROOT, "ui/mock/server.mjs");
    await use((...args) => launch({ command: process.execPath, args: [script, "--port", "0", ...args] }));
  },
  dataDir: async ({}, use) => {
    const directory = await mkdtemp(join(tmpdir(), "pointsman-"));
    await use(directory);
    await rm(directory, { recursive: true, force: true });
  },
});

export { expect } from "@playwright/test";
