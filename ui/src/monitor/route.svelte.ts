// The one thing in the address: which job's details are open, as `#/job/ID`.

function read(): string | null {
  return /^#\/job\/([\w-]+)$/.exec(location.hash)?.[1] ?? null;
}

class Route {
  job = $state<string | null>(read());

  constructor() {
    addEventListener("hashchange", () => (this.job = read()));
  }

  close(): void {
    history.pushState(null, "", location.pathname);
    this.job = null;
  }
}

export const route = new Route();
