// Whether what is written can be read: WCAG's contrast, 4.5 : 1 for text of ordinary size.

import type { Page } from "@playwright/test";

/** The texts, placeholders too, that have less; of what is disabled none is asked. */
export function tooFaint(page: Page, least = 4.5): Promise<string[]> {
  return page.evaluate((wanted) => {
    type Colour = [number, number, number, number];
    const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true })!;
    const read = (colour: string): Colour => {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      const [r = 0, g = 0, b = 0, a = 0] = context.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a]: Colour, [R, G, B]: Colour): Colour =>
      [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
    const luminance = ([r, g, b]: Colour) => {
      const [x = 0, y = 0, z = 0] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const contrast = (a: Colour, b: Colour) => {
      const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
      return (light + 0.05) / (dark + 0.05);
    };
    const upwards = (element: Element) => {
      const all: Element[] = [];
      for (let each: Element | null = element; each; each = each.parentElement) all.push(each);
      return all;
    };
    const ground = read(getComputedStyle(document.body).backgroundColor);
    const behind = (element: Element) => upwards(element).map((each) => read(getComputedStyle(each).backgroundColor))
      .reverse().reduce((below, colour) => over(colour, below), ground);
    const opacity = (element: Element) => upwards(element).map((each) => {
      const { opacity, filter } = getComputedStyle(each);
      return Number(opacity) * Number(/opacity\(([\d.]+)\)/.exec(filter)?.[1] ?? 1);
    }).reduce((all, one) => all * one, 1);
    const ratio = (element: Element, colour: string) => {
      const [back, seen] = [behind(element), opacity(element)];
      const [r, g, b, a] = over(read(colour), back);
      return contrast(over([r, g, b, a * seen], ground), over([...back.slice(0, 3), seen] as Colour, ground));
    };
    const found = new Set<string>();
    const judge = (element: Element, colour: string, text: string) => {
      const shown = element.checkVisibility({ visibilityProperty: true });
      if (!shown || element.closest(":disabled, [aria-disabled=true], [aria-hidden=true]")) return;
      const n = ratio(element, colour);
      if (n < wanted) found.add(`${n.toFixed(2)}: ${text.slice(0, 40)}`);
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
      const [text, element] = [node.textContent?.trim(), node.parentElement];
      if (text && element) judge(element, getComputedStyle(element).color, text);
    }
    for (const field of document.querySelectorAll<HTMLInputElement>("[placeholder]")) {
      judge(field, getComputedStyle(field, "::placeholder").color, field.placeholder);
    }
    return [...found];
  }, least);
}
