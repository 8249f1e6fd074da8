// From what stands in the form to what is sent. Only what cannot be sent at all is refused here;
// everything else is for the server to judge.

import type { Submission } from "../lib/api";
import type { Maybe, Problem } from "../lib/types";

export interface Form {
  service: string;
  /** ComfyUI: the workflow in API format. Others: the payload. JSON. */
  payload: string;
  requirements: string;
  priority: string;
  copies: string;
  /** A seed of its own for each copy, since equal workflows are answered from the cache. */
  reseed: boolean;
}

export class FormError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.title);
  }
}

const MOST_COPIES = 1000;

/**
 * What was sent and not yet taken as a whole, as far as is known. While the form stays the same, the
 * same is sent again, keys and drawn seeds included: so nothing is made twice.
 */
export class Outbox {
  #form = "";
  #sent: Submission[] = [];
  /** It is not known of some of it whether it was taken. */
  #unknown = false;

  fill(form: Form): Submission[] {
    const now = JSON.stringify(form);
    if (now !== this.#form) {
      this.#sent = submissions(form);
      this.#form = now;
      this.#unknown = false;
    }
    return this.#sent;
  }

  /** What is told of a try that failed. */
  failed(problem: Problem): Problem {
    const told = forSender(problem, this.#unknown);
    this.#unknown ||= told !== problem;
    return told;
  }

  /** All of it was taken: whatever comes next is new. */
  empty(): void {
    this.#form = "";
    this.#sent = [];
    this.#unknown = false;
  }
}

/** Whether it is not known what became of what was sent. */
function isUnknown({ code }: Problem): boolean {
  return /^(unreachable|outcome_unknown|http_5\d\d)$/.test(code);
}

/** Where it is not known whether a submission was taken, that it may be sent again. */
function forSender(problem: Problem, wasUnknown: boolean): Problem {
  // A store that does not answer a repeat says nothing of what was sent before.
  if (!isUnknown(problem) && !(wasUnknown && problem.code === "store_failed")) return problem;
  return {
    ...problem,
    detail: "It is not known whether it was taken.",
    cure: "press Submit again, with the form as it is: what was taken already is not made twice",
  };
}

/** What to send: one submission a copy. */
export function submissions(form: Form, random: () => number = Math.random): Submission[] {
  const body = json(form.payload, "/payload", "The workflow or payload");
  const requirements = form.requirements.trim()
    ? json(form.requirements, "/requirements", "The requirements")
    : undefined;
  return Array.from({ length: copies(form.copies) }, (_, n) => ({
    service: form.service.trim(),
    payload: form.service === "comfyui" ? { workflow: n > 0 && form.reseed ? reseeded(body, random) : body } : body,
    ...(form.priority.trim() && { priority: priority(form.priority) }),
    ...(requirements !== undefined && { requirements }),
    idempotency_key: newKey(),
  }));
}

/** Drawn by what plain HTTP has as well, which has no `randomUUID`. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function copies(text: string): number {
  const n = Number(text);
  if (Number.isInteger(n) && n >= 1 && n <= MOST_COPIES) return n;
  throw noNumber("copies", "That is no number of jobs", `use a whole number from 1 to ${MOST_COPIES}`);
}

/** Any number can be sent; JSON would write null for what is none. */
function priority(text: string): number {
  const n = Number(text);
  if (Number.isFinite(n)) return n;
  throw noNumber("priority", "The priority is no number", "use a whole number from 0 to 100, or leave it empty");
}

function noNumber(field: string, title: string, cure: string): FormError {
  return new FormError({ title, status: 0, code: "form", pointer: `/${field}`, cure });
}

function json(text: string, pointer: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FormError({
      title: `${what} is not JSON`,
      detail: error instanceof Error ? error.message : String(error),
      status: 0,
      code: "invalid_json",
      pointer,
      cure: "correct the place that the message names",
    });
  }
}

/** The graph with another number in every input called `seed` or `noise_seed`. */
function reseeded(graph: unknown, random: () => number): unknown {
  if (Array.isArray(graph) || typeof graph !== "object" || graph === null) return graph;
  return Object.fromEntries(Object.entries(graph).map(([key, value]) => {
    const isSeed = (key === "seed" || key === "noise_seed") && typeof value === "number";
    return [key, isSeed ? Math.floor(random() * 2 ** 32) : reseeded(value, random)];
  }));
}

/** Which part of the form a problem's pointer speaks of. */
export function fieldOf(pointer: Maybe<string>): string | null {
  const path = pointer?.replace(/^\/jobs\/\d+/, "") ?? "";
  return /^\/(payload|requirements|priority|service|copies)\b/.exec(path)?.[1] ?? null;
}
