// What lies outside the window is laid out by nobody (`content-visibility: auto`). What changes in
// it by itself, ages and progress, then waits too, until it comes into sight. Statuses never wait.

import { getContext, setContext } from "svelte";

const KEY = Symbol("sight");

class Sight {
  away = $state(false);

  /** To be given to the element as `oncontentvisibilityautostatechange`. */
  readonly turn = (event: Event): void => {
    this.away = (event as ContentVisibilityAutoStateChangeEvent).skipped;
  };
}

/** For a card or row of the class `lazy`: what is in it shares its sight. */
export function ownSight(): Sight {
  return setContext(KEY, new Sight());
}

/** What `look` says, and while out of sight what it said last. Called once, as a component begins. */
export function seen<T>(look: () => T): () => T {
  const sight = getContext<Sight | undefined>(KEY);
  let last: { said: T } | undefined;
  const value = $derived.by(() => {
    if (!last || !sight?.away) last = { said: look() };
    return last.said;
  });
  return () => value;
}
