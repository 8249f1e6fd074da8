// The access token as the pages show it: whether there is one, and whether another is to be given.

import { api } from "./api";
import { setToken, token } from "./token";

const TRIAL_MS = 10_000;

class Access {
  hasToken = $state(token() !== null);
  /** Whoever uses the page wants to give another. */
  isAsked = $state(false);

  /**
   * Uses another token from now on, if the server takes it. Throws why it does not, or that it does
   * not answer: then the one in use stays.
   */
  async use(value: string, signal: AbortSignal): Promise<void> {
    await api.takes(value.trim(), AbortSignal.any([signal, AbortSignal.timeout(TRIAL_MS)]));
    signal.throwIfAborted();
    setToken(value);
    this.hasToken = token() !== null;
    this.isAsked = false;
  }
}

export const access = new Access();
