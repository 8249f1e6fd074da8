/** Goes to a part of the page, and takes the keyboard along. */
export function goTo(id: string, { scroll = true } = {}): void {
  if (scroll) document.getElementById(id)?.scrollIntoView({ behavior: "smooth" });
  document.getElementById(`${id}-title`)?.focus({ preventScroll: true });
}
