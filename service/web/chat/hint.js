// The line above the composer: who is typing, or why something was refused and until when.

import { byId, exactClock, listed } from "./dom.js";

const TYPING_MS = 6000;
const MAX_TYPING_MS = 10_000;
const DAY_MS = 86_400_000;

export class Hint {
  constructor() {
    this.typing = new Map(); // user → { name, timer }
    this.error = byId("chat-error");
    this.until = 0;
  }

  // Typing

  types(user, name, { typing, expires_ms: expires = TYPING_MS }) {
    clearTimeout(this.typing.get(user)?.timer);
    this.typing.delete(user);
    if (typing) {
      const timer = setTimeout(() => this.stopped(user), Math.min(Number(expires) || TYPING_MS, MAX_TYPING_MS));
      this.typing.set(user, { name, timer });
    }
    this.showTyping();
  }

  stopped(user) {
    if (this.typing.has(user)) this.types(user, "", { typing: false });
  }

  showTyping() {
    const names = [...this.typing.values()].map(({ name }) => name);
    byId("typing").textContent = names.length
      ? `${listed(names)} ${names.length === 1 ? "is" : "are"} typing …` : "";
  }

  // Errors

  /** An error of the server, or of the way there. */
  refuse(error) {
    // The SDK drops retry_after; the text has it, too.
    const [, why, seconds] = /^(.*): wait (\d+) s$/.exec(error.message) ?? [];
    const until = Date.now() + seconds * 1000;
    if (seconds) this.show(() => `${why}: wait ${Math.ceil((until - Date.now()) / 1000)} s`, until);
    else this.show(() => `not done: ${error.message}`);
  }

  bar(how, until) {
    const far = until - Date.now() > DAY_MS;
    const at = () => (far ? new Date(until).toLocaleDateString("en") : exactClock(until));
    this.show(() => (until === Infinity ? `you are ${how} for ever` : `you are ${how} until ${at()}`), until);
  }

  tell(text) {
    this.show(() => text, 0, true);
  }

  show(text, until = 0, fine = false) {
    this.clear();
    this.until = until;
    this.error.classList.toggle("fine", fine);
    const update = () => {
      if (until && until <= Date.now()) this.clear();
      else this.error.textContent = this.error.title = text();
    };
    update();
    this.error.hidden = false;
    if (until && until !== Infinity) this.timer = setInterval(update, 250);
  }

  /** The visitor goes on: what has no end of its own is over. */
  goOn() {
    if (!this.until) this.clear();
  }

  clear() {
    clearInterval(this.timer);
    this.until = 0;
    this.error.hidden = true;
  }
}
