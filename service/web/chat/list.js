// The list of messages: in the order of their offsets, at its end unless the visitor looks elsewhere.

import { byId, element } from "./dom.js";

const KEEP = 200;

export class MessageList {
  /** `held` tells whether something is open that must not be scrolled away; `trimmed` gets the first id left. */
  constructor({ held, trimmed }) {
    this.held = held;
    this.trimmed = trimmed;
    this.messages = new Map(); // id → Message
    this.root = byId("messages");
    this.newer = byId("newer");
    this.newer.addEventListener("click", () => this.scrollDown());
    this.following = true;
    let top = 0;
    this.root.addEventListener("scroll", () => {
      if (this.atEnd()) this.newer.hidden = this.following = true;
      else if (this.root.scrollTop < top) this.following = false;
      top = this.root.scrollTop;
    });
    // What else changes in the room takes its height from the list.
    new ResizeObserver(() => this.follow()).observe(this.root);
  }

  get(id) {
    return this.messages.get(id);
  }

  /** Make changes, and stay at the end if that is where the visitor is. */
  keepingEnd(change, { jump = false } = {}) {
    const length = this.messages.size;
    change();
    if (jump) this.following = true;
    if (!this.follow() && this.messages.size > length) this.newer.hidden = this.atEnd();
  }

  /** Go on to the end, unless the visitor has gone elsewhere; whether that was done. */
  follow() {
    if (!this.following || this.held()) return false;
    this.trim();
    this.scrollDown();
    return true;
  }

  /** Make changes above, without moving what is in sight. */
  keepingPlace(change) {
    const anchor = this.root.firstElementChild;
    const before = anchor ? anchor.offsetTop - this.root.scrollTop : 0;
    change();
    if (anchor) this.root.scrollTop = anchor.offsetTop - before;
  }

  add(message) {
    this.messages.set(message.id, message);
    let next = null;
    for (let at = this.root.lastElementChild; at && Number(at.dataset.offset) > message.offset; at = at.previousElementSibling) {
      next = at;
    }
    this.root.insertBefore(message.item, next);
  }

  remove(id) {
    this.messages.get(id)?.remove();
    this.messages.delete(id);
  }

  clear() {
    this.messages.clear();
    this.root.replaceChildren();
    this.newer.hidden = true;
  }

  notice(text) {
    const item = element("li", text, "notice");
    item.dataset.offset = this.root.lastElementChild?.dataset.offset ?? 0;
    this.root.append(item);
  }

  trim() {
    let removed = false;
    while (this.root.childElementCount > KEEP) {
      const first = this.root.firstElementChild;
      this.messages.delete(first.dataset.id);
      first.remove();
      removed = true;
    }
    if (removed) this.trimmed(this.messages.keys().next().value);
  }

  atEnd() {
    return this.root.scrollHeight - this.root.scrollTop - this.root.clientHeight < 40;
  }

  scrollDown() {
    this.following = true;
    this.root.scrollTop = this.root.scrollHeight;
    this.newer.hidden = true;
  }
}
