// Requests to the server. Every refusal is an `ApiError` that carries the problem document.

import { token } from "./token";
import type { BatchItem, Capabilities, Examination, Explained, Job, JobsPage, JobStatus, Mended, Problem } from "./types";

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title);
  }
}

const UNREACHABLE: Problem = {
  title: "The server cannot be reached",
  status: 0,
  code: "unreachable",
  cure: "check that the server runs, then try again",
};

/** What no token has in it: `fetch` would say of the rest only that it failed. */
const NOT_OF_A_TOKEN = /[^\x21-\x7e]/u;

function notAToken(character: string): ApiError {
  const code = `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
  const shown = /[\p{C}\p{Z}]/u.test(character) ? code : `${character}, ${code}`;
  return new ApiError({
    title: "This is no token", status: 0, code: "not_a_token",
    detail: `This is no token: it has a character in it that no token has (${shown}). A token is what \`pointsman token add\` prints: pm_ and then digits and letters from a to f.`,
    cure: "copy the token again",
  });
}

async function send(method: string, path: string, body?: unknown, signal?: AbortSignal, secret = token()): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  const [wrong] = NOT_OF_A_TOKEN.exec(secret ?? "") ?? [];
  if (wrong) throw notAToken(wrong);
  if (secret) headers["Authorization"] = `Bearer ${secret}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const json = body === undefined ? undefined : JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(path, { method, headers, cache: "no-store", ...(json && { body: json }), ...(signal && { signal }) });
  } catch {
    throw new ApiError(UNREACHABLE);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** What a refusal says, whether or not it is a problem document. */
export async function refusal(response: Response): Promise<ApiError> {
  const fallback: Problem = {
    title: response.statusText || `The server answered ${response.status}`,
    status: response.status,
    code: `http_${response.status}`,
  };
  try {
    return new ApiError({ ...fallback, ...((await response.json()) as Partial<Problem>) });
  } catch {
    return new ApiError(fallback);
  }
}

async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await send(method, path, body);
  return whole(response.json() as Promise<T>);
}

async function whole<T>(body: Promise<T>): Promise<T> {
  try {
    return await body;
  } catch {
    throw new ApiError({ ...UNREACHABLE, title: "The server's answer broke off" });
  }
}

const job = (id: string) => `/api/v1/jobs/${encodeURIComponent(id)}`;
const worker = (id: string) => `/api/v1/workers/${encodeURIComponent(id)}`;
const machine = (id: string) => `/api/v1/machines/${encodeURIComponent(id)}`;

/** A file of what ended the job, or of an attempt's late result. */
export const artifactUrl = (id: string, name: string, attempt?: number): string =>
  `${job(id)}/artifacts/${encodeURIComponent(name)}${attempt === undefined ? "" : `?attempt=${attempt}`}`;
export const previewUrl = (id: string, n: number): string => `${job(id)}/preview?n=${n}`;

/** The stream that every page lives on. */
export const EVENTS = "/api/v1/events?conflate=100&pulse=changes";

/** What one submission asks; see the OpenAPI document. */
export interface Submission {
  service: string;
  payload: unknown;
  priority?: number;
  requirements?: unknown;
  /** Whoever does not know whether a submission was taken sends it again as it was. */
  idempotency_key: string;
}

/** Which jobs are asked for, and in which order; `cursor` leads to those after the page before. */
type JobsQuery = { status: JobStatus; order: "ended"; limit: number; cursor?: string };

const query = (asked: JobsQuery): string =>
  new URLSearchParams(Object.entries(asked).map(([name, value]) => [name, String(value)])).toString();

export const api = {
  jobs: (asked: JobsQuery) => json<JobsPage>("GET", `/api/v1/jobs?${query(asked)}`),
  job: (id: string) => json<Job>("GET", job(id)),
  result: (id: string) => json<unknown>("GET", `${job(id)}/result`),
  explain: (id: string) => json<Explained>("GET", `${job(id)}/explain`),
  submit: (submission: Submission) => json<Job>("POST", "/api/v1/jobs", submission),
  submitAll: (jobs: Submission[]) => json<{ results: BatchItem[] }>("POST", "/api/v1/jobs/batch", { jobs }),
  cancel: (id: string) => send("POST", `${job(id)}/cancel`),
  retry: (id: string, run: number) => send("POST", `${job(id)}/retry`, { run }),
  drain: (id: string) => send("POST", `${worker(id)}/drain`),
  resume: (id: string) => send("POST", `${worker(id)}/resume`),
  remove: (id: string) => send("DELETE", worker(id)),
  drainMachine: (id: string) => send("POST", `${machine(id)}/drain`),
  resumeMachine: (id: string) => send("POST", `${machine(id)}/resume`),
  removeMachine: (id: string) => send("DELETE", machine(id)),
  capabilities: (digest: string) => json<Capabilities>("GET", `/api/v1/capabilities/${digest}`),
  examine: () => json<Examination>("GET", "/api/v1/doctor"),
  mend: async (ids: string[]) =>
    (await json<{ mended: Mended[] }>("POST", "/api/v1/doctor/repair", { ids })).mended,
  /** Whether the server takes a token for what a page lives on: throws what it says, if not. */
  takes: async (secret: string, signal: AbortSignal) => {
    const response = await send("GET", EVENTS, undefined, signal, secret);
    await response.body?.cancel();
  },
  /** A picture or file, with the token that a plain link could not carry. */
  blob: async (path: string, signal?: AbortSignal) => whole((await send("GET", path, undefined, signal)).blob()),
};

export function asProblem(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  const detail = error instanceof Error ? error.message : String(error);
  return { title: "Something went wrong in this page", detail, status: 0, code: "page" };
}
