// Repairs: what a page asks of `doctor`, and what became of it in words.

import type { Alert, Examination, Finding, Mended } from "./types";

/** Requests to `doctor`; `api` has them. */
export interface Doctor {
  examine: () => Promise<Examination>;
  mend: (ids: string[]) => Promise<Mended[]>;
}

/** The alerts that say of a record that something is wrong with it, by `KIND/ID`. */
export function brokenSubjects(alerts: Alert[]): Map<string, Alert> {
  return new Map(alerts.filter((alert) => alert.rule === "inconsistent").map((alert) => [alert.subject, alert]));
}

/** Mends everything that is wrong with one subject; says what became of it, a line each. */
export async function repair(doctor: Doctor, subject: string): Promise<string[]> {
  const { findings } = await doctor.examine();
  const ids = findings.filter((finding: Finding) => finding.subject === subject).map((finding) => finding.id);
  const mended = ids.length > 0 ? await doctor.mend(ids) : [];
  return mended.length > 0 ? mended.map(outcome) : ["nothing is wrong with it any more"];
}

export function outcome(mended: Mended): string {
  const { problem, cure } = mended.finding;
  switch (mended.outcome) {
    case "repaired": return `repaired: ${problem}`;
    case "quarantined": return `set aside: ${problem}`;
    case "left": return `left as it is: ${problem}; ${mended.why}. What helps: ${cure}`;
  }
}
