// The real parts of a fleet, each a process of its own: a server, workers, a ComfyUI simulator.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Fixtures } from "./fixtures";
import type { Program } from "./program";

export interface JobRecord {
  id: string;
  status: string;
  run: number;
  attempt: number;
  losses: number;
  failures: number;
  worker_id: string | null;
  ended_no: number | null;
  [field: string]: unknown;
}

export class Fleet {
  server!: Program;
  readonly #start: Fixtures["pointsman"];
  readonly #data: string;
  readonly #store: string;

  private constructor(start: Fixtures["pointsman"], data: string, store: string) {
    this.#start = start;
    this.#data = data;
    this.#store = store;
  }

  /** A fleet of a server alone, with its files in `data`, and its store too unless that is elsewhere. */
  static async begin(
    start: Fixtures["pointsman"], data: string, store = `sqlite:${join(data, "store")}`,
  ): Promise<Fleet> {
    const fleet = new Fleet(start, data, store);
    fleet.server = await fleet.#serve("127.0.0.1:0");
    return fleet;
  }

  #serve(listen: string): Promise<Program> {
    const files = this.#store.startsWith("sqlite:") ? [] : ["--data", join(this.#data, "files")];
    return this.#start("server", "--listen", listen, "--store", this.#store, ...files);
  }

  get address(): string {
    return this.server.address;
  }

  /** Writes over the stored record of a worker, as a hand or a disk might; the server must be stopped. */
  async corruptMachineOf(worker: string, machine: string, other: string): Promise<void> {
    if (other.length !== machine.length) throw new Error("the file must keep its length");
    const path = join(this.#data, "store", "pointsman.db");
    const before = await readFile(path, "latin1");
    const record = new RegExp(`("id":"${worker}","rev":\\d+,"machine_id":)"${machine}"`, "g");
    const after = before.replace(record, `$1"${other}"`);
    if (after === before) throw new Error(`no record of ${worker} on ${machine} in ${path}`);
    await writeFile(path, after, "latin1");
  }

  /** Starts the server again where it was, over the same store. */
  async serveAgain(): Promise<void> {
    this.server = await this.#serve(new URL(this.address).host);
  }

  /** A worker over HTTP; each service is written as `--service` takes it. */
  worker(id: string, machine: string, ...services: string[]): Promise<Program> {
    const named = services.flatMap((service) => ["--service", service]);
    return this.#start("worker", "--id", id, "--machine", machine, "--broker", this.address, ...named);
  }

  /** A ComfyUI simulator; `listen` starts it again where it was. */
  comfyui(listen = "127.0.0.1:0"): Promise<Program> {
    return this.#start("comfyui-sim", "--listen", listen);
  }

  async submit(service: string, payload: unknown, more: Record<string, unknown> = {}): Promise<JobRecord> {
    return submit(this.address, service, payload, more);
  }

  /** A simulated job of so many ms. */
  simulate(ms: number, more: Record<string, unknown> = {}): Promise<JobRecord> {
    return this.submit("simulation", { duration_ms: ms, steps: 20 }, more);
  }

  async job(id: string): Promise<JobRecord> {
    return (await (await fetch(`${this.address}/api/v1/jobs/${id}`)).json()) as JobRecord;
  }
}

export async function submit(
  address: string, service: string, payload: unknown, more: Record<string, unknown> = {},
): Promise<JobRecord> {
  const response = await fetch(`${address}/api/v1/jobs`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ service, payload, ...more }),
  });
  const answer = await response.text();
  if (!response.ok) throw new Error(`the submission was refused: ${answer}`);
  return JSON.parse(answer) as JobRecord;
}

/** A picture out of `steps` steps of a sampler, which the simulator takes 25 ms each for. */
export function sampled(steps: number, seed = 1): unknown {
  return {
    workflow: {
      "3": {
        class_type: "KSampler",
        inputs: {
          seed, steps, cfg: 7, sampler_name: "euler", scheduler: "normal", denoise: 1,
          model: ["4", 0], positive: ["6", 0], negative: ["7", 0], latent_image: ["5", 0],
        },
      },
      "4": { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: "sim-v1.safetensors" } },
      "5": { class_type: "EmptyLatentImage", inputs: { width: 64, height: 64, batch_size: 1 } },
      "6": { class_type: "CLIPTextEncode", inputs: { text: "a signal box at dawn", clip: ["4", 1] } },
      "7": { class_type: "CLIPTextEncode", inputs: { text: "blurry", clip: ["4", 1] } },
      "8": { class_type: "VAEDecode", inputs: { samples: ["3", 0], vae: ["4", 2] } },
      "9": { class_type: "SaveImage", inputs: { filename_prefix: "sampled", images: ["8", 0] } },
    },
  };
}
