// A simulation's payload as three fields: they show what stands in the payload, and change it where
// they were changed, no more.

/** What the fields show, as text. */
export interface Simulation {
  duration: string;
  steps: string;
  /** The kind of the failure it ends with; empty where it completes. */
  fail: string;
}

type Payload = Record<string, unknown>;

/** Null where the payload is no JSON object: then the fields have nothing to show. */
export function readSimulation(payload: string): Simulation | null {
  const object = parse(payload);
  return object && {
    duration: text(object["duration_ms"]),
    steps: text(object["steps"]),
    fail: text(isObject(object["fail"]) ? object["fail"]["kind"] : object["fail"]),
  };
}

/** The payload with one field changed. What cannot be read stays as it is. */
export function writeSimulation(payload: string, field: keyof Simulation, value: string): string {
  const object = parse(payload);
  if (!object) return payload;
  switch (field) {
    case "duration": put(object, "duration_ms", value); break;
    case "steps": put(object, "steps", value); break;
    case "fail": {
      const former = isObject(object["fail"]) ? object["fail"] : { message: "asked to fail" };
      object["fail"] = value ? { ...former, kind: value } : null;
    }
  }
  return JSON.stringify(object, null, 2);
}

/** What is no whole number goes as it was typed: the server says what is wrong with it. */
function put(object: Payload, name: string, value: string): void {
  const typed = value.trim();
  if (!typed) delete object[name];
  else object[name] = /^\d{1,15}$/.test(typed) ? Number(typed) : typed;
}

function parse(payload: string): Payload | null {
  try {
    const value: unknown = JSON.parse(payload);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Payload {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}
