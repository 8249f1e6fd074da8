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

/** What became of a repair, a line each, and whether nothing more is known or feared to be wrong. */
export interface Repaired { lines: string[]; isDone: boolean }

/** What is in doubt may be decided by another look, in a moment when less changes. */
const LOOKS = 3;

/** Mends everything that is wrong with one subject. */
export async function repair(doctor: Doctor, subject: string): Promise<Repaired> {
  let found = await doctor.examine();
  for (let look = 1; look < LOOKS && isInDoubt(found, subject); look += 1) found = await doctor.examine();
  const ids = found.findings.filter((finding: Finding) => finding.subject === subject).map((finding) => finding.id);
  const mended = ids.length > 0 ? await doctor.mend(ids) : [];
  const lines = mended.map(outcome);
  if (isInDoubt(found, subject)) lines.push("undecided: what may be wrong with it changed with every look; try again when less runs");
  else if (found.more) {
    lines.push("undecided: more is wrong than one answer lists, which may be about it too; mend others first, or all of them with pointsman doctor --repair");
  }
  const isDone = lines.length === mended.length && mended.every((each) => each.outcome !== "left");
  return { lines: lines.length > 0 ? lines : ["nothing is wrong with it any more"], isDone };
}

/** The id of a finding is `RULE:SUBJECT`. */
function isInDoubt({ undecided = [] }: Examination, subject: string): boolean {
  return undecided.some((id) => id.slice(id.indexOf(":") + 1) === subject);
}

export function outcome(mended: Mended): string {
  const { problem, cure } = mended.finding;
  switch (mended.outcome) {
    case "repaired": return `repaired: ${problem}`;
    case "quarantined": return `set aside: ${problem}`;
    case "left": return `left as it is: ${problem}; ${mended.why}. What helps: ${cure}`;
  }
}
