// Alerts as people read them: many of one rule are one matter.

import { words } from "./format";
import { grouped } from "./tree";
import type { Alert } from "./types";

/** So many alerts of one rule stand each for itself. */
const UNFOLDED = 3;

interface AlertGroup {
  key: string;
  /** What they are all about, behind their number; empty where an alert stands for itself. */
  folded: string;
  alerts: Alert[];
  /** The worst, and of these the oldest. */
  first: Alert;
}

/** In the order of their first ones; `alerts` come the worst first. */
export function alertGroups(alerts: Alert[]): AlertGroup[] {
  const rules = grouped(alerts, (alert) => alert.rule);
  const place = new Map(alerts.map((alert, n) => [alert.id, n]));
  const groups = [...rules].flatMap(([rule, alike]): AlertGroup[] =>
    alike.length > UNFOLDED
      ? [{ key: rule, folded: MANY[rule] ?? `alerts: ${words(rule)}`, alerts: alike, first: alike[0]! }]
      : alike.map((alert) => ({ key: alert.id, folded: "", alerts: [alert], first: alert })));
  return groups.sort((a, b) => place.get(a.first.id)! - place.get(b.first.id)!);
}

const MANY: Partial<Record<Alert["rule"], string>> = {
  nobody_able: "kinds of jobs wait that no worker can run",
  poisonous_class: "kinds of jobs are lost again and again",
  suspect_worker: "workers broke several different jobs in a row",
  broken_service: "services take no jobs, as they are in error",
  flapping_incarnation: "ids are fought over by two processes each",
  inconsistent: "records are damaged or contradict each other",
};

/** The job that a command looks at: a page can show the same. */
export function jobOf(command: string): string | null {
  return /^pointsman (?:explain|job) ([0-9a-f-]{36})$/.exec(command)?.[1] ?? null;
}

/** The job that an alert is about. */
export function jobOfSubject(subject: string): string | null {
  return /^job\/([0-9a-f-]{36})$/.exec(subject)?.[1] ?? null;
}

/** The worker or machine that an alert is about. */
export function placeOfAlert({ rule, subject }: Pick<Alert, "rule" | "subject">): string | null {
  switch (rule) {
    case "suspect_worker":
    case "flapping_incarnation":
      return subject;
    case "broken_service":
      return subject.split(":", 1)[0] ?? null;
    case "inconsistent":
      return /^(?:worker|machine|connector)\/([^:]+)/.exec(subject)?.[1] ?? null;
    default:
      return null;
  }
}
