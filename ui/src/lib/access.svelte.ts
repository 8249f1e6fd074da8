// The access token as the pages show it: whether there is one, and whether another is to be given.

import { token } from "./token";

class Access {
  held = $state(token() !== null);
  /** Whoever uses the page wants to give another. */
  isAsked = $state(false);

  given(): void {
    this.held = token() !== null;
    this.isAsked = false;
  }
}

export const access = new Access();
