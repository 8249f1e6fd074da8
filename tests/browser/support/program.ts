// Programs under test: started on a free port, found by the address they print, and ended by the
// test that started them, whatever it does to them meanwhile.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const ADDRESS = /https?:\/\/[\w.[\]:-]+:\d+/;
const GOODBYE_MS = 10_000;

export interface Launch {
  command: string;
  args: string[];
  env?: Record<string, string>;
  cwd?: string;
  /** What the line looks like that says it is ready; the first address, unless given. */
  ready?: RegExp;
  readyMs?: number;
}

export class Program {
  /** Everything it has said, both streams, for the report of a failed test. */
  readonly lines: string[] = [];
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #ready = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = once(child, "exit");
  }

  /** Starts a program and waits for its ready line. */
  static async start({ command, args, env, cwd, ready = ADDRESS, readyMs = 30_000 }: Launch): Promise<Program> {
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      ...(cwd && { cwd }),
    });
    const program = new Program(child);
    const deadline = AbortSignal.timeout(readyMs);
    const line = new Promise<string>((resolve, reject) => {
      const hear = (text: string) => {
        program.lines.push(text);
        const found = ready.exec(text);
        if (found) resolve(found[1] ?? found[0]);
      };
      for (const stream of [child.stdout, child.stderr]) {
        if (stream) createInterface(stream).on("line", hear);
      }
      child.once("error", reject);
      child.once("exit", (code, signal) => reject(program.#complaint(`ended (${code ?? signal})`, command)));
      deadline.addEventListener("abort", () => reject(program.#complaint("was not ready in time", command)));
    });
    try {
      program.#ready = await line;
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
    return program;
  }

  #complaint(what: string, command: string): Error {
    return new Error(`${command} ${what}\n${this.lines.slice(-20).join("\n")}`);
  }

  /** What the ready line told: its address. */
  get address(): string {
    return this.#ready;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** SIGSTOP freezes it, SIGCONT lets it go on. */
  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Ends it without a goodbye. */
  async kill(): Promise<void> {
    if (!this.running) return;
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  /** Asks it to end, and insists after ten seconds. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.#child.kill("SIGCONT");
    this.#child.kill("SIGTERM");
    const insist = setTimeout(() => this.#child.kill("SIGKILL"), GOODBYE_MS);
    await this.#exited;
    clearTimeout(insist);
  }
}
