// Commands that the pages print, as they work where they are copied to.

/** The command line speaks plain HTTP: what a page came by through TLS is no address for it. */
export const FILL_IN = "http://…";

export const cameByTls = (origin: string): boolean => origin.startsWith("https:");

/** `line` gets the server's address; a token is needed where the page has one. */
export function command(line: (server: string) => string, origin: string, token: string | null): string {
  return `${token ? "POINTSMAN_TOKEN=… " : ""}${line(cameByTls(origin) ? FILL_IN : origin)}`;
}
