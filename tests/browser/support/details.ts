// A job's details in the mock's odd world, where a job has its name in its metadata.

import { expect, type Locator, type Page } from "@playwright/test";
import { viewOf } from "./picture";

/** The details of the job of that name, opened. */
export async function detailsOf(page: Page, address: string, name: string): Promise<Locator> {
  const { jobs } = await viewOf(page);
  const job = Object.values(jobs).find(({ metadata }) => (metadata as { name?: string } | null)?.name === name);
  await page.goto(`${address}/#/job/${String(job?.["id"])}`);
  const panel = page.getByTestId("job-panel");
  await expect(panel).toContainText(`"name": "${name}"`);
  return panel;
}
