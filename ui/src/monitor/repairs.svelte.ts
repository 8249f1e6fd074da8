// What became of the repairs that this page asked for. They outlast the alerts that they end.

import { api } from "../lib/api";
import { repair } from "../lib/doctor";

export interface Repaired { n: number; subject: string; lines: string[] }

const MAX_SHOWN = 5;

class Repairs {
  #n = 0;
  done = $state<Repaired[]>([]);

  async repair(subject: string): Promise<void> {
    const lines = await repair(api, subject);
    this.#n += 1;
    this.done = [{ n: this.#n, subject, lines }, ...this.done].slice(0, MAX_SHOWN);
  }

  dismiss(n: number): void {
    this.done = this.done.filter((one) => one.n !== n);
  }
}

export const repairs = new Repairs();
