// What of the monitor's state stands in its address: which job's details are open, and the filter,
// as `#/job/ID?filter=WORDS`.

interface Place {
  job: string | null;
  /** Null when the address says nothing of it, as links to jobs do. */
  filter: string | null;
}

export function readPlace(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#/, "").split("?", 2);
  return { job: /^\/job\/([\w-]+)$/.exec(path)?.[1]?.toLowerCase() ?? null, filter: new URLSearchParams(query).get("filter") };
}

/** Empty where there is nothing to say. */
export function writePlace({ job, filter }: Place): string {
  if (!job && !filter) return "";
  const query = filter ? `?${new URLSearchParams({ filter })}` : "";
  return `#/${job ? `job/${job}` : ""}${query}`;
}
