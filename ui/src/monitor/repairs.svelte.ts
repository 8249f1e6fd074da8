// What became of the repairs that this page asked for. They outlast the alerts that they end.

import { api } from "../lib/api";
import { repair, type Repaired } from "../lib/doctor";

export interface Repair extends Repaired { n: number; subject: string }

const MAX_SHOWN = 5;

class Repairs {
  #n = 0;
  done = $state<Repair[]>([]);

  async repair(subject: string): Promise<void> {
    const repaired = await repair(api, subject);
    this.#n += 1;
    this.done = [{ n: this.#n, subject, ...repaired }, ...this.done].slice(0, MAX_SHOWN);
  }

  dismiss(n: number): void {
    this.done = this.done.filter((one) => one.n !== n);
  }
}

export const repairs = new Repairs();
