// A redis-server of a test's own, and what an operator does on it by hand.

import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { promisify } from "node:util";
import type { Fixtures } from "./fixtures";

const TRIES = 10;

export class Redis {
  readonly #port: number;

  private constructor(port: number) {
    this.#port = port;
  }

  /** Starts one on a free port of loopback, with its files in `data`. */
  static async start(launch: Fixtures["launch"], data: string): Promise<Redis> {
    for (let left = TRIES; ; left -= 1) {
      const port = await freePort();
      const args = ["--port", String(port), "--bind", "127.0.0.1", "--dir", data, "--save", "", "--appendonly", "yes"];
      try {
        await launch({ command: "redis-server", args, ready: /Ready to accept connections/ });
        return new Redis(port);
      } catch (error) {
        // Another process may have taken the port meanwhile.
        if (left === 1 || !String(error).includes("Address already in use")) throw error;
      }
    }
  }

  get address(): string {
    return `redis://127.0.0.1:${this.#port}`;
  }

  /** What an operator types behind `redis-cli`. */
  async cli(...words: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)("redis-cli", ["-p", String(this.#port), ...words]);
    return stdout.trim();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}
