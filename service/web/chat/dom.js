// Small helpers. Whatever others wrote goes through textContent, never through markup.

const CLOCK = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const EXACT = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const PALETTE = 8;

export const byId = (id) => document.getElementById(id);

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function button(text, onClick, { label = "", className = "" } = {}) {
  const made = element("button", text, className);
  made.type = "button";
  if (label) made.setAttribute("aria-label", label);
  if (label) made.title = label;
  made.addEventListener("click", onClick);
  return made;
}

export const clock = (ms) => CLOCK.format(ms);
export const exactClock = (ms) => EXACT.format(ms);

/** When something was written, in ms by Redis' clock: an offset holds that. */
export const timeOf = (offset) => Math.floor(offset / 4096);

/** The class of somebody's colour. */
export function colourOf(user) {
  let value = 0;
  for (const char of user) value = (value * 31 + char.codePointAt(0)) >>> 0;
  return `c${value % PALETTE}`;
}

/** Names of an array as a sentence has them. */
export function listed(names, most = 2) {
  if (names.length > most + 1) return `${names.slice(0, most).join(", ")} and ${names.length - most} others`;
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** What somebody is called: by the token, the user's id, or what a producer wrote. */
export function nameOf(info, data) {
  const own = info?.conn_info ?? info?.connInfo; // as the wire has it; as the SDK's pushes do
  for (const name of [own?.name, info?.user, data?.user]) {
    if (typeof name === "string" && name) return name;
  }
  return "someone";
}
