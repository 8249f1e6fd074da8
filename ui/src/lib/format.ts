// Figures for people. Spans are in milliseconds.

import type { Condition, JobProgress, LabelValue, Maybe } from "./types";

/** A span as it is read aloud: `0.06 s`, `4.2 s`, `48 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`. */
export function span(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 0.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  return wholeSpan(ms);
}

/** A span that goes on: in whole seconds, so that it does not flicker. */
export function wholeSpan(ms: number): string {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min${minutes < 10 ? ` ${two(seconds % 60)} s` : ""}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const two = (n: number): string => String(n).padStart(2, "0");

/** How long before `now` (milliseconds since 1970) the time `at` was. Never negative. */
export function ageMs(at: string, now: number): number {
  return Math.max(0, now - Date.parse(at));
}

/** The time between two timestamps; null when either is missing. */
export function between(from: Maybe<string>, to: Maybe<string>): number | null {
  return from && to ? Math.max(0, Date.parse(to) - Date.parse(from)) : null;
}

/** The end of a job's id: the beginning of a version 7 UUID is the time, alike among neighbours. */
export function shortId(id: string): string {
  return id.length > 8 ? id.slice(-8) : id;
}

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = n;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const COUNT = new Intl.NumberFormat("en");

export function count(n: number): string {
  return COUNT.format(n);
}

/** `1 file`, `2 files`. */
export function counted(n: number, what: string): string {
  return `${count(n)} ${what}${n === 1 ? "" : "s"}`;
}

/** Where a running job is, and what its service says of it: what is known of that. */
export function whereabouts(progress: JobProgress | null): string[] {
  const node = progress?.node && `node ${progress.node}`;
  const step = progress?.steps && `step ${progress.step ?? 0} of ${progress.steps}`;
  // How long it has been silent is said beside it, by the second.
  const message = progress?.message?.startsWith("silent for") ? "" : progress?.message;
  return [[node, step].filter(Boolean).join(", "), message ?? ""].filter(Boolean);
}

/** `in_progress` → `in progress`. */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}

// Made once: to make one takes longer than all else that a page does for an age.
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });

/** A moment in the reader's own time zone. */
export function moment(at: string): string {
  const date = new Date(at);
  return `${DAY.format(date)}, ${TIME.format(date)}`;
}

/** The same moment without its day. */
export function clockTime(at: string): string {
  return TIME.format(new Date(at));
}

/** So long a line can stand as a title. */
const TITLE = 300;

/** A message as its title and the rest: it may be a whole traceback, or one line without an end. */
export function headline(message: string, otherwise: string): { title: string; rest: string } {
  const [first = "", rest = ""] = message.split(/\n([^]*)/, 2);
  return first.length > TITLE ? { title: otherwise, rest: message } : { title: first || otherwise, rest };
}

const IN_TEXT = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** What the server says, with its moments in the reader's own time zone. */
export function localTimes(text: string): string {
  return text.replace(IN_TEXT, (at) => (Number.isNaN(Date.parse(at)) ? at : moment(at)));
}

/** GPUs of one kind together: `2 × NVIDIA RTX 4090, 24 GiB`. */
export function gpuLines(gpus: { name: string; memory_gb: number }[]): string[] {
  const kinds = new Map<string, number>();
  for (const { name, memory_gb } of gpus) {
    const kind = memory_gb > 0 ? `${name}, ${Math.round(memory_gb * 10) / 10} GiB` : name;
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return [...kinds].map(([kind, n]) => (n > 1 ? `${n} × ${kind}` : kind));
}

/** What a class asks, as short phrases: labels in the words of `explain`. Of more than `most` names only their number. */
export function requirementChips(requirements: Record<string, unknown>, most = 2): string[] {
  const { labels, must_not, ...rest } = requirements as Record<string, unknown> & { labels?: Conditions; must_not?: MustNot };
  const { labels: unwanted, ...never } = must_not ?? {};
  return [
    ...Object.entries(rest).flatMap(([key, value]) => chips(key, value, most)),
    ...conditions(labels),
    ...conditions(unwanted).map((condition) => `not ${condition}`),
    ...Object.entries(never).flatMap(([key, value]) => chips(key, value, most)).map((chip) => `without ${chip}`),
  ];
}

/** The labels that a worker has, as short phrases. */
export function labelChips(labels: Record<string, LabelValue>): string[] {
  return Object.entries(labels).map(([name, value]) => `${name} = ${labelValue(value)}`);
}

type Conditions = Record<string, Partial<Condition>>;
type MustNot = { labels?: Conditions } & Record<string, unknown>;

function conditions(labels: Conditions = {}): string[] {
  return Object.entries(labels).map(([name, condition]) => `${name} ${conditionWords(condition)}`);
}

const BOUNDS = [["gt", ">"], ["gte", "≥"], ["lt", "<"], ["lte", "≤"]] as const;

function conditionWords(condition: Partial<Condition>): string {
  const parts = condition.eq == null ? [] : [`= ${labelValue(condition.eq)}`];
  for (const [key, sign] of BOUNDS) if (condition[key] != null) parts.push(`${sign} ${condition[key]}`);
  if (condition.in?.length) parts.push(`one of ${condition.in.map(labelValue).join(", ")}`);
  if (condition.all?.length) parts.push(`holds all of ${condition.all.map(labelValue).join(", ")}`);
  return parts.join(" and ");
}

/** Quoted where a text could be taken for something else: the text "2" is not the number 2. */
function labelValue(value: LabelValue): string {
  if (Array.isArray(value)) return `[${value.map(labelValue).join(", ")}]`;
  const plain = typeof value !== "string" || /^[a-z][\w./:-]*$/i.test(value) && value !== "true" && value !== "false";
  return plain ? String(value) : JSON.stringify(value);
}

const NAMES: Record<string, (value: unknown) => string> = {
  "hardware.gpu_memory_gb": (n) => `GPU ≥ ${String(n)} GiB`,
  "hardware.gpu_count": (n) => `GPUs ≥ ${String(n)}`,
  "hardware.cpu_cores": (n) => `CPU cores ≥ ${String(n)}`,
  "hardware.ram_gb": (n) => `RAM ≥ ${String(n)} GiB`,
  "customer.isolation": (isolation) => `${String(isolation)} isolation`,
};

function chips(path: string, value: unknown, most: number): string[] {
  const named = NAMES[path];
  if (named) return [named(value)];
  if (Array.isArray(value)) {
    if (value.length === 0) return [];
    const name = words(path).replace(/^prefer\./, "preferably ");
    return [value.length > most ? `${value.length} ${name}` : `${name}: ${value.join(", ")}`];
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value).flatMap(([key, inner]) => chips(`${path}.${key}`, inner, most));
  }
  return [`${words(path)} ${String(value)}`];
}

/** Names, each once, with how often: `box-1 (3 times), box-2`. */
export function tallied(names: string[]): string {
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  return [...times].map(([name, n]) => (n > 1 ? `${name} (${count(n)} times)` : name)).join(", ");
}
