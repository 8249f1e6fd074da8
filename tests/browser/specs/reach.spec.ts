// What everybody can read and reach: contrast in both schemes, and nothing that moves away under a
// pointer.

import { tooFaint } from "../support/contrast";
import { expect, test } from "../support/fixtures";
import { expectLive, shown } from "../support/page";

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(`in the ${colorScheme} scheme`, () => {
    test.use({ colorScheme, contextOptions: { reducedMotion: "reduce" } });

    test("all text can be read, also when the picture is from before", async ({ page, mock }) => {
      const server = await mock();
      await page.goto(`${server.address}/client`);
      await expectLive(page);
      expect(await tooFaint(page), "the client page").toEqual([]);
      await page.goto(server.address);
      await expectLive(page);
      expect(await tooFaint(page), "the monitor").toEqual([]);
      await page.locator("#pending").getByRole("link").last().click();
      await expect(page.getByTestId("explain")).toBeVisible();
      expect(await tooFaint(page), "a job's details").toEqual([]);
      await page.keyboard.press("Escape");
      await server.stop();
      await expect(page.getByTestId("not-live")).toBeVisible();
      expect(await tooFaint(page), "not live").toEqual([]);
    });
  });
}

test("no machine moves away under a pointer that is on its way to it, and all do once it rests", async ({ page, mock }) => {
  const { address } = await mock();
  await page.goto(address);
  await expectLive(page);
  const order = () => page.getByTestId("machine").evaluateAll((cards) => cards.map((card) => card.getAttribute("data-id")));
  const before = await order();
  const last = shown(page, "machine", "gpu-box-1");
  await last.scrollIntoViewIfNeeded();
  const button = (await last.getByTestId("drain-machine").boundingBox())!;
  await page.mouse.move(button.x + 5, button.y + 5);
  await fetch(`${address}/mock/lose?id=spot-eu-5`);
  let moves = 0;
  await expect.poll(async () => {
    await page.mouse.move(button.x + 5 + (moves++ % 2), button.y + 5);
    return shown(page, "machine", "spot-eu-5").getAttribute("data-status");
  }).toBe("disconnected");
  expect(await order()).toEqual(before);
  await expect.poll(order).not.toEqual(before);
});
