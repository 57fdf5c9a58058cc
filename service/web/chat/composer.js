// Where one signs in, and then writes.

import { byId } from "./dom.js";

const TYPING_EVERY_MS = 3500; // the room is told once in 3 s; a little later is never too early

export class Composer {
  /** `call(method, params)` is a chat command, `refuse(error)` shows why one failed; `sent(nonce)` is told of each message under way. */
  constructor({ identity, hint, call, refuse, sent }) {
    Object.assign(this, { identity, hint, call, refuse, sent });
    this.form = byId("composer");
    this.join = byId("join");
    this.text = byId("text");
    this.typedAt = -Infinity;
    this.failed = { text: "", nonce: "" };
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.join.addEventListener("submit", (event) => this.signIn(event));
    this.text.addEventListener("input", () => this.typing());
    byId("me").addEventListener("click", () => this.ask());
    byId("stay").addEventListener("click", () => this.show());
    this.show();
  }

  /** Who one is, and a field to write; or a field for one's name. */
  show() {
    const { user, name, moderator } = this.identity;
    this.form.hidden = !user;
    this.join.hidden = Boolean(user);
    const me = byId("me");
    me.textContent = name;
    me.title = `You are ${name}${moderator ? ", a moderator" : ""}. Change this`;
    me.setAttribute("aria-label", me.title);
    me.classList.toggle("moderator", moderator);
    byId("name").value = name;
    byId("moderator").checked = moderator;
    byId("stay").hidden = !user;
  }

  ask() {
    this.form.hidden = true;
    this.join.hidden = false;
    byId("name").select();
  }

  async signIn(event) {
    event.preventDefault();
    const name = byId("name").value.trim();
    if (!name) return;
    try {
      await this.identity.signIn(name, byId("moderator").checked);
      this.hint.clear();
      this.text.focus();
    } catch (error) {
      this.refuse(error);
    }
  }

  async submit(event) {
    event.preventDefault();
    const text = this.text.value.trim();
    if (!text) return;
    // What may have been sent is not sent twice: the same words again carry the same nonce.
    const nonce = this.failed.text === text ? this.failed.nonce : newNonce();
    this.failed = { text, nonce };
    this.sent(nonce);
    try {
      await this.call("send", { text, nonce });
    } catch (error) {
      this.refuse(error);
      if (error.code === 111) this.wait(this.hint.until);
      return;
    }
    this.failed = { text: "", nonce: "" };
    this.hint.clear();
    if (this.text.value.trim() === text) this.text.value = "";
    this.typedAt = -Infinity; // a message ends the typing for all who see it
  }

  wait(until) {
    const submit = this.form.querySelector("[type=submit]");
    submit.disabled = true;
    setTimeout(() => { submit.disabled = false; }, until - Date.now());
  }

  typing() {
    this.hint.goOn();
    const now = performance.now();
    if (!this.text.value.trim()) {
      if (now - this.typedAt < TYPING_EVERY_MS) this.call("typing", { typing: false }).catch(() => {});
      this.typedAt = -Infinity;
    } else if (now - this.typedAt >= TYPING_EVERY_MS) {
      this.typedAt = now;
      this.call("typing", {}).catch(() => {}); // what matters is said when something is sent
    }
  }
}

function newNonce() {
  return Array.from(crypto.getRandomValues(new Uint32Array(3)), (word) => word.toString(36)).join("");
}
