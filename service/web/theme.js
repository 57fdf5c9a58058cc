// Light or dark: what the system says, unless the visitor chose.

export function startTheme(onChange) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: light)");
  const stored = localStorage.getItem("theme");
  if (stored === "light" || stored === "dark") root.dataset.theme = stored;
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (system.matches ? "light" : "dark");
    root.dataset.theme = now === "light" ? "dark" : "light";
    localStorage.setItem("theme", root.dataset.theme);
    onChange();
  });
  system.addEventListener("change", onChange);
  onChange();
}

/** The value of a colour or length of the style sheet, in the present theme. */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
